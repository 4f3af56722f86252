"""The command group: commands load on first use, and user errors end as one line with exit code 1.

Layer: command line. Imports click and, lazily, the module of the command that runs.
"""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from moe_edge._version import __version__
from moe_edge.cli.interruption import stopped
from moe_edge.cli.one_line_warnings import one_line_warnings
from moe_edge.errors import MoeEdgeError

# Name -> one line of help; `moe_edge.cli.NAME` holds a click command called `command`.
COMMANDS = {
    "train": "Train a mixture of experts on a table.",
    "convert": "Convert a Keras mixture to one .tflite file.",
    "validate": "Check that the .tflite answers like the Keras model.",
    "verify": "Check on a device that a .tflite answers as where it was written.",
    "predict": "Answer the rows of a table.",
    "inspect": "Show what is inside a .tflite file.",
    "benchmark": "Measure speed and memory in every mode.",
    "doctor": "Say what is installed here and what to install.",
    "demo": "Run the whole job on handwritten digits.",
}


class LazyGroup(click.Group):
    """A group whose commands' modules are imported only when they run: `--help` and `predict` stay fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the job."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command's module."""
        if cmd_name not in COMMANDS:
            return None
        module = "inspect_" if cmd_name == "inspect" else cmd_name
        command: click.Command = import_module(f"moe_edge.cli.{module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a misspelt name is told with the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], COMMANDS, n=1)
            if not near or "did you mean" in error.message.lower():
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; the user's errors and Ctrl-C end in one line."""
        try:
            with one_line_warnings():
                return super().invoke(ctx)
        except MoeEdgeError as error:
            raise OneLineError(str(error)) from error
        except (KeyboardInterrupt, click.Abort) as error:
            raise stopped(ctx) from error
        except BrokenPipeError:
            # The reader (head, less) has seen enough. Point stdout at nothing so that its flush at exit stays quiet.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)


class OneLineError(click.ClickException):
    """A user's error, shown as one line."""

    exit_code = 1

    def format_message(self) -> str:
        """Fold the message into one line."""
        return " ".join(self.message.split())


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with: moe-edge demo, or moe-edge train my.csv --target label -o my.keras",
)
@click.version_option(__version__, prog_name="moe-edge")
def main() -> None:
    """Put a Mixture of Experts on a small device.

    Train it in Keras on a desktop, convert it to one .tflite file, prove that both answer alike, run it anywhere.
    """
