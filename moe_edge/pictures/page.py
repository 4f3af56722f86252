"""One HTML page that shows pictures and explains them; it needs no other file and no network.

Layer: desktop (pictures). Imports the standard library only.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from moe_edge.atomic import write_atomically

JOB_PAGE = "index.html"
"""What the page of a whole job is called."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page; all texts are plain and get escaped.

    Attributes:
        title: Its heading.
        paragraphs: Explanations.
        picture: A PNG to embed, or None.
        caption: What the picture shows, also for who can't see it.
        header: Header of a table, empty for none.
        rows: The table's rows.
        commands: Lines to paste into a terminal.
    """

    title: str
    paragraphs: Sequence[str] = ()
    picture: Path | None = None
    caption: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = field(default=())
    commands: Sequence[str] = ()


_PAGE_PIXELS = 0.64
"""Pixels of the page for one of a picture: 96 to the inch for pictures of 150."""
_STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #222; background: #fff; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin-top: 2.4rem; border-top: 1px solid #ddd; padding-top: 1rem; }
p { max-width: 46rem; } img { max-width: 100%; height: auto; } figure { margin: 1rem 0; }
figcaption { color: #555; font-size: .9rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
pre { background: #f4f4f4; padding: .8rem 1rem; overflow-x: auto; }
.scroll { overflow-x: auto; }
"""


def write_page(path: Path, *, title: str, lead: str, sections: Sequence[Section]) -> Path:
    """Write the page, whole or not at all.

    Args:
        path: The ``.html`` to write.
        title: Title and first heading.
        lead: The first paragraph.
        sections: What follows.

    Raises:
        MoeEdgeError: If ``path`` can't be written.
        OSError: If a picture can't be read.
    """
    body = "\n".join(_section(section) for section in sections)
    html = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<p>{escape(lead)}</p>\n{body}\n</body>\n</html>\n"
    )
    write_atomically(path, html.encode())
    return path


def _section(section: Section) -> str:
    parts = [f"<section>\n<h2>{escape(section.title)}</h2>"]
    parts += [f"<p>{escape(paragraph)}</p>" for paragraph in section.paragraphs]
    if section.rows:
        head = "".join(f'<th scope="col">{escape(str(cell))}</th>' for cell in section.header)
        lines = ["".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in section.rows]
        body = "\n".join(f"<tr>{line}</tr>" for line in lines)
        parts.append(
            f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
        )
    if section.picture is not None:
        png = section.picture.read_bytes()
        # All at one scale, so that print has one size on the page, and is sharp on fine screens.
        width = round(int.from_bytes(png[16:20], "big") * _PAGE_PIXELS)
        content = base64.b64encode(png).decode("ascii")
        caption = escape(section.caption, quote=True)
        parts.append(
            f'<figure><img src="data:image/png;base64,{content}" alt="{caption}" width="{width}">\n'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    if section.commands:
        parts.append(f"<pre>{escape(chr(10).join(section.commands))}</pre>")
    return "\n".join([*parts, "</section>"])
