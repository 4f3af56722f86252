"""Three straight lines and a gate against one line on an S-shaped curve, through the ``.tflite``.

    python demos/s_curve/run.py            # half a minute on two cores
    python demos/s_curve/run.py --smoke    # a little less: fewer epochs for the strategy that learns by gradients

Trains the same mixture by each strategy, converts each, runs the files dense and hard (one expert a row), prints how
their RMSE compares with one line's, and draws demo-output/s_curve.png. Exit code 1 if one misses a fifth.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from moe_edge.training import dataset_from_arrays, split_dataset, train_mixture  # first: sets TensorFlow's environment

import numpy as np  # isort: skip
from picture import Answers, Drawing, draw
from rich.console import Console
from rich.table import Table
from s_data import BORDERS, FIRST, LAST, NOISE, s_curve

from moe_edge import Predictor
from moe_edge.config import (
    Combine,
    ExpertConfig,
    GateConfig,
    MixtureConfig,
    PiecesConfig,
    Strategy,
    Task,
    TrainingConfig,
)
from moe_edge.training import Dataset, Split
from moe_edge_converters import convert

NUM_ROWS, TEST_SHARE, SEED = 600, 0.3, 0
MOST = 1 / 5
"""Share of one line's RMSE that a mixture may have at most."""
COLUMN = "position"
HAND_MADE = PiecesConfig(by="ranges", column=COLUMN, edges=BORDERS)
OVERLAP = 0.2
LINEAR_GATE = GateConfig(num_experts=3, kind="linear", load_balancing_coef=0.0)
"""A softmax of three lines divides one input into three intervals, which is what this curve needs; hidden layers
would add nothing. No load balancing: the pieces, from which every strategy starts, keep the experts in use, and those
of this curve are not equally large. (A temperature below 1 would sharpen the borders, but let the middle expert die
under ``joint``: between two steep neighbours it has no weight to learn with.)"""
TREE_GATE = GateConfig(num_experts=3, kind="decision_tree", options={"max_depth": 2})
"""Two questions, "left of the first border?" and "right of the second?": depth 2."""


def by_gradients(epochs: int) -> TrainingConfig:
    """``joint``; starts from k-means clusters of the positions, as the other strategies do by default.

    Steep borders need a gate with large weights, and those many large steps: hence step size and batch.
    """
    return TrainingConfig(
        strategy=Strategy.JOINT,
        pieces=PiecesConfig(),
        epochs=epochs,
        batch_size=16,
        learning_rate=5e-2,
        patience=epochs,
        seed=SEED,
    )


def mixture(kind: str, gate: GateConfig) -> MixtureConfig:
    """Three experts of one linear kind, each with a standard deviation of its own."""
    return MixtureConfig(task=Task.REGRESSION, combine=Combine.GAUSSIAN, expert=ExpertConfig(kind=kind), gate=gate)


