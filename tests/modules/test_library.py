"""The prior of a latent library size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vivace.errors import InvalidArgumentError
from vivace.modules.library import MIN_LIBRARY_VARIANCE, library_prior, library_prior_tables


def test_every_cell_has_the_prior_of_its_batch():
    tables = library_prior_tables(np.array([[2.0, 3.0, 4.0]]), np.array([[1.0, 4.0, 0.0]]))
    prior = library_prior(*tables, torch.tensor([[1], [0], [2], [1]]))
    assert prior.loc.flatten().tolist() == [3, 2, 4, 3]
    wanted = torch.tensor([4, 1, MIN_LIBRARY_VARIANCE, 4]).sqrt()
    torch.testing.assert_close(prior.scale.flatten(), wanted)


def test_one_batch_is_that_of_all_cells_whatever_they_say():
    tables = library_prior_tables(np.array([[2.0]]), np.array([[1.0]]))
    assert library_prior(*tables, torch.tensor([[3], [0]])).loc.tolist() == [[2], [2]]


@pytest.mark.parametrize("given", [(None, None), (np.ones((1, 1)), None), (None, np.ones((1, 1)))])
def test_a_latent_library_needs_its_prior(given: tuple):
    with pytest.raises(InvalidArgumentError, match="library_log_means and library_log_vars"):
        library_prior_tables(*given)
