"""What all pictures share: colours that colour-blind readers tell apart, sizes, and writing a PNG whole.

Layer: desktop (pictures).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from moe_edge.atomic import atomic_path

# Okabe and Ito (2008), "Color universal design": told apart by colour-blind readers.
BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
# Paul Tol's indigo, sand, dark green and pale grey: of his palettes the furthest from those six and each other, as
# normal, protanope and deuteranope readers see them (CIELAB difference above 14; the six among themselves: 18).
EXPERT_PALETTE = (*PALETTE, "#332288", "#DDCC77", "#225522", "#BBBBBB")
INK, FAINT, PAPER = "#222222", "#9a9a9a", "#ffffff"

DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """A figure of its own canvas, in inches: no pyplot, hence no global state, and threads may draw."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path, *, colours: int | None = None, dpi: int = DPI) -> Path:
    """Write a figure as PNG, whole or not at all.

    Args:
        figure: What to write.
        path: Where to.
        colours: Keep only so many colours, 2 to 256: a third of the bytes, for pictures that a repository keeps.
        dpi: Dots an inch.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)
        if colours is not None:
            with Image.open(temporary) as image:
                small = image.convert("RGB").quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
            small.save(temporary, format="png", optimize=True)
    return path


def plain_text(text: str, limit: int = 24) -> str:
    """A name from the user's table as matplotlib shows it verbatim, on one line, shortened.

    Dollar signs would start mathematics, and fail on a name such as ``price_$_in_$``.
    """
    line = " ".join(str(text).split())
    line = line if len(line) <= limit else line[: limit - 1] + "…"
    return line.replace("$", r"\$")


def expert_colour(index: int) -> str:
    """An expert's colour in every picture; after ten they return, told apart by numbers and dashes."""
    return EXPERT_PALETTE[index % len(EXPERT_PALETTE)]


def readable_on(colour: str) -> str:
    """Ink or white, whichever has more contrast on a colour (WCAG's relative luminance)."""
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in to_rgb(colour)
    )
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return PAPER if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.0668 else INK


def hide_frame(axes: Axes, sides: Sequence[str] = ("top", "right")) -> None:
    """Drop the sides of the frame that carry no scale."""
    for side in sides:
        axes.spines[side].set_visible(False)


def tick_step(count: int, most: int = 20) -> int:
    """Label every n-th of ``count`` classes, so that labels don't run into each other."""
    return max(1, -(-count // most))
