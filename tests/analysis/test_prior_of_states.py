"""The mixture that is the prior of a type's states, against the cells it is made of."""

from __future__ import annotations

import numpy as np
import pytest

from vivace.analysis.deconvolution import vamp_prior
from vivace.errors import InvalidArgumentError

CODES = np.array([0, 2, 0, 0, 2, 0, 0])
CLUSTERS = np.array(["x", "x", "y", "y", "z", "x", "y"])
MEANS = np.random.default_rng(0).normal(size=(7, 2))
VARIANCES = np.random.default_rng(1).uniform(0.1, 2.0, (7, 2))


def test_a_component_has_the_moments_of_a_draw_from_one_of_its_cells():
    """Mean of the means; mean of the variances and variance of the means; its share of the type."""
    prior = vamp_prior(MEANS, VARIANCES, CODES, 3, p=2, clusters=CLUSTERS)
    for code, parts in ((0, ([0, 5], [2, 3, 6])), (2, ([1], [4]))):
        of_type = (code == CODES).sum()
        for k, members in enumerate(parts):
            spread = MEANS[members].var(0)
            np.testing.assert_allclose(
                prior["mean_vprior"][code, k], MEANS[members].mean(0), rtol=1e-6
            )
            wanted = VARIANCES[members].mean(0) + spread
            np.testing.assert_allclose(prior["var_vprior"][code, k], wanted, rtol=1e-6)
            assert prior["weights_vprior"][code, k] == pytest.approx(len(members) / of_type)
    assert (prior["weights_vprior"][1] == 0).all()


def test_without_a_number_every_cell_is_a_component():
    prior = vamp_prior(MEANS, VARIANCES, CODES, 3, p=None)
    assert prior["mean_vprior"].shape == (3, 5, 2)
    np.testing.assert_allclose(prior["mean_vprior"][0], MEANS[CODES == 0], rtol=1e-6)
    np.testing.assert_allclose(prior["weights_vprior"].sum(1), [1, 0, 1], rtol=1e-6)


def test_more_clusters_than_components_are_refused():
    with pytest.raises(InvalidArgumentError, match="2 clusters, more than p=1"):
        vamp_prior(MEANS, VARIANCES, CODES, 3, p=1, clusters=CLUSTERS)
