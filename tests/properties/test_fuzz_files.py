"""A few of the mutated files of ``fuzz_files.py`` in every run of the tests."""

from __future__ import annotations

from fuzz_files import RIGHT, run


def test_mutated_pickles_and_folders_are_loaded_or_refused_and_nothing_is_executed():
    counts = run(250)
    assert set(counts) == set(RIGHT), counts
    assert sum(counts.values()) == 250
    assert min(counts.values()) > 20, counts
