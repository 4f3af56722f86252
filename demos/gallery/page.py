"""Write docs/GALLERY.md: each picture with the commands that made its panels."""

from __future__ import annotations

import textwrap
from pathlib import Path

from jobs import Picture
from plots import Made

_START = """# Gallery

One picture for each kind of expert, gate, split and strategy. Every panel is what a `.tflite` answers, on rows that
training didn't see: above it the score and the bytes of the file. `make gallery` makes all of it anew, this page
included; it is written by [demos/gallery/run.py](../demos/gallery/run.py).

Every command works as pasted, from the repository's root, after

```
make demo && . .venv/bin/activate
python demos/gallery/run.py --tables
```

The tables are simulated: `plane.csv`, five arms of a pinwheel (two inputs, 700 rows); `zones.csv`, the same with a
column of zones; `curve.csv`, a reading against a dose, three lines with noise that grows; `windows.npz`, 24 samples of
four wave forms. Small tables: differences of a point between kinds mean nothing here.

The first picture of the guide, three lines on an S-shaped curve, has a demo of its own:
[demos/s_curve](../demos/s_curve/README.md).
"""


def write_page(path: Path, shown: list[tuple[Picture, list[Made]]]) -> Path:
    """Write the page."""
    parts = [_START]
    for picture, made in shown:
        names = ", ".join(each.job.name for each in made)
        text, image = textwrap.fill(picture.text, 120), f"pictures/gallery_{picture.name}.png"
        parts.append(f"## {picture.title}\n\n{text}\n\n![{names}]({image})\n")
        parts.append("```")
        parts.append(f"python demos/gallery/run.py --only {picture.name}    # all of the picture; or panel by panel:")
        for each in made:
            parts.append(f"# {each.job.name}: {each.score}, {each.path.stat().st_size:,} bytes")
            parts.extend(each.job.commands)
        parts.append("```\n")
    path.write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")
    return path
