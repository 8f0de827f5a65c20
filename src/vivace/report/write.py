"""Write the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vivace._files import replacing
from vivace.errors import require
from vivace.report.sections import SECTIONS
from vivace.runs import Run
from vivace.runs.layout import PAGE

HERE = Path(__file__).parent


def write_report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write one self-contained HTML page about a run folder.

    The page needs no network and no other file: fonts are those of the reader's system, pictures are
    drawn inside the page and take light or dark colours from the reader's settings. It is written
    beside ``out`` and renamed, so that a write that is cut short leaves an earlier page as it was.

    Parameters
    ----------
    run
        Run folder: a saved model with the tables of ``vivace.tables.write_tables``.
    out
        File to write; ``report.html`` in the run folder when not given.

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
    page = render(folder)
    with replacing(target) as beside:
        beside.write_text(page, encoding="utf-8")
    return target


def render(run: Run) -> str:
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
    sections = [section for make in SECTIONS if (section := make(run)) is not None]
    style = (HERE / "page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        sections=sections, style=style, **heading(run)
    )


def heading(run: Run) -> dict[str, Any]:
    """Words at the top and bottom of the page."""
    summary = run.summary
    return {
        "model": run.model.get("model", "model"),
        "source": summary.get("source") or "cells in memory",
        "created": summary.get("created", ""),
        "version": summary.get("versions", {}).get("vivace", ""),
    }
