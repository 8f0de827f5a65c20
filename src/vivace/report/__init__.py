"""One self-contained HTML page about a run folder: data, training, latent map, checks, settings.

The page is made from the tables of the run folder alone: no model is loaded and torch is not imported.
A section is one function ``section(run) -> Section | None`` in :mod:`vivace.report.sections`; it is shown
when the table it describes is there.
"""

from vivace.report.write import write_report

__all__ = ["write_report"]
