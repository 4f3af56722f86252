"""The whole way to a checked file: sizes, answers, coverage in the manifest, and what is refused before anything is lost."""

import json

import numpy as np
import pytest

from moe_edge import Predictor
from moe_edge.config import Combine
from moe_edge.errors import ConversionError, MoeEdgeError
from moe_edge.manifest import Role
from moe_edge.runtime.model_file import ModelFile
from moe_edge.schema import numbered_schema
from moe_edge_converters.conversion import STAGES, check_rows, convert, convert_spec, probe_rows
from moe_edge_converters.inspection import inspect_file
from moe_edge_converters.options import ConversionOptions, parse_scheme
from moe_edge_converters.schemes.scheme import Scheme

SCHEMES = list(Scheme)


@pytest.fixture(scope="module")
def reference_spec(mixtures):
    """The reference mixture: 5 experts of 64 and 32 units, a gate of 32, 64 columns, 10 classes."""
    return mixtures.make_spec(
        num_experts=5, num_columns=64, num_outputs=10, hidden=(64, 32), gate_hidden=(32,), preprocess=True
    )


@pytest.fixture
def write(tmp_path):
    """Convert a mixture to ``model.tflite``."""

    def convert_it(spec, rows=None, *, schema=None, reference=None, progress=None, **options):
        return convert_spec(
            spec,
            tmp_path / "model.tflite",
            reference=reference,
            rows=probe_rows(spec) if rows is None else rows,
            options=ConversionOptions(**options),
            schema=schema,
            progress=progress,
        )

    return convert_it


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("combine", list(Combine))
def test_every_scheme_writes_a_file_that_answers(mixtures, write, combine, scheme):
    spec = mixtures.make_spec(combine=combine, num_columns=16, hidden=(24, 16), preprocess=True)
    rows = mixtures.make_rows(spec, 300, missing=0.03)
    result = write(spec, rows, scheme=scheme)
    assert result.num_bytes == result.path.stat().st_size
    expected = mixtures.reference(spec, rows)
    scale = np.abs(expected.prediction).max()
    with Predictor(result.path) as predictor:
        raw = predictor.predict_raw(rows)
    tolerance = {"float32": 1e-5, "float16": 0.01, "w4": 0.6}.get(scheme.value, 0.15)
    np.testing.assert_allclose(raw["prediction"], expected.prediction, atol=tolerance * scale)
    np.testing.assert_allclose(raw["routing_weights"], expected.routing_weights, atol=1e-5)
    if combine is Combine.GAUSSIAN:
        assert (raw["sigma"] > 0).all()
        np.testing.assert_allclose(raw["sigma"], expected.sigma, atol=2 * tolerance * expected.sigma.max())
    assert (result.coverage is not None) == scheme.needs_calibration


def test_the_default_file_is_less_than_half_of_the_float_one(mixtures, reference_spec, write):
    rows = mixtures.make_rows(reference_spec, 600)
    sizes = {scheme: write(reference_spec, rows, scheme=scheme).num_bytes for scheme in SCHEMES}
    assert sizes[Scheme.W8A8] <= 0.47 * sizes[Scheme.FLOAT32]
    assert sizes[Scheme.W4] < sizes[Scheme.W8A8] < sizes[Scheme.FLOAT16] < sizes[Scheme.FLOAT32]
    weights = 5 * (64 * 64 + 64 * 32 + 32 * 10) + 64 * 32 + 32 * 5
    assert sizes[Scheme.FLOAT32] < 1.25 * 4 * weights


def test_default_answers_agree(mixtures, reference_spec, write):
    rows = mixtures.make_rows(reference_spec, 1000)
    result = write(reference_spec, rows[:600])
    expected = mixtures.reference(reference_spec, rows).prediction.argmax(axis=1)
    with Predictor(result.path) as predictor:
        got = predictor.predict_proba(rows).argmax(axis=1)
    # Random weights leave many rows between two classes; a trained mixture agrees on 99 % and more.
    assert (got == expected).mean() > 0.96
    assert result.check.num_rows == 200 and result.check.top1_agreement > 0.95


@pytest.mark.parametrize("scheme", SCHEMES)
def test_same_input_same_bytes(mixtures, write, scheme):
    spec = mixtures.make_spec(preprocess=True)
    rows = mixtures.make_rows(spec, 300)
    first = write(spec, rows, scheme=scheme).path.read_bytes()
    assert write(spec, rows, scheme=scheme).path.read_bytes() == first


