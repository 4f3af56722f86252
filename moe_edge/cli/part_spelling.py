"""How the command line spells an expert, a gate or a trunk: ``KIND[:UNITS,...,option=value,...]``.

``dense:64,32``, ``random_forest:max_depth=8,count=3``, ``conv2d:shape=8x8x1,filters=16x32``.
Layer: command line.
"""

from __future__ import annotations

import re
from typing import Any

import click

SHAPE = "KIND[:UNITS,...,OPTION=VALUE,...]"

_LAYERED = ("dense", "conv1d", "conv2d", "gru", "lstm", "keras")
_LAYERED_GATES = ("dense", "hierarchical")
"""Kinds that may have hidden layers."""

_LIST = re.compile(r"\d+(x\d+)+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def parse_part(text: str, role: str) -> dict[str, Any]:
    """Read a part's spelling.

    Args:
        text: What the user wrote.
        role: ``expert``, ``gate`` or ``trunk``; experts take ``count``.

    Returns:
        Settings of an ``ExpertConfig``, ``GateConfig`` or ``TrunkConfig``, and ``count`` where it was said.

    Raises:
        click.BadParameter: If it can't be read, or there is no such kind.
    """
    from moe_edge.training.kinds.registry import check_name

    kind, _, rest = text.strip().partition(":")
    try:
        check_name(kind, "gate" if role == "gate" else "expert")
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    part: dict[str, Any] = {"kind": kind}
    hidden: list[int] = []
    options: dict[str, Any] = {}
    for piece in filter(None, (piece.strip() for piece in rest.split(","))):
        name, equals, value = (side.strip() for side in piece.partition("="))
        if not equals:
            if not piece.isdigit():
                raise click.BadParameter(
                    f"expected {SHAPE} with whole numbers of units or OPTION=VALUE, got {piece!r} in {text!r}"
                )
            hidden.append(int(piece))
        elif name == "hidden":
            part["hidden"] = [] if value in ("none", "0", "") else [int(size) for size in _sizes(value, text)]
        elif name == "activation":
            part["activation"] = value
        elif name == "count" and role == "expert":
            if not value.isdigit() or int(value) < 1:
                raise click.BadParameter(f"expected count=N of at least 1, got {piece!r} in {text!r}")
            part["count"] = int(value)
        else:
            options[name] = _value(value)
    if hidden and kind not in (_LAYERED_GATES if role == "gate" else _LAYERED):
        raise click.BadParameter(f"{kind} has no hidden layers: expected no units, got {hidden[0]} in {text!r}")
    if hidden:
        part["hidden"] = hidden
    if kind == "hierarchical" and part.get("hidden"):
        # Its gates are linear unless told otherwise.
        options["hidden"] = True
    if options:
        part["options"] = options
    return part


class PartType(click.ParamType):  # type: ignore[type-arg]  # click 8.1 takes no argument
    """A part's spelling as a type of option."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.name = role

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text; what is read already stays."""
        return parse_part(value, self.role) if isinstance(value, str) else value


def _sizes(value: str, text: str) -> list[str]:
    sizes = value.split("x")
    if not all(size.isdigit() for size in sizes):
        raise click.BadParameter(
            f"expected sizes joined by x, such as hidden=64x32, or none, got {value!r} in {text!r}"
        )
    return sizes


def _value(text: str) -> Any:
    """``true``, ``8``, ``0.5``, ``8x8x1`` (a list), or a text."""
    if text in ("true", "false"):
        return text == "true"
    if _LIST.fullmatch(text):
        return [int(size) for size in text.split("x")]
    if text.lstrip("+-").isdigit():
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text
