"""JointEmbeddingSCVI: embeddings that survive low sequencing depth."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from vivace.models.scvi import SCVI
from vivace.modules.counts import OF_COUNTS
from vivace.modules.depth import SCALING
from vivace.modules.joint_embedding import JointEmbeddingVAE

PASSES = 100
"""Passes over up to 5,000 cells; over more cells fewer, in proportion, but at least four."""
STEPS = 400
"""Steps that even the smallest data set gets."""


def joint_epochs(n_cells: int, batch_size: int) -> int:
    """Epochs of the fast recipe: what the second view teaches comes late in training.

    Examples
    --------
    >>> [joint_epochs(n_cells, 128) for n_cells in (300, 3000, 20_000, 10**6)]
    [134, 100, 25, 4]
    """
    passes = max(4, min(PASSES, math.ceil(PASSES * 5000 / n_cells)))
    return max(passes, math.ceil(STEPS / math.ceil(n_cells / batch_size)))


FAST: dict[str, Any] = {
    "batch_size": 128,
    "lr": 2e-2,
    "max_epochs": joint_epochs,
    "min_kl_weight": 0.0,
    "kl_warmup_fraction": 1.0,
    "keep_best": False,
}
"""The fast recipe, found by label transfer from deep to shallow cells (docs/models/joint_embedding.md). A
correlation needs larger minibatches than SCVI's, and the KL weight rises to 1 over the whole run. A peak
of 2e-2 brings depths together that 1e-2 keeps apart, for two nats of a bound that is not the aim here.
The held-out ELBO does not know of the second view: it does not choose the epoch to end with."""


class JointEmbeddingSCVI(SCVI):
    """SCVI whose embedding of a cell hardly depends on how deeply the cell was sequenced.

    Cells with few counts drift towards one point of SCVI's latent space. Here every cell is seen
    twice in training, as it is and thinned to fewer counts, and both views must embed alike
    (:class:`vivace.modules.JointEmbeddingVAE`). Setup and questions are those of :class:`SCVI`.

    Parameters
    ----------
    adata
        AnnData that :meth:`setup_anndata` was called on.
    joint_embedding_weight
        Weight of the term that ties the two views.
    lambda_off_diag
        Weight of its redundancy part.
    min_library_size
        Cells are thinned to a total between this and their own.
    reconstruction_weight
        Weight of the reconstruction error.
    variance_weight
        Weight of a term that keeps latent dimensions spread.
    use_joint_embedding
        False gives SCVI, to the bit.
    n_hidden, n_latent, n_layers, dropout_rate, dispersion, gene_likelihood, \
use_observed_lib_size, latent_distribution, encoder_depth_scaling
        As in :class:`SCVI`, but the likelihood must be of counts, which can be thinned.
    **module_kwargs
        Further options of :class:`vivace.modules.JointEmbeddingVAE`.

    Raises
    ------
    MissingKeyError
        If the data were not set up.
    InvalidArgumentError
        If an option is not known, or does not fit the data.

    Examples
    --------
    >>> import vivace
    >>> adata = vivace.datasets.simulate("depth", n_cells=200, n_genes=50)
    >>> vivace.JointEmbeddingSCVI.setup_anndata(adata)
    >>> model = vivace.JointEmbeddingSCVI(adata, n_latent=5)
    >>> model.train(max_epochs=2, progress=False)
    >>> model.get_latent_representation().shape
    (200, 5)
    """

    module: JointEmbeddingVAE
    module_class = JointEmbeddingVAE
    likelihoods = OF_COUNTS
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"fast": FAST}

    def __init__(
        self,
        adata: Any,
        joint_embedding_weight: float = 100.0,
        lambda_off_diag: float = 0.01,
        min_library_size: float = 10.0,
        reconstruction_weight: float = 1.0,
        variance_weight: float = 0.0,
        use_joint_embedding: bool = True,
        n_hidden: int = 128,
        n_latent: int = 10,
        n_layers: int = 1,
        dropout_rate: float = 0.1,
        dispersion: str = "gene",
        gene_likelihood: str = "zinb",
        use_observed_lib_size: bool = True,
        latent_distribution: str = "normal",
        encoder_depth_scaling: float = SCALING,
        **module_kwargs,
    ):
        super().__init__(
            adata,
            joint_embedding_weight=joint_embedding_weight,
            lambda_off_diag=lambda_off_diag,
            min_library_size=min_library_size,
            reconstruction_weight=reconstruction_weight,
            variance_weight=variance_weight,
            use_joint_embedding=use_joint_embedding,
            n_hidden=n_hidden,
            n_latent=n_latent,
            n_layers=n_layers,
            dropout_rate=dropout_rate,
            dispersion=dispersion,
            gene_likelihood=gene_likelihood,
            use_observed_lib_size=use_observed_lib_size,
            latent_distribution=latent_distribution,
            encoder_depth_scaling=encoder_depth_scaling,
            **module_kwargs,
        )

    def _recipes(self) -> dict[str, dict[str, Any]]:
        """The same with and without batches, unlike SCVI's."""
        return self.recipes if self.options["use_joint_embedding"] else super()._recipes()
