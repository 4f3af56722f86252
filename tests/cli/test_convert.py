"""``moe-edge convert`` on real files: the rows it calibrates on, what it prints, and what it refuses in one line."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from moe_edge import Predictor
from moe_edge.cli.main import main
from moe_edge.config import ExpertConfig, GateConfig, MixtureConfig


def run(*arguments):
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


def write_csv(path, header, columns):
    lines = [",".join(header), *(",".join(map(str, row)) for row in zip(*columns, strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A table with a wide column, a category, missing values and string labels; a mixture fitted to its columns."""
    import keras

    from moe_edge.training import build_mixture, read_dataset, save_model, split_dataset
    from moe_edge.training.standardise import fit_preprocess

    folder = tmp_path_factory.mktemp("convert")
    rng = np.random.default_rng(0)
    wide = np.where(rng.random(400) < 0.1, "", (rng.normal(size=400) * 5000).round(3).astype(str))
    kind = rng.choice(["good", "fair", "bad"], 400)
    table = write_csv(
        folder / "t.csv",
        ("wide", "colour", "small", "kind"),
        (wide, rng.choice(["red", "blue"], 400), rng.normal(size=400).round(4), kind),
    )
    other = (5000 * rng.normal(size=40), ["red", "blue"] * 20, rng.normal(size=40), ["good", "bad"] * 20)
    write_csv(folder / "other.csv", ("wide", "colour", "small", "kind"), other)
    write_csv(folder / "columns.csv", ("wide", "small", "kind"), (["1"], ["2"], ["good"]))
    dataset = read_dataset(table, target="kind")
    split = split_dataset(dataset, seed=0)
    keras.utils.set_random_seed(0)
    config = MixtureConfig(expert=ExpertConfig(hidden=(8,)), gate=GateConfig(num_experts=3, hidden=(6,)))
    preprocess = fit_preprocess(dataset.schema, dataset.features[split.train])
    model = build_mixture(config, 3, 3, preprocess=preprocess)
    save_model(model, folder / "m.keras", schema=dataset.schema, mixture_config=config, split=split)
    return folder, dataset, split, model


def test_calibrates_on_the_remembered_training_rows(job, tmp_path):
    folder, dataset, split, model = job
    result = run(folder / "m.keras", folder / "t.csv", "-o", tmp_path / "m.tflite")
    assert result.exit_code == 0, result.output
    size = (tmp_path / "m.tflite").stat().st_size
    assert f"Calibration: {len(split.train)} rows" in result.output
    assert f"{tmp_path / 'm.tflite'}: {size:,} bytes, w8a8" in result.output.replace("\n", "")
    assert "Ran it on 200 training rows of t.csv" in result.output and "strong in: rows" in result.output
    assert "Next: moe-edge validate" in result.output
    rows = dataset.features[split.test]
    with Predictor(tmp_path / "m.tflite") as predictor:
        assert predictor.labels == dataset.schema.labels
        got = predictor.predict_raw(rows)["prediction"]
    np.testing.assert_allclose(got, model.predict(rows, verbose=0), atol=0.05)


def test_json_is_one_document(job, tmp_path):
    folder, _, split, _ = job
    result = run(folder / "m.keras", folder / "t.csv", "-o", tmp_path / "m.tflite", "--json")
    document = json.loads(result.stdout)
    assert document["num_bytes"] == (tmp_path / "m.tflite").stat().st_size
    assert document["scheme"] == "w8a8" and document["coverage"]["num_rows"] == len(split.train)
    assert 0 < document["max_abs_error"] < 0.05 and document["top1_agreement"] > 0.9


