"""Show Python's warnings as users' news: one line, once, without the place in a library's code.

Layer: command line. Imports click and the standard library.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Say each warning once on standard error; filters (``python -W``) decide as ever which are said at all."""
    said: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_place: Any, **_line: Any) -> None:
        first = (str(message).strip().splitlines() or [category.__name__])[0].rstrip(":")
        if first not in said:
            said.add(first)
            click.echo(f"Warning: {first}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
