"""Drawing: one style, and SVG that takes its ink from the page, so that it works in light and dark."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from vivace.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours drawn as placeholders and replaced by variables of the style sheet.
INK, SOFT, LINE = "#010203", "#040506", "#070809"
VARIABLES = {INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)"}
FIRST, SECOND = "#3f90da", "#e76300"
RAMP = "viridis"
PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
QUALITY = 60

SETTINGS: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": SOFT,
    "axes.labelpad": 6,
    "axes.labelsize": 12,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.size": 12,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "lines.linewidth": 2,
    "lines.solid_capstyle": "round",
    "savefig.dpi": 130,
    "svg.fonttype": "none",
    "svg.hashsalt": "vivace",
    "text.color": INK,
    "xtick.color": SOFT,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.color": SOFT,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}


class Canvas:
    """Axes to draw on; ``svg`` holds the drawing after the ``with`` block of :func:`canvas`."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self.svg = ""


@contextmanager
def canvas(width: float = 5.0, height: float = 3.4) -> Iterator[Canvas]:
    """One small picture, drawn without touching matplotlib's global state.

    Parameters
    ----------
    width, height
        In inches; text is 12 points, so 5 inches fill a phone with legible labels.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise require("matplotlib", "report") from error
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        sheet = Canvas(figure.add_subplot())
        yield sheet
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    sheet.svg = clean(buffer.getvalue())


def clean(svg: str) -> str:
    """Inline form: page colours and page font, no fixed size, only ids that something refers to."""
    svg = PNG.sub(smaller, svg[svg.index("<svg") :])
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', svg, count=1
    )
    svg = re.sub(r"font: (?:\w+ )*?([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    used = set(re.findall(r"(?:url\(|href=\")#([\w-]+)", svg))
    svg = svg.replace('id="halo"', 'class="halo"')
    svg = re.sub(r' id="([\w-]+)"', lambda match: match[0] if match[1] in used else "", svg)
    for placeholder, variable in VARIABLES.items():
        svg = svg.replace(placeholder, variable)
    return svg.replace("xlink:href", "href")


def smaller(found: re.Match[str]) -> str:
    """The same dots as WebP, which every browser reads and which is a third of the size."""
    from PIL import Image  # comes with matplotlib

    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(found[1])))
    picture.save(buffer, "WEBP", quality=QUALITY, alpha_quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def log_ticks(axes: Axes, which: str = "both") -> None:
    """Log axes with tick labels in words (1, 10, 1k) instead of powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for name in ("x", "y"):
        if which in (name, "both"):
            axis = getattr(axes, f"{name}axis")
            getattr(axes, f"set_{name}scale")("log")
            low, high = axis.get_view_interval()
            subs = (1, 2, 5) if high < 100 * low else (1,)
            axis.set_major_locator(LogLocator(subs=subs, numticks=6))
            axis.set_major_formatter(FuncFormatter(short))
            axis.set_minor_formatter(NullFormatter())


def short(value: float, _position: int | None = None) -> str:
    """Tick label of a log axis.

    Examples
    --------
    >>> short(0.001), short(1), short(2500), short(1e6)
    ('0.001', '1', '2.5k', '1M')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def dot_size(n: int) -> float:
    """Area of a dot, so that few cells are visible and many do not blot."""
    return float(np.clip(9000 / max(n, 1), 2.5, 26))
