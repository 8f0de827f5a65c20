"""Simulated spots and their single-cell reference: proportions and within-type states known."""

from __future__ import annotations

from dataclasses import dataclass

import anndata
import numpy as np
import pandas as pd

from vivace.datasets._cells import (
    Array,
    assemble,
    check_at_least,
    check_positive,
    codes_to_categories,
    libraries,
    make_genes,
    names,
    sample_counts,
)


def simulate_spatial(
    *,
    n_cells: int = 2000,
    n_genes: int = 1000,
    seed: int = 0,
    n_types: int = 6,
    n_spots: int = 500,
    cells_per_spot: int = 8,
    technology_effect: float = 0.3,
    library_median: float = 1000.0,
    spot_library_median: float = 4000.0,
) -> tuple[anndata.AnnData, anndata.AnnData]:
    """Reference cells, and spots that each hold several cells of a tissue with regions.

    Every type has a profile and one continuous state (a gradient from -2 to 2) that moves a third
    of the genes, other genes for every type. Over the tissue (unit square) each type has smooth
    hot spots and its state follows a smooth gradient. A spot draws ``cells_per_spot`` cells from
    its local densities; its profile is the average of their profiles, times a technology effect
    per gene.

    Parameters
    ----------
    n_cells, n_genes, n_types, n_spots, cells_per_spot
        Sizes: reference cells, genes G, types C, spots S, cells in every spot.
    seed
        Seed of all draws.
    technology_effect
        Standard deviation of the log factor of a gene between reference and spots; 0 for none.
    library_median, spot_library_median
        Median of the expected total counts of a reference cell and of a spot.

    Returns
    -------
    reference
        AnnData with raw counts in ``X``; ``obs``: ``cell_type``, ``state``, ``library``;
        ``var["theta"]``; ``varm["log_expression"]``: (G, C) log expression of a type at state 0;
        ``varm["state_loadings"]``: (G, C) its change per unit of state. The true normalised
        expression of a type at a state is :func:`expression_at`.
    spots
        AnnData with raw counts in ``X``; ``obsm["spatial"]``: (S, 2); ``obsm["proportions"]`` and
        ``obsm["state"]``: DataFrames (S, C), rows of the former sum to 1; ``obs["library"]``;
        ``var["technology_effect"]``: log factor per gene. Both have the same genes.

    Raises
    ------
    InvalidArgumentError
        A size is not a positive whole number, or a median is not positive.

    Examples
    --------
    >>> reference, spots = simulate_spatial(n_cells=40, n_genes=20, n_spots=10)
    >>> reference.shape, spots.obsm["proportions"].shape
    ((40, 20), (10, 6))
    """
    check_at_least(1, n_cells=n_cells, n_genes=n_genes, n_types=n_types, n_spots=n_spots)
    check_at_least(1, cells_per_spot=cells_per_spot)
    check_positive(library_median=library_median, spot_library_median=spot_library_median)
    rng = np.random.default_rng(seed)
    genes = make_genes(rng, n_genes, n_types, fraction=0.6)
    centres = rng.normal(0.0, 1.5, (n_types, n_types))
    profiles = TypeProfiles(
        log_expression=(genes.log_base + centres @ genes.loadings).astype(np.float32),
        state_loadings=_state_loadings(rng, n_types, n_genes),
    )
    reference = _reference(rng, profiles, genes.theta, n_cells, library_median)
    shift = (technology_effect * rng.normal(size=n_genes)).astype(np.float32)
    spots = _spots(rng, profiles, shift, genes.theta, n_spots, cells_per_spot, spot_library_median)
    return reference, spots


@dataclass(frozen=True)
class TypeProfiles:
    """Log expression of each type at state 0 (C, G) and its change per unit of state (C, G)."""

    log_expression: Array
    state_loadings: Array

    def at(self, codes: Array, state: Array) -> Array:
        """(B, G) normalised expression of cells of type ``codes`` (B,) at ``state`` (B,)."""
        log = self.log_expression[codes] + state[:, None] * self.state_loadings[codes]
        e = np.exp(log - log.max(axis=1, keepdims=True))
        return np.asarray((e / e.sum(axis=1, keepdims=True)).astype(np.float32))


