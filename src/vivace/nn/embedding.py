"""A table of category vectors that can grow when a query brings new categories."""

from __future__ import annotations

import torch
from torch import nn


class Embedding(nn.Embedding):
    """:class:`torch.nn.Embedding` with default width 5 and rows that can be added.

    Examples
    --------
    >>> larger = Embedding.extend(Embedding(2, 3), 1)
    >>> larger.weight.shape
    torch.Size([3, 3])
    """

    def __init__(self, num_embeddings: int, embedding_dim: int = 5, **kwargs):
        super().__init__(num_embeddings, embedding_dim, **kwargs)

    @classmethod
    def extend(
        cls, embedding: nn.Embedding, init: int | list[int], freeze_prev: bool = True
    ) -> Embedding:
        """A copy with rows appended.

        Parameters
        ----------
        embedding
            The table to copy.
        init
            Number of new rows drawn from N(0, 1), or the rows to copy.
        freeze_prev
            Give the old rows no gradient.
        """
        old = embedding.weight.detach()
        new = old[init] if isinstance(init, list) else torch.randn(init, old.shape[1])
        extended = cls(len(old) + len(new), old.shape[1])
        with torch.no_grad():
            extended.weight.copy_(torch.cat([old, new.to(old)]))
        if freeze_prev:
            mask = (torch.arange(len(extended.weight)) >= len(old)).unsqueeze(1)
            extended.weight.register_hook(lambda grad: grad * mask.to(grad))
        return extended
