"""One picture for each kind of expert, gate, split and strategy, made by the commands that it prints.

    python demos/gallery/run.py                          # all, minutes; pictures in demo-output/gallery
    python demos/gallery/run.py --only gates             # one picture
    python demos/gallery/run.py --page docs/GALLERY.md   # and the page, with pictures in pictures/ beside it
    python demos/gallery/run.py --tables                 # the tables alone, to paste single commands
    python demos/gallery/run.py --smoke                  # two kinds, in seconds

Each panel is trained and converted by the ``moe-edge`` command line, in this process; what is drawn and scored is what
the ``.tflite`` answers on held-out rows. Run it from the repository's root.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

from moe_edge.training import load_model, match_split, read_dataset  # first: it sets TensorFlow's environment

import numpy as np  # isort: skip
from jobs import FOLDER, PICTURES, Job, Picture
from page import write_page
from plots import Made, draw_picture

from moe_edge import Predictor
from moe_edge.cli.main import main as command_line
from moe_edge.config import Task
from tables import write_tables

SMOKE = {"experts_plane": ("decision_tree",), "strategies": ("staged",)}


def main() -> int:
    """Make the gallery."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # many small models in one process: "retracing"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[picture.name for picture in PICTURES], help="one picture")
    parser.add_argument("--page", type=Path, help="write the page too, with its pictures in pictures/ beside it")
    parser.add_argument("--tables", action="store_true", help="write the tables and stop")
    parser.add_argument("--smoke", action="store_true", help="two kinds")
    arguments = parser.parse_args()
    folder = Path(FOLDER)
    write_tables(folder)
    if arguments.tables:
        print(f"Tables: {folder}")
        return 0
    pictures = [picture for picture in PICTURES if arguments.only in (None, picture.name)]
    if arguments.smoke:
        pictures = [
            replace(picture, jobs=tuple(job for job in picture.jobs if job.name in SMOKE[picture.name]), columns=1)
            for picture in pictures
            if picture.name in SMOKE
        ]
    target = folder if arguments.page is None else arguments.page.parent / "pictures"
    target.mkdir(parents=True, exist_ok=True)
    shown = []
    for picture in pictures:
        shown.append((picture, make(picture, target)))
    if arguments.page is not None:
        print(f"Page: {write_page(arguments.page, shown)}")
    return 0


def make(picture: Picture, folder: Path) -> list[Made]:
    """Train, convert and draw one picture."""
    start = time.perf_counter()
    made = [build(job) for job in picture.jobs]
    path = draw_picture(picture, made, folder / f"gallery_{picture.name}.png")
    print(f"{path}: {path.stat().st_size:,} bytes, {time.perf_counter() - start:.0f} s", flush=True)
    for each in made:
        print(f"  {each.job.name}: {each.score}, {each.path.stat().st_size:,} bytes", flush=True)
    return made


def build(job: Job) -> Made:
    """Run the job's commands, and ask the file about the rows that training held out."""
    for line in job.commands:
        command_line([*shlex.split(line)[1:], "--quiet"], standalone_mode=False)
    loaded = load_model(Path(f"{job.stem}.keras"))
    data = loaded.data
    dataset = read_dataset(
        job.table_path,
        target=None if data is None else data.target,
        task=None if loaded.schema is None else loaded.schema.task,
        drop=() if data is None else data.drop,
    )
    rows = match_split(loaded, dataset).test
    x, y = dataset.features[rows], dataset.require_target()[rows]
    path = Path(f"{job.stem}.tflite")
    with Predictor(path) as predictor:
        answers = predictor.predict_raw(x)["prediction"]
        if predictor.task is Task.CLASSIFICATION:
            score = f"{np.mean(answers.argmax(axis=1) == y):.1%} right"
        else:
            score = f"RMSE {np.sqrt(np.mean((answers - y) ** 2)):.3f} mV"
    return Made(job=job, path=path, x=x, y=y, score=score)


if __name__ == "__main__":
    sys.exit(main())
