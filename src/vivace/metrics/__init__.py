"""Measures of a latent space and of predictions, in numpy, scipy and scikit-learn."""

from vivace.metrics.clusters import ari, nmi, nmi_ari
from vivace.metrics.depth import depth_transfer, thin_to_depth, within_type_agreement
from vivace.metrics.imputation import hide_events, imputation_scores, psi_imputation
from vivace.metrics.mixing import clisi, ilisi, lisi
from vivace.metrics.separation import silhouette
from vivace.metrics.transfer import (
    carry_labels,
    knn_accuracy,
    knn_balanced_accuracy,
    label_transfer,
    predict_labels,
)

__all__ = [
    "ari",
    "carry_labels",
    "clisi",
    "depth_transfer",
    "hide_events",
    "ilisi",
    "imputation_scores",
    "knn_accuracy",
    "knn_balanced_accuracy",
    "label_transfer",
    "lisi",
    "nmi",
    "nmi_ari",
    "predict_labels",
    "psi_imputation",
    "silhouette",
    "thin_to_depth",
    "within_type_agreement",
]
