"""Ctrl-C ends every command in one line with exit code 130, and says what was not written.

Layer: command line. Imports click and the standard library.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells give it (128 + SIGINT): 1 is what a failed check ends with."""

_OUTPUT = "moe_edge.output"


class StoppedError(click.ClickException):
    """The user stopped the command; shown as it is, without "Error:"."""

    exit_code = INTERRUPTED

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line, below the ``^C`` that a terminal shows."""
        start = "\n" if sys.stderr.isatty() else ""
        click.echo(start + self.format_message(), file=file, err=True)


@dataclass(frozen=True)
class _Output:
    """A file to be written, and which file lay there before; files are replaced, so a written one is another."""

    path: Path
    before: int | None

    @property
    def written(self) -> bool:
        return _identity(self.path) not in (None, self.before)


def will_write(path: Path) -> None:
    """Remember what the running command is to write; its end by Ctrl-C then says whether that happened."""
    click.get_current_context().find_root().meta[_OUTPUT] = _Output(path, _identity(path))


def stopped(context: click.Context) -> StoppedError:
    """How the command of this context ends after Ctrl-C."""
    output: _Output | None = context.find_root().meta.get(_OUTPUT)
    if output is None:
        return StoppedError("Stopped")
    if output.written:
        return StoppedError(f"Stopped: {output.path} was written, what follows it was not done")
    return StoppedError(f"Stopped: nothing was written to {output.path}")


def _identity(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