@pytest.mark.parametrize("scheme", SCHEMES)
def test_self_contained_files_answer_alike(mixtures, write, scheme):
    spec = mixtures.make_spec(num_columns=16, hidden=(24, 16))
    rows = mixtures.make_rows(spec, 64)
    shared = write(spec, rows, scheme=scheme).path.read_bytes()
    alone = write(spec, rows, scheme=scheme, self_contained=True).path.read_bytes()
    with ModelFile.open(alone) as file:
        assert file.structure.head == len(alone) > len(shared)
        file.verify_weights()
    for batch in mixtures.BATCHES:
        for got, expected in zip(
            mixtures.run_by_position(alone, rows[:batch]), mixtures.run_by_position(shared, rows[:batch]), strict=True
        ):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("combine", [Combine.PROBABILITIES, Combine.GAUSSIAN])
def test_batches_agree_by_position_and_output_0_is_the_prediction(mixtures, write, combine, scheme):
    spec = mixtures.make_spec(num_experts=4, combine=combine, hidden=[(8, 5), (8, 5), (4,), ()], preprocess=True)
    rows = mixtures.make_rows(spec, 300, missing=0.05)
    content = write(spec, rows, scheme=scheme).path.read_bytes()
    singles = [mixtures.run_by_position(content, row[None]) for row in rows[:64]]
    assert singles[0][0].shape == (1, spec.num_outputs) and singles[0][1].shape == (1, 4)
    for batch in mixtures.BATCHES:
        got = mixtures.run_by_position(content, rows[:batch])
        for position, values in enumerate(got):
            single = np.concatenate([answer[position] for answer in singles[:batch]])
            np.testing.assert_allclose(values, single, rtol=1e-4, atol=0.03 * np.abs(single).max())
            assert np.mean(np.abs(values - single) > 1e-5 * np.abs(single).max()) < 0.05


def test_each_expert_may_have_its_own_scheme(mixtures, write):
    spec = mixtures.make_spec(num_experts=5, num_columns=16, hidden=(24, 16))
    own = {1: Scheme.FLOAT32, 3: Scheme.FLOAT32, 4: Scheme.FLOAT16}
    result = write(spec, expert_schemes=own)
    schemes = {part.id: part.scheme for part in result.manifest.parts if part.role is Role.EXPERT}
    assert list(schemes.values()) == ["w8a8", "float32", "w8a8", "float32", "float16"]
    with pytest.raises(ConversionError, match="expected experts 0 to 4, got a scheme for expert 5"):
        write(spec, expert_schemes={5: Scheme.FLOAT32})


def test_the_manifest_says_what_was_done(mixtures, write):
    spec = mixtures.make_spec(preprocess=True)
    rows = mixtures.make_rows(spec, 250, missing=0.1)
    result = write(spec, rows, provenance={"licence": "CC0"})
    with ModelFile.open(result.path) as file:
        manifest = file.manifest
    assert manifest == result.manifest
    assert manifest.calibration == {"rows": 250, "rows_per_expert": list(result.coverage.own)}
    assert (manifest.scheme, manifest.num_experts, manifest.input_shape) == ("w8a8", 3, (6,))
    assert manifest.provenance["licence"] == "CC0"
    assert {part.id: part.scheme for part in manifest.parts}["gate"] == "float32"
    golden = np.array(manifest.golden.inputs, dtype=np.float32)
    with Predictor(result.path) as predictor:
        answers = predictor.predict_raw(golden)["prediction"]
    np.testing.assert_allclose(answers, manifest.golden.predictions, atol=1e-3)


def test_progress_reaches_its_end(mixtures, write):
    steps = []
    write(mixtures.make_spec(), progress=lambda count, note: steps.append(count))
    # `convert` itself reports one stage before.
    assert 0 < sum(steps) <= STAGES


# Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((5, 7)), r"expected calibration rows of shape \(n, 6\) with n >= 1, got \(5, 7\)"),
        (np.zeros(6), r"shape \(n, 6\).*got \(6,\)"),
        (np.zeros((0, 6)), r"n >= 1, got \(0, 6\)"),
        (np.float64(3), r"got \(\)"),
        (np.full((2, 6), np.inf), "expected finite calibration rows"),
        (np.full((2, 6), np.nan), "expected finite calibration rows"),
        (np.full((2, 6), 1e300), "expected finite calibration rows"),
        (np.full((2, 6), "red"), "expected numeric calibration rows, got dtype <U3; encode texts"),
        ([[None] * 6], "got dtype object"),
    ],
    ids=["columns", "one row", "empty", "scalar", "inf", "nan", "beyond float32", "texts", "objects"],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_bad_calibration_rows(mixtures, rows, message):
    with pytest.raises(ConversionError, match=message):
        check_rows(rows, mixtures.make_spec())


def test_good_calibration_rows_become_float32(mixtures):
    plain, table = mixtures.make_spec(), mixtures.make_spec(preprocess=True)
    for rows in (np.ones((2, 6), np.int64), [[True] * 6], np.ones((6, 3)).T, np.ones((9, 6))[::2]):
        checked = check_rows(rows, plain)
        assert checked.dtype == np.float32 and checked.flags.c_contiguous
    assert np.isnan(check_rows(np.full((2, 6), np.nan), table)).all()


