"""Keep the parts float32 that rounding would break: ensembles of trees, whatever scheme the others have.

Layer: desktop (converters).
"""

from __future__ import annotations

from dataclasses import replace

from moe_edge.errors import ConversionError
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.spec import GraphNetwork, MixtureSpec, Network
from moe_edge_converters.targets.target import Target


def is_float_only(network: Network) -> bool:
    """Whether a network stays float32 in every scheme."""
    return isinstance(network, GraphNetwork) and network.float_only


def float_experts(spec: MixtureSpec) -> frozenset[int]:
    """The experts that stay float32 in every scheme."""
    return frozenset(index for index, expert in enumerate(spec.experts) if is_float_only(expert))


def keep_float_parts(spec: MixtureSpec, options: ConversionOptions) -> ConversionOptions:
    """The options with float32 for the parts that stay so.

    Raises:
        ConversionError: If an int8 accelerator is the target: it would leave such an expert to the processor.
    """
    experts = float_experts(spec)
    gate_scheme = Scheme.FLOAT32 if is_float_only(spec.gate) else options.gate_scheme
    if not experts:
        return replace(options, gate_scheme=gate_scheme)
    if options.target is Target.INT8_ACCELERATOR:
        raise ConversionError(
            f"an int8 accelerator computes int8 weights with int8 activations, got expert {min(experts)} made of "
            "trees, which stay float32; choose another target or a neural kind of expert"
        )
    schemes = options.schemes_of(spec.num_experts)
    if len(experts) == spec.num_experts:
        return replace(options, scheme=Scheme.FLOAT32, expert_schemes={}, gate_scheme=gate_scheme)
    own = {
        index: Scheme.FLOAT32 if index in experts else scheme
        for index, scheme in enumerate(schemes)
        if index in experts or scheme is not options.scheme
    }
    return replace(options, expert_schemes=own, gate_scheme=gate_scheme)


def refuse_rounded_trees(spec: MixtureSpec, options: ConversionOptions) -> None:
    """Check that nobody asked by name for a scheme that a part can't have.

    Raises:
        ConversionError: If a scheme other than float32 was asked for an expert that stays float32.
    """
    for index in sorted(float_experts(spec)):
        scheme = options.expert_schemes.get(index, Scheme.FLOAT32)
        if scheme is not Scheme.FLOAT32:
            raise ConversionError(
                f"expert {index} is made of trees, which stay float32 in every scheme; expected no scheme of its own, "
                f"got {scheme.value}"
            )
