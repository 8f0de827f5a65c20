"""Positions before integration and what a summary counts, against plain formulas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from vivace.analysis.integration import principal_components, summary
from vivace.metrics import lisi


def test_principal_components_are_the_scores_of_centred_values():
    x = np.random.default_rng(0).normal(3.0, [1, 5, 2, 4], (40, 4))
    batches = [{"X": torch.from_numpy(part)} for part in (x[:25], x[25:])]
    found = principal_components(batches, 3)
    left, size, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    wanted = (left * size)[:, :3]
    sign = np.sign((found * wanted).sum(0))
    np.testing.assert_allclose(found, wanted * sign, rtol=1e-4, atol=1e-4)
    assert principal_components(batches, 30).shape == (40, 4)


def test_cells_of_no_known_kind_are_left_out_and_few_cells_are_no_row():
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 120, 2))
    system = pd.Series(rng.choice(["s", "t"], 120))
    kinds = pd.Series(["a"] * 60 + ["b"] * 40 + ["c"] * 4 + [None] * 16)
    table = summary(before, after, system, kinds)
    assert table["n_cells"].to_dict() == {"all cells": 104, "a": 60, "b": 40}
    known = kinds.notna().to_numpy()
    wanted = lisi(after[known], system[known])
    np.testing.assert_allclose(table.loc["all cells", "systems_after"], wanted.mean())
    in_a = (kinds[known] == "a").to_numpy()
    np.testing.assert_allclose(table.loc["a", "systems_after"], wanted[in_a].mean())
    of_kinds = lisi(before[known], kinds[known])
    np.testing.assert_allclose(table.loc["b", "kinds_before"], of_kinds[60:100].mean())
    assert summary(before, after, system).loc["all cells", "n_cells"] == 120