def main() -> int:
    """Train, convert, run, compare, draw."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # many small models in one process: "retracing"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="fewer epochs; the same checks")
    parser.add_argument("-o", "--output", type=Path, default=Path("demo-output"), help="folder for the picture")
    arguments = parser.parse_args()

    x, y = s_curve(NUM_ROWS, SEED)
    dataset = dataset_from_arrays(x, y, names=[COLUMN], task=Task.REGRESSION, source="s_curve")
    split = split_dataset(dataset, test_share=TEST_SHARE, seed=SEED)
    line = np.polyfit(x[split.train, 0], y[split.train], 1)
    line_rmse = rmse(np.polyval(line, x[split.test, 0]), y[split.test])

    # "linear" learns by gradients; "linear_regression" is the same line in closed form, for the other two.
    jobs = {
        "joint": (mixture("linear", LINEAR_GATE), by_gradients(50 if arguments.smoke else 80)),
        "staged": (mixture("linear_regression", LINEAR_GATE), TrainingConfig(strategy=Strategy.STAGED, seed=SEED)),
        "em": (mixture("linear_regression", LINEAR_GATE), TrainingConfig(strategy=Strategy.EM, seed=SEED)),
        "no overlap": (
            mixture("linear_regression", LINEAR_GATE),
            TrainingConfig(strategy=Strategy.STAGED, pieces=HAND_MADE, seed=SEED),
        ),
        "overlap": (
            mixture("linear_regression", LINEAR_GATE),
            TrainingConfig(
                strategy=Strategy.STAGED,
                pieces=PiecesConfig(by="ranges", column=COLUMN, edges=BORDERS, overlap=OVERLAP),
                seed=SEED,
            ),
        ),
        "tree gate": (
            mixture("linear_regression", TREE_GATE),
            TrainingConfig(strategy=Strategy.STAGED, pieces=HAND_MADE, seed=SEED),
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        answers = {
            name: through_the_file(dataset, split, job, Path(folder) / "s.tflite", line_rmse)
            for name, job in jobs.items()
        }
    show(answers, line_rmse)
    arguments.output.mkdir(parents=True, exist_ok=True)
    written = draw(
        Drawing(
            x=x[:, 0],
            y=y,
            line=(float(line[0]), float(line[1])),
            line_rmse=line_rmse,
            noise=NOISE,
            borders=BORDERS,
            overlap=OVERLAP,
            most=MOST,
            answers=answers,
        ),
        arguments.output / "s_curve.png",
    )
    print(f"Picture: {written}")
    missed = [name for name, each in answers.items() if max(each.dense_ratio, each.hard_ratio) > MOST]
    for name in missed:
        print(f"FAIL: {name}: expected at most {MOST:.2f} of one line's RMSE")
    return 1 if missed else 0


def through_the_file(
    dataset: Dataset, split: Split, job: tuple[MixtureConfig, TrainingConfig], path: Path, line_rmse: float
) -> Answers:
    """Train a mixture, convert it, and ask the file."""
    trained = train_mixture(dataset, split, *job)
    written = convert(trained.model, path, scheme="float32", calibration=dataset.features[split.train])
    grid = np.linspace(FIRST, LAST, 1201, dtype=np.float32)
    rows, target = dataset.features[split.test], dataset.require_target()[split.test, 0]
    with Predictor(written.path, mode="dense") as predictor:
        along = predictor.predict_raw(grid[:, None])
        dense = predictor.predict_raw(rows)["prediction"][:, 0]
    with Predictor(written.path, top_k=1) as predictor:
        hard_along = predictor.predict_raw(grid[:, None])["prediction"][:, 0]
        raw = predictor.predict_raw(rows)
    if raw["experts_run"].max() != 1:
        raise SystemExit(f"expected one expert a row, got up to {raw['experts_run'].max()}")
    # In the order of the curve, whatever numbers the experts have.
    order = np.argsort((along["routing_weights"] * grid[:, None]).sum(axis=0) / along["routing_weights"].sum(axis=0))
    return Answers(
        grid=grid,
        dense=along["prediction"][:, 0],
        hard=hard_along,
        experts=along["expert_means"][:, order, 0],
        weights=along["routing_weights"][:, order],
        dense_ratio=rmse(dense, target) / line_rmse,
        hard_ratio=rmse(raw["prediction"][:, 0], target) / line_rmse,
        num_bytes=written.num_bytes,
    )


def rmse(answers: np.ndarray, target: np.ndarray) -> float:
    """Root of the mean squared error, volts."""
    return float(np.sqrt(np.mean((answers - target) ** 2)))


def show(answers: dict[str, Answers], line_rmse: float) -> None:
    """Print the ratios."""
    table = Table(title=f"RMSE on held-out rows as a share of one line's ({line_rmse:.3f} V); at most {MOST:.2f}")
    for column, side in (("mixture", "left"), ("dense", "right"), ("hard, one expert", "right"), ("bytes", "right")):
        table.add_column(column, justify=side)
    for name, each in answers.items():
        table.add_row(name, f"{each.dense_ratio:.3f}", f"{each.hard_ratio:.3f}", f"{each.num_bytes:,}")
    Console().print(table)
    print(f"The noise alone is {NOISE / line_rmse:.3f} on average; on few rows a model may come out a little below.")


if __name__ == "__main__":
    sys.exit(main())
