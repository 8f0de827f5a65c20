"""Words everybody uses: the keys of a minibatch and the alphabet of shapes.

Shapes in every docstring use the same letters: N cells, B cells of a minibatch, G genes, J junctions,
A splicing events, L latent dimensions, S Monte-Carlo samples, C labels, K mixture components.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import torch

Minibatch: TypeAlias = dict[str, torch.Tensor]
"""One minibatch: the keys below to tensors whose first axis is B."""

Minibatches: TypeAlias = Iterable[Any]
"""Minibatches in turn; those of several streams at once are a dictionary of them, name to Minibatch."""


class Keys:
    """Keys of a minibatch (dtype and shape in the comment)."""

    X = "X"  # (B, G) float32, counts, torch.sparse_csr or dense
    BATCH = "batch"  # (B, 1) int64
    LABELS = "labels"  # (B, 1) int64
    FINE_LABELS = "fine_labels"  # (B, 1) int64
    SIZE_FACTOR = "size_factor"  # (B, 1) float32, > 0
    CONT_COVS = "extra_continuous_covs"  # (B, n_cont) float32
    CAT_COVS = "extra_categorical_covs"  # (B, n_cat) int64
    CELL_INDEX = "ind_x"  # (B, 1) int64, row of the cell in the data set
    X_SMOOTHED = "x_smoothed"  # (B, G) float32
    BATCH_WEIGHTS = "batch_weights"  # (B, 1) float32
    LATENT_MEAN = "latent_qzm"  # (B, L) float32, minified data
    LATENT_VAR = "latent_qzv"  # (B, L) float32, minified data
    JUNCTIONS = "junc_counts_key"  # (B, J) float32, reads of junctions, torch.sparse_csr or dense
    EVENT_TOTALS = "atse_counts_key"  # (B, J) float32, reads of each junction's event
    RATIOS = "junc_ratio"  # (B, J) float32 in [0, 1], usage of junctions where counts are not known
    PSI_MASK = "psi_observed_mask"  # (B, J), whether the junction's event is observed
    EVENT_IDS = "event_id"  # in schemas: names of the junctions' events
    OBSERVED_LIBRARY = "observed_lib_size"  # (B, 1) float32, minified data