def test_quiet_prints_nothing(job, tmp_path):
    result = run(job[0] / "m.keras", "-o", tmp_path / "m.tflite", "--scheme", "float16", "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_options_reach_the_file(job, tmp_path):
    arguments = ("--scheme", "dynamic_w8", "--per-tensor", "--gate-scheme", "float16", "--expert-scheme", "1=float32")
    assert run(job[0] / "m.keras", "-o", tmp_path / "m.tflite", *arguments).exit_code == 0
    with Predictor(tmp_path / "m.tflite") as predictor:
        manifest = predictor.manifest
    schemes = {part.id: part.scheme for part in manifest.parts}
    assert manifest.per_tensor and schemes["gate"] == "float16"
    assert [schemes[f"expert_{index}"] for index in range(3)] == ["dynamic_w8", "float32", "dynamic_w8"]
    assert manifest.provenance["source"] == "m.keras"


def test_writes_beside_the_model_by_default(job, tmp_path):
    model = tmp_path / "mine.keras"
    model.write_bytes((job[0] / "m.keras").read_bytes())
    assert run(model, "--scheme", "float32").exit_code == 0
    assert (tmp_path / "mine.tflite").is_file()


def test_another_table_needs_all_rows(job, tmp_path):
    folder = job[0]
    arguments = (folder / "m.keras", folder / "other.csv", "-o", tmp_path / "m.tflite")
    result = run(*arguments)
    assert result.exit_code == 1
    assert "isn't the table" in result.output and "--all-rows" in result.output
    assert list(tmp_path.iterdir()) == []
    result = run(*arguments, "--all-rows")
    assert result.exit_code == 0, result.output
    assert "Calibration: 40 rows" in result.output


def test_a_plain_keras_model_takes_the_table_as_it_is(tmp_path):
    """A model of another tool has no schema and no split."""
    import keras

    from moe_edge.training import create_moe_model

    keras.utils.set_random_seed(0)
    create_moe_model(2, 3, 2).save(tmp_path / "m.keras")
    rows = np.random.default_rng(0).normal(size=(2, 100))
    table = write_csv(tmp_path / "t.csv", ("a", "b"), rows)
    result = run(tmp_path / "m.keras", table, "-o", tmp_path / "m.tflite")
    assert result.exit_code == 0, result.output
    assert "Calibration: 100 rows" in result.output
    narrow = write_csv(tmp_path / "narrow.csv", ("a",), rows[:1])
    result = run(tmp_path / "m.keras", narrow, "-o", tmp_path / "m.tflite")
    assert result.exit_code == 1 and "expected at least 2 columns" in result.output


@pytest.mark.parametrize("option", ["--scheme", "--gate-scheme"])
def test_calibrating_schemes_ask_for_the_table(job, tmp_path, option):
    result = run(job[0] / "m.keras", "-o", tmp_path / "m.tflite", "--scheme", "float16", option, "w8a8")
    assert result.exit_code == 2
    message = " ".join(result.output.split())
    assert "w8a8 calibrates on DATA, the table that the model was trained on" in message


@pytest.mark.parametrize("value", ["1", "x=w4", "1=int8", "=w4"])
def test_a_malformed_expert_scheme_is_a_usage_error(job, tmp_path, value):
    result = run(job[0] / "m.keras", "-o", tmp_path / "m.tflite", "--scheme", "float16", "--expert-scheme", value)
    assert result.exit_code == 2 and "expert-scheme" in result.output


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("m.onnx", "expected an output file that ends in .tflite"),
        ("nowhere/m.tflite", "there is no folder"),
    ],
)
def test_an_output_that_cannot_be_written(job, tmp_path, output, message):
    result = run(job[0] / "m.keras", "-o", tmp_path / output, "--scheme", "float16")
    assert result.exit_code == 1
    assert message in result.output and len(result.output.strip().splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_foreign_and_truncated_models_end_in_one_line(tmp_path, content):
    (tmp_path / "m.keras").write_bytes(content)
    result = run(tmp_path / "m.keras", "-o", tmp_path / "m.tflite", "--scheme", "float16")
    assert result.exit_code == 1 and "expected a .keras" in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "m.tflite").exists()


def test_a_model_that_is_no_mixture_keeps_the_old_file(tmp_path):
    import keras

    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "m.keras")
    (tmp_path / "m.tflite").write_bytes(b"old")
    result = run(tmp_path / "m.keras", "-o", tmp_path / "m.tflite", "--scheme", "float16")
    assert result.exit_code == 1 and "expected a mixture of experts" in result.output
    assert (tmp_path / "m.tflite").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.keras", "m.tflite"]


def test_missing_columns_are_named(job, tmp_path):
    result = run(job[0] / "m.keras", job[0] / "columns.csv", "-o", tmp_path / "m.tflite")
    assert result.exit_code == 1 and "'colour'" in result.output


def test_help_lists_the_schemes():
    result = run("--help")
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    assert "w8a8: int8 weights and activations" in text and "--self-contained" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "microcontroller", "--scheme", "w4"], "TFLite Micro runs float32 and w8a8, got w4"),
        (["--target", "int8-accelerator", "--scheme", "float16"], "expected w8a8 for every expert, got float16"),
        (["--scheme", "float16", "--expert-scheme", "9=w4"], "expected experts 0 to 2, got a scheme for expert 9"),
    ],
)
def test_mistakes_are_told_before_tensorflow_is_imported(job, tmp_path, monkeypatch, options, said):
    monkeypatch.setattr("moe_edge.training.keras_setup.load_keras", lambda: pytest.fail("TensorFlow was imported"))
    result = run(job[0] / "m.keras", "-o", tmp_path / "m.tflite", *options)
    assert result.exit_code == 1, result.output
    assert said in result.stderr and len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_validate_would_refuse_is_warned_of_at_once(job, tmp_path):
    folder = job[0]
    tables = (folder / "m.keras", folder / "t.csv", "-o", tmp_path / "m.tflite", "--scheme", "float32")
    one = run(*tables, "--top-k", 1)
    assert one.exit_code == 0, one.output
    assert "Warning: validate would fail on the validation rows: expected the same label for" in one.stderr
    assert "only the strongest 1 of each row's experts answer" in one.stderr
    refused = CliRunner().invoke(main, ["validate", *map(str, (tables[0], tables[3], tables[1]))])
    assert refused.exit_code == 1
    every = run(*tables)
    assert every.exit_code == 0 and every.stderr == ""


def test_the_rows_of_the_check_are_told(job, tmp_path):
    result = run(job[0] / "m.keras", "-o", tmp_path / "m.tflite", "--scheme", "float16")
    assert "Ran it on 200 seeded rows in the columns' range (no DATA was given)" in result.stdout
    assert "spread" not in result.stdout, "classes have none"


def test_the_ladder_fits_eighty_columns(job, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    folder = job[0]
    options = ("-o", tmp_path / "m.tflite", "--scheme", "auto", "--max-accuracy-drop", 100)
    result = run(folder / "m.keras", folder / "t.csv", *options)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("Ladder on"))
    end = next(index for index, line in enumerate(lines[start:], start) if line.startswith("└"))
    rungs = [line for line in lines[start:end] if line.startswith("│")]
    assert rungs and all(line.split("│")[-2].strip() in ("chosen", "yes", "no") for line in rungs)
    assert sum("chosen" in line for line in rungs) == 1 and max(map(len, lines[start:end])) <= 80
