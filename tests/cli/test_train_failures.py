"""What can only be told once training has begun: still one line, exit code 1, and nothing written."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from moe_edge.cli.main import main

COMMAND = [sys.executable, "-c", "from moe_edge.cli.main import main; main()", "train"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tables: two features and a device, a label or a number; one with gaps; one of twelve rows."""
    path = tmp_path_factory.mktemp("tables")
    random = np.random.default_rng(0)
    rows = [
        (f"{a:.3f}", f"{b:.3f}", f"d{device}", "yes" if a * b > 0 else "no", f"{a * b:.3f}")
        for a, b, device in zip(*random.normal(size=(2, 120)), random.integers(3, size=120), strict=True)
    ]

    def write(name, header, columns, kept):
        lines = [",".join(row[column] for column in columns) for row in kept]
        (path / name).write_text("\n".join([header, *lines]) + "\n")

    write("labels.csv", "a,b,device,label", (0, 1, 2, 3), rows)
    write("numbers.csv", "a,b,device,number", (0, 1, 2, 4), rows)
    write("few.csv", "a,b,label", (0, 1, 3), rows[:12])
    write("tiny.csv", "a,b,device,number", (0, 1, 2, 4), rows[:5])
    gaps = [("", *row[1:]) if index % 9 == 0 else row for index, row in enumerate(rows)]
    write("gaps.csv", "a,b,device,label", (0, 1, 2, 3), gaps)
    write("same.csv", "a,b,label", (0, 1, 3), [("1", "2", "x", row[3], row[4]) for row in rows])
    return path


def run(folder, tmp_path, table, *options):
    target = "number" if table in ("numbers.csv", "tiny.csv") else "label"
    arguments = ["train", str(folder / table), "--target", target, "-o", str(tmp_path / "m.keras"), *map(str, options)]
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        # Options of kinds.
        ("labels.csv", ["--strategy", "em", "--expert", "random_forest:n_estimators=0"], "range [1, inf). Got 0"),
        ("labels.csv", ["--strategy", "staged", "--expert", "logistic_regression:max_iter=0"], "max_iter >= 1"),
        ("numbers.csv", ["--strategy", "staged", "--expert", "linear_regression:alpha=-1"], "alpha >= 0"),
        ("labels.csv", ["--expert", "conv1d:shape=5x1,kernel_size=0"], "kernel_size >= 1"),
        ("labels.csv", ["--gate", "gaussian:covariance=banana"], "diagonal or full"),
        ("labels.csv", ["--gate", "hierarchical:branching=1"], "2 branches"),
        ("labels.csv", ["--trunk", "decision_tree"], "trunk of a neural kind"),
        # Parts that don't fit each other.
        ("labels.csv", ["--strategy", "staged", "--expert", "linear_regression"], "use logistic_regression"),
        ("numbers.csv", ["--strategy", "em", "--combine", "mean"], "needs a likelihood"),
        # Pieces.
        ("labels.csv", ["--subtask-column", "device"], "got 3 (d0, d1, d2); try --num-experts 3"),
        ("labels.csv", ["--subtask-column", "a"], "give --ranges of it"),
        ("labels.csv", ["--subtask-column", "a", "--ranges", "50,60", "--num-experts", 3], "none in piece 1"),
        ("labels.csv", ["--subtask-column", "a", "--ranges", "0"], "expected 4 edges for 5 experts, got 1"),
        ("labels.csv", ["--subtask-column", "device", "--ranges", "0", "--num-experts", 2], "expected numbers, got 'd"),
        ("gaps.csv", ["--subtask-column", "a", "--ranges", "0", "--num-experts", 2], "column to split by 'a'"),
        ("labels.csv", ["--pieces", "confusion"], "at least 5 classes, got 2"),
        ("numbers.csv", ["--pieces", "confusion"], "expected a classification"),
        ("few.csv", ["--strategy", "staged", "--num-experts", 20], "at least 20 different rows, got 8"),
        ("same.csv", ["--strategy", "em"], "at least 5 different rows, got 1"),
        ("tiny.csv", [], "tiny.csv: expected at least 6 rows for training, validation and test, got 5"),
        # Training itself.
        ("numbers.csv", ["--learning-rate", "1e30", "--epochs", 2], "training diverged"),
    ],
)
def test_one_line_and_nothing_written(folder, tmp_path, table, options, said):
    result = run(folder, tmp_path, table, *options)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        ["--strategy", "em", "--em-iterations", 2, "--expert", "linear", "--gate", "gaussian"],
        ["--strategy", "staged", "--expert", "decision_tree", "--gate", "decision_tree"],
        ["--strategy", "joint", "--epochs", 2],
    ],
)
def test_every_strategy_is_one_json_document_and_quiet(folder, tmp_path, options):
    document = json.loads(run(folder, tmp_path, "labels.csv", *options, "--json").stdout)
    rounds = max(map(len, document["history"].values()), default=0)
    assert document["epochs"] == rounds
    assert 1 <= document["best_epoch"] <= max(1, rounds)
    assert run(folder, tmp_path, "labels.csv", *options, "--quiet").stdout == ""


def test_em_tells_each_iteration_and_which_was_kept(folder, tmp_path):
    result = run(folder, tmp_path, "labels.csv", "--strategy", "em", "--em-iterations", 3, "--expert", "linear")
    assert result.exit_code == 0, result.output
    lines = [line.strip() for line in result.output.splitlines()]
    told = [line for line in lines if line.startswith("iteration ") and "log-likelihood" in line]
    assert [line.split(":")[0] for line in told] == ["iteration 1", "iteration 2", "iteration 3"]
    assert "of validation rows" in told[0]
    assert any(line.startswith("iteration ") and "of 3 kept, the best on the validation rows" in line for line in lines)


def test_ctrl_c_in_em_leaves_nothing_and_says_so_in_one_line(folder, tmp_path):
    output = tmp_path / "m.keras"
    options = ["--strategy", "em", "--em-iterations", "100000", "--expert", "dense:8", "--num-experts", "2"]
    process = subprocess.Popen(
        [*COMMAND, str(folder / "numbers.csv"), "--target", "number", "-o", str(output), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    for line in process.stdout:
        # Lines come while EM runs, not at its end.
        if "iteration 1:" in line:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.strip() == f"Stopped: nothing was written to {output}"
    assert list(tmp_path.iterdir()) == []


def test_few_rows_are_warned_of_and_the_target_is_named(folder, tmp_path):
    result = run(folder, tmp_path, "few.csv", "--epochs", 1, "--num-experts", 2)
    assert result.exit_code == 0, result.output
    assert "of 'label', 2 classes" in result.stdout
    assert "Warning: few rows: 8 train 2 experts and 2 are held out" in result.stderr
    enough = run(folder, tmp_path, "labels.csv", "--epochs", 1, "--num-experts", 2)
    assert enough.exit_code == 0 and "few rows" not in enough.stderr
