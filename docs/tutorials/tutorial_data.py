"""The cells of the tutorials: real ones where the folder with data is there, else simulated ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("VIVACE_SHARED_DATA", HERE.parents[2] / "shared" / "data"))


def real_or_simulated(name: str, simulated: Callable[[], Any]) -> Any:
    """Cells of the file ``name``; where it is missing, what ``simulated()`` gives.

    The simulated cells have the columns of the real ones, so that a tutorial runs on either.
    """
    path = FOLDER / name
    if not path.is_file():
        print(f"{name} is not here: these are simulated cells, and the text is about the real ones")
        return simulated()
    if path.suffix == ".h5mu":
        import mudata

        return mudata.read_h5mu(path)
    import anndata

    return anndata.read_h5ad(path)