def expression_at(reference: anndata.AnnData, cell_type: str, state: Array) -> Array:
    """Give the true normalised expression of a type at given states.

    Parameters
    ----------
    reference
        First output of ``simulate("spatial")``.
    cell_type
        Name of the type.
    state
        (B,) states, for example ``spots.obsm["state"][cell_type]``.

    Returns
    -------
    (B, G) float32, rows sum to 1, as the reference technology sees it.

    Examples
    --------
    >>> reference, spots = simulate_spatial(n_cells=40, n_genes=20, n_spots=10)
    >>> expression_at(reference, "type_0", spots.obsm["state"]["type_0"]).shape
    (10, 20)
    """
    columns = [reference.varm[key][[cell_type]].to_numpy().T for key in _VARM]
    state = np.asarray(state, np.float32)
    return TypeProfiles(*columns).at(np.zeros(len(state), int), state)


_VARM = ("log_expression", "state_loadings")


def _state_loadings(rng: np.random.Generator, n_types: int, n_genes: int) -> Array:
    chosen = rng.random((n_types, n_genes)) < 0.3
    return np.where(chosen, rng.normal(0.0, 0.5, chosen.shape), 0.0).astype(np.float32)


def _reference(
    rng: np.random.Generator, profiles: TypeProfiles, theta: Array, n_cells: int, median: float
) -> anndata.AnnData:
    n_types = len(profiles.log_expression)
    types = names("type", n_types)
    labels = rng.permutation(np.arange(n_cells) % n_types)
    state = rng.uniform(-2.0, 2.0, n_cells).astype(np.float32)
    library = libraries(rng, n_cells, median, 0.35)
    x = sample_counts(rng, library, lambda rows: profiles.at(labels[rows], state[rows]), theta)
    obs = {
        "cell_type": codes_to_categories(labels, types),
        "state": state,
        "library": library,
    }
    adata = assemble(x, obs, {"theta": theta})
    for key in _VARM:
        adata.varm[key] = pd.DataFrame(
            getattr(profiles, key).T, index=adata.var_names, columns=list(types)
        )
    return adata


def _spots(
    rng: np.random.Generator,
    profiles: TypeProfiles,
    shift: Array,
    theta: Array,
    n_spots: int,
    cells_per_spot: int,
    median: float,
) -> anndata.AnnData:
    n_types = len(profiles.log_expression)
    where = rng.random((n_spots, 2))
    density = _densities(rng, where, n_types)
    proportions = rng.multinomial(cells_per_spot, density) / cells_per_spot
    state = _smooth_states(rng, where, n_types)
    library = libraries(rng, n_spots, median, 0.4)

    def profile(rows: slice) -> Array:
        mix = np.zeros((len(state[rows]), len(theta)), np.float32)
        for k in range(n_types):
            one = profiles.at(np.full(len(mix), k), state[rows, k])
            mix += proportions[rows, k, None].astype(np.float32) * one
        seen = mix * np.exp(shift)
        return np.asarray(seen / seen.sum(axis=1, keepdims=True))

    x = sample_counts(rng, library, profile, theta)
    spots = assemble(x, {"library": library}, {"technology_effect": shift})
    spots.obs_names = pd.Index(names("spot", n_spots))
    spots.obsm["spatial"] = where
    columns = list(names("type", n_types))
    for key, value in {"proportions": proportions, "state": state}.items():
        spots.obsm[key] = pd.DataFrame(value, index=spots.obs_names, columns=columns)
    return spots


def _densities(rng: np.random.Generator, where: Array, n_types: int) -> Array:
    """(S, C) local composition: two Gaussian hot spots a type over a low, even background."""
    hot = rng.random((n_types, 2, 2))
    distance = np.linalg.norm(where[:, None, None] - hot, axis=-1)  # (S, C, 2)
    density = np.exp(-0.5 * (distance / 0.15) ** 2).sum(axis=2) + 0.02
    return np.asarray(density / density.sum(axis=1, keepdims=True))


def _smooth_states(rng: np.random.Generator, where: Array, n_types: int) -> Array:
    """(S, C) state of each type, a wave over the tissue between -2 and 2."""
    direction = rng.normal(size=(2, n_types))
    phase = rng.uniform(0, 2 * np.pi, n_types)
    return (2 * np.sin(3 * where @ direction + phase)).astype(np.float32)
