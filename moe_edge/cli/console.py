"""What commands share in talking to people and machines: tables, progress, ``--json``, ``--quiet``.

People's text goes to standard error wherever standard output carries data.
Layer: command line. Imports rich only when something is shown.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

EXISTING_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
EXISTING_PATH = click.Path(exists=True, readable=True, path_type=Path)
OUTPUT_FILE = click.Path(dir_okay=False, path_type=Path)


def output_options(command: Command) -> Command:
    """Add ``--json`` and ``--quiet``, passed on as ``as_json`` and ``quiet``."""
    command = click.option(
        "--quiet", "-q", is_flag=True, help="Print nothing but errors, warnings and asked-for data."
    )(command)
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document for machines.")(command)


class Reporter:
    """Prints a command's result: for people by default, as one JSON document with ``--json``, nothing with ``--quiet``.

    Attributes:
        as_json: Whether the result is one JSON document on standard output.
        quiet: Whether people's text is dropped.
        to_stderr: Whether people's text goes to standard error, because standard output carries data.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False, to_stderr: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.to_stderr = to_stderr

    @property
    def speaks(self) -> bool:
        """Whether people's text is shown at all."""
        return not (self.as_json or self.quiet)

    def say(self, text: str = "") -> None:
        """Print a line for people."""
        if self.speaks:
            click.echo(text, err=self.to_stderr)

    def warn(self, text: str) -> None:
        """Print a warning to standard error, with ``--json`` and ``--quiet`` too."""
        click.echo(f"Warning: {text}", err=True)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table; columns of numbers are aligned to the right."""
        if not self.speaks:
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title, title_justify="left")
        for index, name in enumerate(header):
            numeric = all(_is_number(row[index]) for row in rows)
            table.add_column(name, justify="right" if numeric else "left")
        for row in rows:
            table.add_row(*[Text(str(cell)) for cell in row])
        Console(stderr=self.to_stderr).print(table)

    def document(self, content: dict[str, Any]) -> None:
        """Print the JSON document, with ``--json`` only. NaN and infinity become null: JSON has neither."""
        if self.as_json:
            click.echo(json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False))

    def next_command(self, text: str) -> None:
        """Name the command to run next."""
        self.say(f"Next: {text}")

    @contextmanager
    def progress(self, description: str, total: int | None = None) -> Iterator[Callable[[int, str], None]]:
        """Show a progress bar on standard error where that is a terminal; yields ``advance(steps, note)``."""
        if not self.speaks:
            yield lambda steps, note: None
            return
        from rich.console import Console

        console = Console(stderr=True)
        if not console.is_terminal:
            # In a log or a pipe a bar would leave an empty line.
            yield lambda steps, note: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        # Lines said meanwhile go above the bar, but never into it where standard output is a file.
        shared = sys.stdout.isatty()
        with Progress(*columns, console=console, transient=True, redirect_stdout=shared) as bar:
            task = bar.add_task(description, total=total, note="")

            def advance(steps: int, note: str) -> None:
                bar.update(task, advance=steps, note=note)

            yield advance


def _is_number(cell: object) -> bool:
    text = str(cell).replace(",", "").replace("%", "").replace("×", "").strip()
    if text in ("", "-"):
        return True
    try:
        float(text.split("±")[0].split()[0])
    except (ValueError, IndexError):
        return False
    return True


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