def test_calibrating_schemes_need_rows(mixtures, tmp_path):
    spec = mixtures.make_spec()
    for options in ({"scheme": Scheme.W8A8}, {"scheme": Scheme.FLOAT16, "gate_scheme": Scheme.W8A16}):
        with pytest.raises(ConversionError, match=r"measures the ranges .*got none; give calibration=x_train"):
            convert_spec(spec, tmp_path / "m.tflite", reference=None, rows=None, options=ConversionOptions(**options))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_scheme_lists_the_known_ones():
    with pytest.raises(ConversionError, match=r"expected a scheme among float32, float16, .*got 'int8'"):
        parse_scheme("int8")


def test_labels_must_be_as_many_as_outputs(mixtures, write, tmp_path):
    spec = mixtures.make_spec(num_outputs=4)
    with pytest.raises(ConversionError, match="expected 4 labels, got 3"):
        write(spec, schema=numbered_schema(6, 3, spec.task))
    assert list(tmp_path.iterdir()) == []


def poison(rows):
    return np.full((len(rows), 4), np.nan, np.float32)


def differ(rows):
    return np.full((len(rows), 4), 0.25, np.float32)


def short(rows):
    return np.full((len(rows), 3), 0.25, np.float32)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (poison, "the source model answers with NaN"),
        (differ, "the float32 file differs from its source by"),
        (short, r"expected answers of shape \(200, 3\), the file gives \(200, 4\)"),
    ],
)
def test_an_old_file_survives_a_failed_conversion(mixtures, write, tmp_path, reference, message):
    spec = mixtures.make_spec()
    old = write(spec).path.read_bytes()
    with pytest.raises(ConversionError, match=message):
        write(spec, reference=reference, scheme=Scheme.FLOAT32)
    assert [path.name for path in tmp_path.iterdir()] == ["model.tflite"]
    assert (tmp_path / "model.tflite").read_bytes() == old


def test_a_dead_expert_stops_w8a8_but_not_float16(mixtures, write):
    spec = mixtures.make_spec()
    *hidden, last = spec.gate.layers
    dead = mixtures.replace(last, bias=last.bias - np.array([0, 500, 0], np.float32))
    spec = mixtures.replace(spec, gate=mixtures.replace(spec.gate, layers=(*hidden, dead)))
    with pytest.raises(ConversionError, match="expert_1 has no calibration row"):
        write(spec)
    write(spec, scheme=Scheme.FLOAT16)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.tfl", r"ends in \.tflite, got .*try .*model\.tflite"),
        ("nowhere/model.tflite", r"there is no folder .*nowhere"),
        ("folder.tflite", r"got the folder .*folder\.tflite"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_first(tmp_path, name, message):
    (tmp_path / "folder.tflite").mkdir()
    with pytest.raises(MoeEdgeError, match=message):
        # No model at all: the path is looked at before it.
        convert(None, tmp_path / name)


# From Keras -------------------------------------------------------------------------------------------------------


def test_from_keras_in_memory(tmp_path):
    import keras

    from moe_edge.training import create_moe_model

    keras.utils.set_random_seed(0)
    model = create_moe_model(16, 4, 3)
    rows = np.random.default_rng(0).normal(size=(300, 16))
    steps = []
    result = convert(
        model, str(tmp_path / "m.tflite"), calibration=rows, progress=lambda count, note: steps.append(count)
    )
    assert sum(steps) == STAGES
    assert result.check.top1_agreement > 0.95 and result.check.max_abs_error < 0.05
    exact = convert(model, tmp_path / "f.tflite", scheme="float32")
    assert exact.check.max_abs_error < 1e-5 and exact.coverage is None
    assert inspect_file(exact.path).manifest.scheme == "float32"
    with pytest.raises(ConversionError, match=r"expected calibration rows of shape \(n, 16\)"):
        convert(model, tmp_path / "m.tflite", calibration=rows[:, :5])
    with pytest.raises(ConversionError, match="expected a scheme among"):
        convert(model, tmp_path / "m.tflite", scheme="tiny")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.tflite", "m.tflite"]
    assert (tmp_path / "m.tflite").stat().st_size == result.num_bytes


def test_from_a_keras_file_of_another_tool(tmp_path):
    """No schema inside: columns and labels are numbered."""
    import keras

    from moe_edge.training import create_moe_model

    keras.utils.set_random_seed(0)
    create_moe_model(6, 3, 2).save(tmp_path / "m.keras")
    result = convert(tmp_path / "m.keras", tmp_path / "m.tflite", scheme="float16")
    assert result.manifest.schema.labels == ("0", "1", "2")
    assert result.manifest.provenance["source"] == "m.keras"
    assert json.loads(result.manifest.to_json())["scheme"] == "float16"
