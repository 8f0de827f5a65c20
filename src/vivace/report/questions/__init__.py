"""What a model is for, asked of a run: each question is a function here, and a line in the list.

A question is asked where the tables it needs are there; most models have one or two of them.
"""

from __future__ import annotations

from collections.abc import Callable

from vivace.report.page import Check
from vivace.report.questions.cells import batches, kinds
from vivace.report.questions.contrast import conditions
from vivace.report.questions.depth import depth
from vivace.report.questions.splicing import hidden_events, usage
from vivace.report.questions.spots import spots
from vivace.report.questions.states import states
from vivace.report.questions.systems import systems
from vivace.runs import Run

QUESTIONS: list[Callable[[Run], list[Check]]] = [
    spots,
    systems,
    conditions,
    hidden_events,
    usage,
    states,
    depth,
    batches,
    kinds,
]


def answers(run: Run) -> list[Check]:
    """The model's own questions, answered from the tables of a run."""
    return [check for ask in QUESTIONS for check in ask(run)]
