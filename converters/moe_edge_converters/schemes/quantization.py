"""Give each part of a fused graph its scheme, through the LiteRT quantizer.

The gate, the preprocessing and the gating-plus-weighted-sum tail stay float32 unless asked otherwise: a flipped route
costs far more accuracy than a rounded weight, and their bytes are few.
Layer: desktop (converters).
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ai_edge_quantizer import qtyping, recipe_manager
from ai_edge_quantizer import quantizer as aeq

from moe_edge.errors import ConversionError
from moe_edge_converters.schemes.calibration import Ranges
from moe_edge_converters.schemes.scheme import Scheme

_ALL = qtyping.TFLOperationName.ALL_SUPPORTED

# OCTAV clips each channel where the error is smallest. Measured on digits (E = 5): the mean error of 4-bit weights
# falls by a fifth (0.0041 against 0.0053); at 8 bits it changes nothing, and MSE ranges are worse there.
_FOUR_BIT_RANGES = aeq.AlgorithmName.OCTAV
_NO_QUANTIZE = aeq.AlgorithmName.NO_QUANTIZE


@dataclass(frozen=True, kw_only=True)
class PartRule:
    """The scheme of the operators whose output tensors' names start with ``prefix``."""

    prefix: str
    scheme: Scheme


def build_recipe(rules: Iterable[PartRule], *, per_tensor: bool) -> Any:
    """The quantizer's recipe for a list of rules; whatever no rule names stays float32."""
    manager = recipe_manager.RecipeManager()
    granularity = qtyping.QuantGranularity.TENSORWISE if per_tensor else qtyping.QuantGranularity.CHANNELWISE
    for rule in rules:
        # The quantizer searches in "name;name;": a prefix stands at the start or after a semicolon.
        regex = f"(^|;){re.escape(rule.prefix)}"
        if rule.scheme is Scheme.FLOAT16:
            manager.add_weight_only_config(regex, _ALL, num_bits=16, algorithm_key=aeq.AlgorithmName.FLOAT_CASTING)
        elif rule.scheme in (Scheme.DYNAMIC_W8, Scheme.W4):
            four = rule.scheme is Scheme.W4
            algorithm = _FOUR_BIT_RANGES if four else aeq.AlgorithmName.MIN_MAX_UNIFORM_QUANT
            manager.add_dynamic_config(
                regex, _ALL, num_bits=4 if four else 8, granularity=granularity, algorithm_key=algorithm
            )
        elif rule.scheme.needs_calibration:
            manager.add_static_config(
                regex,
                _ALL,
                activation_num_bits=rule.scheme.activation_bits,
                weight_num_bits=8,
                weight_granularity=granularity,
            )
        # An int8 softmax has a fixed scale of 1/256: probabilities below 0.002 would become 0.
        manager.add_quantization_config(regex, qtyping.TFLOperationName.SOFTMAX, algorithm_key=_NO_QUANTIZE)
    for edge in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        manager.add_quantization_config(".*", edge, algorithm_key=_NO_QUANTIZE)
    return manager.get_quantization_recipe()


def quantize(content: bytes, rules: Iterable[PartRule], ranges: Ranges | None, *, per_tensor: bool = False) -> bytes:
    """Quantize a float32 model part by part.

    Args:
        content: The float32 model.
        rules: The parts' schemes; parts in float32 need none.
        ranges: Activation ranges, when a scheme needs calibration.
        per_tensor: One scale a weight tensor instead of one a channel.

    Raises:
        ConversionError: If the quantizer refuses.
    """
    active = [rule for rule in rules if rule.scheme is not Scheme.FLOAT32]
    if not active:
        return content
    try:
        with _quiet():
            quantizer = aeq.Quantizer(bytearray(content), build_recipe(active, per_tensor=per_tensor))
            needs_ranges = any(rule.scheme.needs_calibration for rule in active)
            result = quantizer.quantize(
                ranges if needs_ranges else None, enable_progress_bar=False, enable_progress_report=False
            )
    except (ValueError, RuntimeError) as error:
        raise ConversionError(f"the quantizer refused this model: {error}") from error
    if result.quantized_model is None:
        raise ConversionError("the quantizer returned no model")
    return bytes(result.quantized_model)


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep the quantizer's chatter off the user's screen; its errors are exceptions."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
