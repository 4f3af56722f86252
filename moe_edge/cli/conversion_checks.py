"""What ``moe-edge convert`` checks beside the conversion: before TensorFlow loads, and as ``validate`` would after it.

Layer: command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moe_edge.errors import DataError
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.targets.target_options import fit_options

if TYPE_CHECKING:
    from moe_edge.cli.conversion_rows import ConversionRows
    from moe_edge.training.archive import LoadedModel
    from moe_edge_converters.conversion import ConversionResult


def check_early(model: Path, options: ConversionOptions) -> None:
    """Check the schemes against the target, and those of single experts against the experts that there are.

    Args:
        model: The model; one from elsewhere doesn't say how many experts it has before it is loaded.
        options: What was asked for.

    Raises:
        ConversionError: If the target can't run a scheme, or there is no such expert.
    """
    fit_options(options)
    if not options.expert_schemes or model.suffix != ".keras":
        return
    from moe_edge.training.config_file import num_experts, read_settings

    try:
        settings = read_settings(model)
    except DataError:
        # Not one of ours, or damaged: reading the model says what it is.
        return
    if settings.get("mixture"):
        options.schemes_of(num_experts(settings))


def failures_on_validation_rows(
    loaded: LoadedModel, result: ConversionResult, rows: ConversionRows, *, top_k: int | None
) -> tuple[str, ...]:
    """What ``moe-edge validate`` would call a failure, on the rows that chose the epoch; empty without such rows."""
    from moe_edge.runtime.predictor import Predictor
    from moe_edge.thresholds import ParityThresholds, check_parity
    from moe_edge_converters.validation import validate

    if rows.validation is None or loaded.config is None or result.manifest.io != "float32":
        return ()
    if result.manifest.num_experts != loaded.config.gate.num_experts:
        # Converted plainly: there is no routing to compare.
        return ()
    with Predictor(result.path) as predictor:
        report = validate(loaded.model, predictor, *rows.validation)
    advice = "choose a finer --scheme, such as w8a16 or float16"
    if top_k is not None:
        advice = f"only the strongest {top_k} of each row's experts answer: train with --top-k too, or allow more"
    return tuple(f"{failure}; {advice}" for failure in check_parity(report, ParityThresholds()))
