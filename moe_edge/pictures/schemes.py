"""The schemes side by side: bytes, score, agreement, time a row.

Layer: desktop (pictures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_edge.pictures.canvas import BLUE, GREEN, INK, ORANGE, PURPLE, hide_frame, new_figure, save_figure


@dataclass(frozen=True, kw_only=True)
class SchemeResult:
    """What one scheme gave on the test rows.

    Attributes:
        scheme: Its name.
        num_bytes: Size of the file.
        accuracy: Share of test rows with the right label, in [0, 1].
        agreement: Share of test rows with the same label as Keras, in [0, 1].
        row_us: Median microseconds for one row, on the machine that ran it.
    """

    scheme: str
    num_bytes: int
    accuracy: float
    agreement: float
    row_us: float


def draw_schemes(results: Sequence[SchemeResult], path: Path) -> Path:
    """Draw one panel a quantity, one bar a scheme, each with its number.

    Raises:
        ValueError: If there are no results.
        MoeEdgeError: If ``path`` can't be written.
    """
    if not results:
        raise ValueError("expected at least one scheme, got none")
    figure = new_figure(11.0, 1.3 + 0.42 * len(results))
    panels = (
        ("file size, KiB", [r.num_bytes / 1024 for r in results], "{:.1f}", BLUE),
        ("accuracy, %", [100 * r.accuracy for r in results], "{:.2f}", GREEN),
        ("same label as Keras, %", [100 * r.agreement for r in results], "{:.2f}", ORANGE),
        ("time a row, µs", [r.row_us for r in results], "{:.1f}", PURPLE),
    )
    row_of_axes = figure.subplots(1, len(panels), sharey=True)
    for place, (axes, (title, values, form, colour)) in enumerate(zip(row_of_axes, panels, strict=True)):
        bars = axes.barh(range(len(results)), values, color=colour, height=0.62)
        axes.bar_label(bars, labels=[form.format(value) for value in values], padding=3, fontsize=8.5, color=INK)
        # Bars start at zero, so that lengths compare; room on the right for the numbers.
        axes.set_xlim(0, max([*values, 1e-9]) * 1.35)
        axes.set_title(title, fontsize=10, color=INK)
        axes.set_xticks([])
        axes.set_yticks(range(len(results)), [r.scheme for r in results])
        axes.tick_params(axis="y", labelleft=place == 0, length=0)
        hide_frame(axes, ("top", "right", "bottom"))
    # The y axis is shared: the first scheme goes on top in every panel.
    row_of_axes[0].invert_yaxis()
    return save_figure(figure, path)
