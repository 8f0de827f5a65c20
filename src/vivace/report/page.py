"""What a page is made of: sections of cards, checks, figures and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Cards:
    """Headline figures: (value, what it is) pairs."""

    kind: ClassVar[str] = "cards"
    items: list[tuple[str, str]]


@dataclass(frozen=True)
class Check:
    """One question about the run and its answer.

    Attributes
    ----------
    good
        Whether the answer is what one hopes for.
    title, text
        The answer in a few words, and the figures behind it.
    advice
        What to do about it; nothing where nothing is to be done.
    grave
        Whether what the model is for was missed, so that its results should not be read on.
    """

    good: bool
    title: str
    text: str
    advice: str = ""
    grave: bool = False

    @property
    def level(self) -> str:
        """Name of the look: "good", "look" or "bad"."""
        return "good" if self.good else "bad" if self.grave else "look"


@dataclass(frozen=True)
class Checks:
    """A list of checks, under a heading if it has one."""

    kind: ClassVar[str] = "checks"
    items: list[Check]
    title: str = ""


@dataclass(frozen=True)
class Key:
    """One entry of a legend.

    Attributes
    ----------
    label, colour
        What is shown, and its CSS colour.
    path
        Outline of the symbol in a 10 x 10 box (SVG path data).
    note
        Small print after the label, such as a number of cells.
    """

    label: str
    colour: str
    path: str
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture with its words.

    Attributes
    ----------
    title, svg
        Heading, and the drawing as inline SVG.
    alt
        What the picture shows, for those who cannot see it.
    text, good
        How to read it; what good looks like.
    legend
        Entries of the legend, drawn in HTML so that they wrap on a small screen.
    ramp
        (lowest, highest) value of a continuous colour scale, as text.
    still
        Whether an :class:`Explorer` of the section shows the same where scripts run.
    """

    kind: ClassVar[str] = "figure"
    title: str
    svg: str
    alt: str
    text: str
    good: str = ""
    legend: list[Key] = field(default_factory=list)
    ramp: tuple[str, str] | None = None
    still: bool = False


@dataclass(frozen=True)
class Explorer:
    """Two maps that can be touched; with a script alone, and in place of the pictures of its section.

    Attributes
    ----------
    data
        What the script draws, JSON of :mod:`vivace.report.explore`.
    columns
        Names that the map can be coloured by.
    n_genes
        How many genes it can be coloured by.
    """

    kind: ClassVar[str] = "explorer"
    data: str
    columns: list[str]
    n_genes: int


@dataclass(frozen=True)
class Rows:
    """Rows of a table of the run that can be searched, sorted and saved; with a script alone.

    Attributes
    ----------
    caption, text
        What the table lists, and what of it is here.
    data
        Its lines as in the file, JSON of :func:`vivace.report.sections.differential.searchable`.
    """

    kind: ClassVar[str] = "rows"
    caption: str
    text: str
    data: str


@dataclass(frozen=True)
class Table:
    """A table; ``bars`` are widths in percent (0 to 100) drawn behind the last column.

    Attributes
    ----------
    caption
        What the table lists.
    header, rows
        Column names, and rows of text whose first cell is the row's name.
    bars
        One width a row, or empty for none.
    """

    kind: ClassVar[str] = "table"
    caption: str
    header: list[str]
    rows: list[list[str]]
    bars: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    kind: ClassVar[str] = "code"
    title: str
    lines: str


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Attributes
    ----------
    anchor, title
        Name in links, and heading.
    lead
        A sentence or two in plain language.
    blocks
        Cards, Checks, Figure, Table, Code, Explorer and Rows objects in order.
    """

    anchor: str
    title: str
    lead: str
    blocks: Sequence[Cards | Checks | Figure | Table | Code | Explorer | Rows]
