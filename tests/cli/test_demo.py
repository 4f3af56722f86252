"""``moe-edge demo``: the whole job runs, leaves what it says, and what it prints can be pasted."""

import csv
import json
import shlex

import pytest
from click.testing import CliRunner

from moe_edge.cli.main import main
from moe_edge_converters.schemes.scheme import Scheme


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A short run for people: its folder and its text."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "folder"
    result = CliRunner().invoke(main, ["demo", "-o", str(folder), "--epochs", "15"])
    assert result.exit_code == 0, result.output
    return folder, result.output


def test_it_leaves_table_models_pictures_and_page(demo):
    folder, _ = demo
    files = {"digits.csv", "new.csv", "digits.keras", "index.html"}
    pictures = {"mixture.png", "training.png", "experts.png", "schemes.png", "keras-vs-tflite.png"}
    tflites = {f"digits-{scheme.value}.tflite" for scheme in Scheme}
    assert {path.name for path in folder.iterdir()} == files | pictures | tflites
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 5 and "http" not in page.replace("http-equiv", "")


def test_it_shows_four_steps_and_every_scheme(demo):
    folder, text = demo
    assert all(f"{step} of 4" in text for step in ("Step 1", "Steps 2 and 3", "Step 4"))
    assert all(scheme.value in text for scheme in Scheme)
    assert str(folder / "index.html") in text


def test_the_table_and_the_new_rows_are_the_digits(demo):
    folder, _ = demo
    with (folder / "digits.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1 + 1797 and rows[0][-1] == "digit" and {row[-1] for row in rows[1:]} == set("0123456789")
    with (folder / "new.csv").open(newline="") as file:
        new = list(csv.reader(file))
    assert len(new) == 11 and new[0] == rows[0][:-1]


def test_the_printed_predict_and_inspect_commands_run_as_pasted(demo):
    _, text = demo
    lines = [line.strip() for line in text.splitlines() if line.startswith("  moe-edge ")]
    assert [line.split()[1] for line in lines] == ["predict", "inspect", "train", "convert", "validate"]
    for line in lines[:2]:
        result = CliRunner().invoke(main, shlex.split(line)[1:])
        assert result.exit_code == 0, result.output


def test_json_is_one_document(tmp_path):
    result = CliRunner().invoke(main, ["demo", "-o", str(tmp_path / "d"), "--epochs", "2", "--json"])
    document = json.loads(result.stdout)
    assert [row["scheme"] for row in document["schemes"]] == [scheme.value for scheme in Scheme]
    assert document["rows"]["test"] == 539 and len(document["expert_usage"]) == 5
    failed = {row["scheme"] for row in document["schemes"] if row["failures"]}
    assert result.exit_code == int("w8a8" in failed)
    assert all(f"digits-{scheme}.tflite FAILS" in result.stderr for scheme in failed)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["demo", "-o", str(tmp_path / "file" / "deep")])
    assert result.exit_code == 1 and "can't make the folder" in result.stderr
    assert len(result.stderr.splitlines()) == 1
