"""Drawing to SVG that stands inside a page: fixed ids, no fonts of its own, text in the page's colour."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#0a0b0c"
"""Stands for the page's text colour while drawing; the page decides what it is, in light and in dark."""
ACCENT, WARM, QUIET, GOOD = "#3f7fd9", "#d9824a", "#8f98a3", "#3c9a6b"

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nightshift",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "ytick.major.size": 0,
    "xtick.major.size": 0,
    "grid.color": QUIET,
    "grid.alpha": 0.3,
}
_LONGEST = 30


@contextmanager
def drawn(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """Give a figure of width by height inches, in the style of the report, for as long as the block lasts."""
    with rc_context(_STYLE), warnings.catch_warnings():
        # Letters matplotlib has no glyph for are drawn by the reader's own fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def to_svg(figure: Figure, name: str, description: str) -> Markup:
    """Return the figure as an SVG element; name makes its ids unique in the page."""
    sink = io.StringIO()
    figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = sink.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'(\sid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace(INK, "currentColor").replace("'DejaVu Sans', ", "")
    opening = Markup('<svg role="img" aria-label="{}"').format(description)
    # The renderer has escaped every text it was given, so the whole is safe.
    return Markup(opening + Markup(svg.removeprefix("<svg")))


def shortened(text: str) -> str:
    """Return a label on one line, at most 30 characters."""
    line = " ".join(text.split())
    # A legend leaves out what begins with an underscore.
    line = f"\u200b{line}" if line.startswith("_") else line
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
