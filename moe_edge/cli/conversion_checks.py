"""What ``moe-edge convert`` can refuse before TensorFlow loads.

Layer: command line.
"""

from __future__ import annotations

from pathlib import Path

from moe_edge.errors import DataError
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.targets.target_options import fit_options


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
