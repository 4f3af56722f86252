"""Training curves: loss and score on training and validation rows, epoch by epoch.

Layer: desktop (pictures).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from moe_edge.pictures.canvas import BLUE, FAINT, INK, ORANGE, hide_frame, new_figure, save_figure


def draw_training_curves(history: Mapping[str, Sequence[float]], path: Path, *, best_epoch: int | None = None) -> Path:
    """Draw what Keras' ``History.history`` holds, one panel a metric.

    Args:
        history: Metric name to one value an epoch; ``val_NAME`` is drawn over ``NAME``.
        path: The PNG to write.
        best_epoch: The epoch whose weights were kept, counted from 1.

    Raises:
        ValueError: If there is nothing to draw.
        MoeEdgeError: If ``path`` can't be written.
    """
    names = [name for name in history if not name.startswith("val_") and name != "learning_rate" and len(history[name])]
    if not names:
        raise ValueError(f"expected at least one metric with values, got {sorted(history)}")
    names = names[:3]
    figure = new_figure(4.6 * len(names) + 0.6, 3.6)
    for place, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), place + 1)
        epochs = range(1, len(history[name]) + 1)
        axes.plot(epochs, history[name], color=BLUE, label="training rows", marker="o" if len(epochs) == 1 else None)
        if validation := history.get(f"val_{name}"):
            axes.plot(
                range(1, len(validation) + 1),
                validation,
                color=ORANGE,
                linestyle="--",
                label="validation rows",
                marker="s" if len(validation) == 1 else None,
            )
        if best_epoch is not None:
            axes.axvline(best_epoch, color=FAINT, linewidth=1, linestyle=":", label=f"kept: epoch {best_epoch}")
        axes.set_xlabel("epoch")
        axes.set_title(name.replace("_", " "), color=INK, fontsize=11)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        axes.legend(frameon=False, fontsize=8.5)
        hide_frame(axes)
    return save_figure(figure, path)
