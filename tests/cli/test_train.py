import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from moe_edge.cli.main import main

COMMAND = [sys.executable, "-c", "from moe_edge.cli.main import main; main()", "train"]


def write_table(path, num_rows=120):
    random = np.random.default_rng(0)
    with path.open("w") as file:
        file.write("height,wage,colour,person,label\n")
        for row in range(num_rows):
            label = ("no", "yes")[row % 2]
            wage = "" if row % 9 == 0 else f"{random.normal(50_000 + 9000 * (row % 2), 5000):.0f}"
            colour = "NA" if row % 13 == 0 else ("red", "blue")[int(random.random() < 0.3)]
            file.write(f"{random.normal(row % 2, 0.5):.3f},{wage},{colour},p{row % 10},{label}\n")
    return path


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path / "my.csv")


def run(*arguments):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def test_the_result_is_told_in_four_steps_and_names_the_next_command(table, tmp_path):
    output = tmp_path / "my.keras"
    result = run(table, "--target", "label", "-o", output, "--drop", "person", "--epochs", 5)
    assert result.exit_code == 0, result.output
    steps = ["1. Split the problem", "2. Train the experts", "3. Train the gate", "4. Combine"]
    places = [result.output.index(step) for step in steps]
    assert places == sorted(places)
    assert "column 'wage': 14 missing values" in result.output
    assert f"Next: moe-edge convert {output} {table} -o {output.with_suffix('.tflite')}" in result.output

    from moe_edge.training import encode_dataset, load_model, match_split

    loaded = load_model(output)
    dataset = encode_dataset(table, loaded.schema)
    assert len(match_split(loaded, dataset).test) == 24
    assert loaded.schema.names == ("height", "wage", "colour")
    assert loaded.schema.columns[1].missing_share > 0


def test_json_is_one_document_and_quiet_prints_nothing(table, tmp_path):
    options = (table, "--target", "label", "--group", "person", "--epochs", 2, "--num-experts", 3, "--seed", 3)
    result = run(*options, "-o", tmp_path / "a.keras", "--json")
    document = json.loads(result.stdout)
    assert document["labels"] == ["no", "yes"]
    assert len(document["experts"]) == 3
    assert document["score"]["test"]["rows"] == document["rows"]["test"]
    assert document["config"]["gate"]["num_experts"] == 3
    assert document["training"]["seed"] == 3
    assert run(*options, "-o", tmp_path / "b.keras", "--quiet").stdout == ""


def test_the_classical_recipe_has_the_guides_defaults(table, tmp_path):
    result = run(
        table, "--target", "label", "--drop", "person", "--recipe", "classical", "-o", tmp_path / "c.keras", "--json"
    )
    document = json.loads(result.stdout)
    assert (document["training"]["epochs"], document["training"]["batch_size"]) == (10, 32)
    assert document["config"]["gate"]["load_balancing_coef"] == 0
    assert document["epochs"] == 10


def test_a_regression_with_linear_experts(tmp_path):
    x = np.random.default_rng(0).normal(size=(80, 2))
    np.savez(tmp_path / "r.npz", x=x, y=np.stack([x[:, 0], x.sum(1)], axis=1))
    result = run(
        tmp_path / "r.npz", "--expert-hidden", "", "--gate-hidden", "", "--epochs", 2, "-o", tmp_path / "r.keras"
    )
    assert result.exit_code == 0, result.output
    assert "RMSE" in result.output and "4. Combine (gaussian)" in result.output


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--target", "labell"], 1, "did you mean 'label'"),
        (["--target", "label", "-o", "m.h5"], 1, "ends in .keras"),
        (["--target", "label", "-o", "nowhere/m.keras"], 1, "no folder nowhere"),
        (["--target", "label", "--test-share", "1.5"], 2, "--test-share"),
        (["--target", "label", "--expert-hidden", "64,x"], 2, "64,32"),
        (["--target", "label", "--expert-hidden", "0"], 2, "at least 1"),
        (["--target", "label", "--combine", "gaussian"], 2, "probabilities or logits"),
        (["--target", "label", "--label-smoothing", "1"], 2, "label_smoothing"),
        (["--target", "label", "--learning-rate", "nan"], 2, "learning_rate"),
        (["--target", "label", "--num-experts", "1"], 2, "num-experts"),
        (["--target", "label", "--load-balancing-coef", "-1"], 2, "load_balancing_coef"),
    ],
)
def test_mistakes_are_told_before_tensorflow_is_imported(table, monkeypatch, options, code, said):
    monkeypatch.chdir(table.parent)
    monkeypatch.setattr("moe_edge.training.keras_setup.load_keras", lambda: pytest.fail("TensorFlow was imported"))
    result = run(table, *options)
    assert result.exit_code == code
    assert said in result.output
    assert not list(table.parent.glob("*.keras"))


def test_reading_and_checking_a_table_imports_no_tensorflow(table):
    code = (
        "import sys; from moe_edge.training import read_dataset, split_dataset;"
        f"split_dataset(read_dataset({str(table)!r}, target='label', drop=['person']));"
        "sys.exit(bool({'tensorflow', 'keras', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ctrl_c_leaves_nothing_and_says_so_in_one_line(table, tmp_path):
    output = tmp_path / "out" / "m.keras"
    output.parent.mkdir()
    process = subprocess.Popen(
        [*COMMAND, str(table), "--target", "label", "--drop", "person", "-o", str(output), "--epochs", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    for line in process.stdout:
        if "held out" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.strip() == f"Stopped: nothing was written to {output}"
    assert list(output.parent.iterdir()) == []
