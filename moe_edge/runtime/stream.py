"""Answer a stream of sensor samples by sliding windows.

Layer: device. Imports NumPy and ``moe_edge.errors``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_edge.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt


def slide_windows(
    samples: Iterable[Any], *, input_shape: tuple[int, ...], hop: int | None = None
) -> Iterator[npt.NDArray[np.float32]]:
    """Cut a stream into the windows that a model takes.

    A sample is a number or the values of several channels. A window is as many samples as fill one row of the model:
    for a row of shape (T, C), T samples of C channels; for a flat row of F values, F / C samples one after another.

    Args:
        samples: The samples, oldest first; may be endless.
        input_shape: Shape of one row, without the batch.
        hop: Samples from the start of one window to the start of the next; by default a whole window, none twice.

    Yields:
        float32, ``input_shape``: a view that the next window overwrites. A last window that isn't full isn't given.

    Raises:
        DataError: If samples differ in size, aren't numbers, or don't fill a row.
        ValueError: If ``hop`` < 1.
    """
    if hop is not None and (isinstance(hop, bool) or hop != int(hop) or hop < 1):
        raise ValueError(f"expected hop to be a whole number of samples, at least 1, got {hop}")
    return _slide(iter(samples), input_shape, hop)


def _slide(samples: Iterator[Any], input_shape: tuple[int, ...], hop: int | None) -> Iterator[npt.NDArray[np.float32]]:
    history: npt.NDArray[np.float32] | None = None
    window = channels = 0
    for number, sample in enumerate(samples):
        values = _as_values(sample, number)
        if history is None:
            channels = len(values)
            window = _window_length(input_shape, channels)
            hop = hop or window
            # Each sample is written twice, a window apart, so that the latest window always lies in one piece.
            history = np.empty((2 * window, channels), dtype=np.float32)
        elif len(values) != channels:
            raise DataError(f"sample {number + 1}: expected {channels} channels like the first, got {len(values)}")
        place = number % window
        history[place] = history[place + window] = values
        seen = number + 1
        if seen >= window and (seen - window) % (hop or window) == 0:
            yield history[place + 1 : place + 1 + window].reshape(input_shape)


def _as_values(sample: Any, number: int) -> npt.NDArray[np.float32]:
    """One sample as float32 (channels,)."""
    try:
        values = np.asarray(sample)
    except ValueError as error:
        raise DataError(f"sample {number + 1}: expected numbers, got values of different lengths") from error
    if values.dtype.kind not in "fiub" or values.ndim > 1 or not values.size:
        raise DataError(
            f"sample {number + 1}: expected a number or one number for each channel, got dtype {values.dtype} of shape "
            f"{values.shape}"
        )
    with np.errstate(over="ignore"):
        return values.astype(np.float32).reshape(-1)


def _window_length(input_shape: tuple[int, ...], channels: int) -> int:
    """Samples of a window."""
    needed = int(np.prod(input_shape))
    fits = channels == input_shape[-1] if len(input_shape) > 1 and input_shape[-1] != 1 else needed % channels == 0
    if not fits:
        raise DataError(
            f"expected samples of {'a divisor of ' if len(input_shape) == 1 else ''}{input_shape[-1]} channels, for a "
            f"model whose row is {input_shape}, got {channels}"
        )
    return needed // channels
