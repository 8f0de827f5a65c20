"""What a classifier of partly labelled cells adds to a loss."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from vivace._ranks import sum_of_parts


def classification_terms(logits: torch.Tensor, codes: torch.Tensor, ratio: float) -> dict[str, Any]:
    """Cross entropy of the labelled cells, as fields of :class:`~vivace.modules.LossOutput`.

    Parameters
    ----------
    logits
        (B, C) of the labels.
    codes
        (B, 1) label codes; those at or above C mean "unlabelled".
    ratio
        Weight of the cross entropy, >= 0.

    Returns
    -------
    dict with ``classification_loss``, 0-d: ratio times the mean over the labelled cells, in nats, 0 if
    there is none; ``logits`` and ``true_labels`` (B, 1).
    """
    truth = codes.flatten().long()
    known = truth < logits.shape[-1]
    cross_entropy = F.cross_entropy(logits[known], truth[known], reduction="sum")
    n_known = sum_of_parts(known.sum()).clamp(min=1)
    return {
        "classification_loss": ratio * sum_of_parts(cross_entropy) / n_known,
        "logits": logits,
        "true_labels": truth.unsqueeze(-1),
    }
