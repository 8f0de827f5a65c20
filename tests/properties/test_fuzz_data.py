"""Data and arguments at random, for every model."""

from __future__ import annotations

from fuzz_data import run


def test_every_input_ends_in_the_right_answer_or_in_a_sentence():
    counts = run(140)
    assert set(counts) == {"right", "refused"}, counts
    assert counts["right"] > 20  # not nearly all were refused
