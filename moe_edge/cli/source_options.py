"""Options of commands that load a Keras model: what a model from elsewhere needs before it can be loaded.

Layer: command line.
"""

from __future__ import annotations

from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Any)


def source_options(command: Command) -> Command:
    """Add ``--import`` and ``--unsafe-load``, as ``custom_modules`` and ``unsafe_load``."""
    unsafe = click.option("--unsafe-load", is_flag=True, help="Trust MODEL: its Lambda layers run code on loading.")
    modules = click.option(
        "--import",
        "custom_modules",
        multiple=True,
        metavar="MODULE",
        help="Import MODULE first, which defines MODEL's own classes; also from the current folder. Repeat for more.",
    )
    decorated: Command = modules(unsafe(command))
    return decorated
