"""Do the types of a run on real spots lie where biology has them? Reads a run of vivace deconvolve.

    vivace deconvolve ../shared/data/lymphnode_sc_reference.h5ad ../shared/data/lymphnode_visium.h5ad \
--labels cell_type --out run/ --seed 0
    python benchmarks/destvi_tissue.py run/ ../shared/data/lymphnode_visium.h5ad

Printed: for every type its mean share, its correlation with the mean of the six nearest spots, and with
its markers; the correlation of the B-cell, T-cell and germinal-centre programmes over spots. The
reference has no germinal-centre type, so that programme is a state of its B cells: the decoded
expression, in a spot's B cells, of genes of dividing germinal-centre B cells.
"""

from __future__ import annotations

import sys

import anndata
import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

import vivace
from vivace.tables.spots import marker_table

GERMINAL_CENTRE = [
    "AICDA",
    "BCL6",
    "RGS13",
    "LMO2",
    "MKI67",
    "TOP2A",
    "HELLS",
    "CDCA7",
    "RMI2",
    "PTTG1",
    "UBE2C",
    "STMN1",
    "TYMS",
    "MYBL1",
    "SUGCT",
    "BCL7A",
    "MEF2B",
    "ELL3",
    "NEIL1",
    "HMGB2",
    "CCNB1",
    "CDC20",
    "PCNA",
]


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson."""
    return float(np.corrcoef(a, b)[0, 1])


def main() -> None:
    """Print the tables."""
    spots = anndata.read_h5ad(sys.argv[2])
    model = vivace.load(sys.argv[1], spots)
    shares = model.get_proportions()
    near = cKDTree(spots.obsm["spatial"]).query(spots.obsm["spatial"], 7)[1][:, 1:]
    markers = marker_table(model, shares).groupby("type")["together"].first()
    of_types = {
        name: {
            "mean share": values.mean(),
            "with its neighbours": correlation(values, values.to_numpy()[near].mean(1)),
            "with its markers": markers[name],
        }
        for name, values in shares.items()
    }
    print(pd.DataFrame(of_types).T.round(2).to_string())
    genes = [g for g in GERMINAL_CENTRE if g in model.var_names]
    in_b = np.log(model.get_scale_for_ct("B")[genes])
    centre = ((in_b - in_b.mean()) / in_b.std()).mean(axis=1).to_numpy()
    t_cells = shares["T_CD4"] + shares["T_CD8"]
    programmes = pd.DataFrame(
        {"B cells": shares["B"], "T cells": t_cells, "germinal centre": centre}
    )
    print(f"germinal-centre genes: {' '.join(genes)}")
    print(programmes.corr().round(2).to_string())
    print(f"germinal centre with its neighbours: {correlation(centre, centre[near].mean(1)):.2f}")


if __name__ == "__main__":
    main()
