"""How to get the same again: settings, versions, and lines to copy."""

from __future__ import annotations

from typing import Any

from vivace.report.page import Code, Section, Table
from vivace.report.words import plain
from vivace.runs import Run

TITLES = {"data": "Data", "model": "Model", "training": "Training"}


def settings(run: Run) -> Section:
    """Settings, versions and code."""
    summary = run.summary
    tables = [
        rows(TITLES.get(name, name.capitalize()), "Setting", values)
        for name, values in summary.get("settings", {}).items()
        if values
    ]
    tables.append(rows("Versions", "Package", summary.get("versions", {})))
    folder = run.folder.name or "run"
    code = f'import vivace\n\nmodel = vivace.load("{folder}/", adata)\nmodel.get_latent_representation()'
    shell = f"vivace latent {folder}/ cells.h5ad --out cells_with_latent.h5ad"
    return Section(
        "settings",
        "Settings and versions",
        "Everything needed to repeat this run, or to go on from it.",
        [*tables, Code("Go on in Python", code), Code("Go on in the shell", shell)],
    )


def rows(caption: str, name: str, values: dict[str, Any]) -> Table:
    """Two columns: name and value."""
    return Table(caption, [name, "Value"], [[str(k), plain(v)] for k, v in values.items()])
