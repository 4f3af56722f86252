"""Options in titled sections of ``--help``, for commands that have many.

Layer: command line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class SectionOption(click.Option):
    """An option that knows its section's title."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose help lists options section by section, in the order of their declaration."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each section's options; those of no section come last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, "section", "Other"), []).append(record)
        other = sections.pop("Other", [])
        for title, records in [*sections.items(), ("Other", other)]:
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def add_options(title: str, *options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Add options to a command, in the order in which they stand, under a title."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
            # Click keeps parameters on the function until the command is made, in reverse order.
            command.__click_params__[-1].section = title  # type: ignore[attr-defined]
        return command

    return decorate


def option(*declarations: str, **attributes: Any) -> Callable[[Command], Command]:
    """``click.option`` for a section."""
    return click.option(*declarations, cls=SectionOption, **attributes)
