"""The sections of the page, in order. A new one is a file here and one line below."""

from __future__ import annotations

from collections.abc import Callable

from vivace.report.page import Section
from vivace.report.sections.contrast import contrast
from vivace.report.sections.data import data
from vivace.report.sections.differential import differential
from vivace.report.sections.glance import glance
from vivace.report.sections.integration import integration
from vivace.report.sections.latent import latent
from vivace.report.sections.predictive import predictive
from vivace.report.sections.settings import settings
from vivace.report.sections.spatial import spatial
from vivace.report.sections.splicing import splicing
from vivace.report.sections.training import training
from vivace.runs import Run

SECTIONS: list[Callable[[Run], Section | None]] = [
    glance,
    latent,
    contrast,
    integration,
    spatial,
    splicing,
    training,
    differential,
    predictive,
    data,
    settings,
]
