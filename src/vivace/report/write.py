"""Write the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vivace._files import replacing
from vivace.errors import require
from vivace.report.sections import SECTIONS
from vivace.runs import Run
from vivace.runs.layout import PAGE

HERE = Path(__file__).parent
PARTS = (
    *("pack.js", "colour.js", "space.js", "paint.js", "saving.js", "map.js", "explorer.js"),
    *("rows.js", "page.js"),
)
Progress = Callable[[float, str], None]
"""Is told the share of the work that is done, and the name of the section that comes next."""


def quiet(_done: float, _section: str) -> None:
    """Tell nobody."""


def write_report(
    run: str | Path, out: str | Path | None = None, *, progress: Progress = quiet
) -> Path:
    """Write one self-contained HTML page about a run folder.

    The page needs no network and no other file: fonts are those of the reader's system, pictures are
    drawn inside the page and take light or dark colours from the reader's settings. Maps can be touched
    and tables searched where scripts run; without, the page shows pictures. It is written
    beside ``out`` and renamed, so that a write that is cut short leaves an earlier page as it was.

    Parameters
    ----------
    run
        Run folder: a saved model with the tables of ``vivace.tables.write_tables``.
    out
        File to write; ``report.html`` in the run folder when not given.
    progress
        Called before each section with the share of sections that are made, and its name.

    Returns
    -------
    Path of the page.

    Raises
    ------
    ModelFileError
        ``run`` is not a run folder, or one of its files is damaged.
    MissingDependencyError
        The extra ``vivace[report]`` is not installed.

    Examples
    --------
    >>> write_report("run/")  # doctest: +SKIP
    PosixPath('run/report.html')
    """
    folder = Run(run)
    target = folder.folder / PAGE if out is None else Path(out)
    page = render(folder, progress)
    with replacing(target) as beside:
        beside.write_text(page, encoding="utf-8")
    return target


def render(run: Run, progress: Progress = quiet) -> str:
    """HTML of the page."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise require("jinja2", "report") from error
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = []
    for made, make in enumerate(SECTIONS):
        progress(made / len(SECTIONS), make.__name__)
        if (section := make(run)) is not None:
            sections.append(section)
    style = (HERE / "page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        sections=sections, style=style, script=script(), is_short=is_short, **heading(run)
    )


def script() -> str:
    """The page's own program, its files in an order in which each knows those before it."""
    text = "\n".join((HERE / "live" / name).read_text(encoding="utf-8") for name in PARTS)
    return f'(() => {{\n"use strict";\n{text}}})();'


def is_short(text: str) -> bool:
    """Whether a cell of a table is a number or a word that a line break would spoil."""
    return len(text) <= 14


def heading(run: Run) -> dict[str, Any]:
    """Words at the top and bottom of the page."""
    summary = run.summary
    return {
        "model": run.model.get("model", "model"),
        "source": summary.get("source") or "cells in memory",
        "created": summary.get("created", ""),
        "version": summary.get("versions", {}).get("vivace", ""),
    }
