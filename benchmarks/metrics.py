"""How long do the measures take on 20,000 cells and 10 dimensions?"""

from __future__ import annotations

import argparse
import time

import numpy as np

from vivace import metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=20_000)
    n = parser.parse_args().cells
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=n)
    latent = rng.normal(size=(n, 10)) + 2 * rng.normal(size=(10, 10))[labels]
    measures = {
        "silhouette": lambda: metrics.silhouette(latent, labels),
        "ilisi": lambda: metrics.ilisi(latent, labels),
        "knn_balanced_accuracy": lambda: metrics.knn_balanced_accuracy(latent, labels),
        "nmi_ari": lambda: metrics.nmi_ari(latent, labels),
    }
    for name, measure in measures.items():
        start = time.perf_counter()
        value = measure()
        print(f"{name:24s} {time.perf_counter() - start:6.2f} s   {value}")


if __name__ == "__main__":
    main()
