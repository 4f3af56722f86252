"""What a target forces on a conversion, and which schemes can run there.

Layer: desktop (converters), light: imports no numerical library.
"""

from __future__ import annotations

from dataclasses import replace

from moe_edge.errors import ConversionError
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.targets.target import Target

_MICRO_SCHEMES = (Scheme.FLOAT32, Scheme.W8A8)


def can_run(scheme: Scheme, target: Target) -> bool:
    """Whether experts stored in a scheme run, and answer rightly, on a target."""
    if target is Target.TFLITE_RUNTIME:
        return scheme is not Scheme.W4
    if target is Target.INT8_ACCELERATOR:
        return scheme is Scheme.W8A8
    if target is Target.MICROCONTROLLER:
        return scheme in _MICRO_SCHEMES
    return True


def fit_options(options: ConversionOptions) -> ConversionOptions:
    """The options that ``options.target`` forces, before any slow work.

    Raises:
        ConversionError: If a scheme was asked for that can't run there.
    """
    target = options.target
    if target is Target.TFLITE_RUNTIME and Scheme.W4 in options.used:
        raise ConversionError(
            "tflite-runtime 2.14 loads 4-bit weights and answers wrongly, without an error; choose --scheme "
            "dynamic_w8, w8a8 or float16"
        )
    if target is Target.TFLITE_RUNTIME and Scheme.DYNAMIC_W8 in options.used:
        # It does the same with 8-bit weights that have a scale a channel and activations rounded on the fly.
        return replace(options, per_tensor=True)
    if target is Target.INT8_ACCELERATOR:
        experts = {options.scheme, *options.expert_schemes.values()} - {Scheme.W8A8}
        if experts:
            raise ConversionError(
                f"an int8 accelerator computes int8 weights with int8 activations: expected w8a8 for every expert, got "
                f"{min(scheme.value for scheme in experts)}; choose --scheme w8a8"
            )
    if target is Target.MICROCONTROLLER:
        others = [scheme.value for scheme in options.used if scheme not in _MICRO_SCHEMES]
        if others:
            raise ConversionError(
                f"TFLite Micro runs float32 and w8a8, got {sorted(others)[0]}; choose --scheme w8a8 or float32"
            )
        if options.top_k is not None or options.routed:
            asked = "top-k needs TOPK_V2" if options.top_k is not None else "routed signatures end its process"
            raise ConversionError(f"TFLite Micro runs all experts in one graph: {asked}; drop --top-k and --routed")
        # TFLite Micro ignores where a buffer says its bytes lie, and ends when a file holds the routed signatures.
        return replace(options, self_contained=True, routed=False)
    return options
