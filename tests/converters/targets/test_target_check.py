"""Files are accepted by their answers where the target runs, and by tables, with the first layer named, elsewhere."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from moe_edge.errors import ConversionError
from moe_edge.runtime.model_file import ModelFile
from moe_edge_converters.conversion import convert_spec
from moe_edge_converters.file_writer import read_model, serialize
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.targets import target_check, target_runs
from moe_edge_converters.targets.target import Evidence, Target
from moe_edge_converters.targets.target_check import check_target
from moe_edge_converters.targets.target_runs import TFLITE_MICRO, TFLITE_RUNTIME, TargetRun, run_litert


@pytest.fixture(scope="module")
def spec(mixtures):
    return mixtures.make_spec(preprocess=True)


@pytest.fixture(scope="module")
def rows(mixtures, spec):
    return mixtures.make_rows(spec, 200, missing=0.05)


@pytest.fixture(scope="module")
def convert(spec, rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("targets")

    def make(target=Target.LITERT, scheme=Scheme.W8A8, **options):
        path = folder / f"model-{len(list(folder.iterdir()))}.tflite"
        chosen = ConversionOptions(target=target, scheme=scheme, **options)
        return convert_spec(spec, path, reference=None, rows=rows, options=chosen)

    return make


@pytest.fixture
def old_runtime(old_runtime_python, monkeypatch):
    monkeypatch.setenv(TFLITE_RUNTIME.variable, str(old_runtime_python))


@pytest.mark.parametrize("scheme", [Scheme.FLOAT32, Scheme.FLOAT16, Scheme.DYNAMIC_W8, Scheme.W8A8, Scheme.W8A16])
def test_tflite_runtime_answers_every_signature_like_litert(convert, old_runtime, scheme):
    result = convert(Target.TFLITE_RUNTIME, scheme)
    report = result.target
    assert report.evidence is Evidence.RAN and report.runtime == "tflite-runtime 2.14.0" and report.num_rows == 200
    assert set(report.signatures) == {"serving_default", "gate", "expert_0", "expert_1", "expert_2", "combine"}
    assert result.manifest.per_tensor is (scheme is Scheme.DYNAMIC_W8)
    assert result.manifest.extras["target"] == report.to_record()
    with ModelFile.open(result.path) as file:
        assert file.manifest.extras["target"]["evidence"] == "ran"


def test_a_file_that_tflite_runtime_miscomputes_is_refused_by_its_answers(convert, rows, old_runtime):
    content = convert(Target.LITERT, Scheme.DYNAMIC_W8).path.read_bytes()
    with pytest.raises(ConversionError, match="answers serving_default otherwise than LiteRT"):
        check_target(content, Target.TFLITE_RUNTIME, rows)


def test_without_tflite_runtime_a_file_is_only_checked(convert, rows, monkeypatch):
    monkeypatch.delenv(TFLITE_RUNTIME.variable, raising=False)
    monkeypatch.setattr(target_runs.util, "find_spec", lambda name: None)
    report = convert(Target.TFLITE_RUNTIME).target
    assert report.evidence is Evidence.CHECKED and report.num_rows == 0 and report.max_abs_error is None
    assert "FULLY_CONNECTED" in report.operators and TFLITE_RUNTIME.variable in report.notes[0]


def test_an_operator_too_new_for_tflite_runtime_is_named_with_its_layer(convert, rows):
    model = read_model(convert().path.read_bytes())
    for code in model.operatorCodes:
        if code.builtinCode == 9:
            code.version = 12
    content = serialize(model, manifest=None)
    with pytest.raises(ConversionError, match=r"versions up to 10: layer gate/dense_0 \(FULLY_CONNECTED version 12\)"):
        check_target(content, Target.TFLITE_RUNTIME, rows)


def test_a_python_that_is_not_there_or_has_no_runtime(convert, rows, monkeypatch, tmp_path):
    content = convert().path.read_bytes()
    monkeypatch.setenv(TFLITE_RUNTIME.variable, str(tmp_path / "python"))
    with pytest.raises(ConversionError, match="got no file"):
        check_target(content, Target.TFLITE_RUNTIME, rows)
    (tmp_path / "python").write_text("no program")
    with pytest.raises(ConversionError, match="can't start"):
        check_target(content, Target.TFLITE_RUNTIME, rows)
    monkeypatch.setenv(TFLITE_RUNTIME.variable, sys.executable)
    with pytest.raises(ConversionError, match=r"tflite-runtime can't run this file.*tflite_runtime"):
        check_target(content, Target.TFLITE_RUNTIME, rows)


def test_litert_runs_all_signatures(convert, rows):
    report = convert().target
    assert report.evidence is Evidence.RAN and report.max_abs_error is None and "combine" in report.signatures


def test_web_is_checked_at_the_edges_of_every_signature(convert, rows):
    report = convert(Target.WEB).target
    assert report.evidence is Evidence.CHECKED and "expert_2" in report.signatures
    assert "signatures.serving_default" in report.notes[0]
    int8 = convert(Target.LITERT, int8_io=True).path.read_bytes()
    with pytest.raises(ConversionError, match="signature serving_default, x is int8"):
        check_target(int8, Target.WEB, rows)


def test_web_refuses_a_free_batch_and_a_file_without_serving_default(convert, rows):
    model = read_model(convert().path.read_bytes())
    tensor = model.subgraphs[2].tensors[model.subgraphs[2].inputs[0]]
    tensor.shapeSignature = [-1, *list(tensor.shape)[1:]]
    with pytest.raises(ConversionError, match="signature expert_0, features has a free dimension"):
        check_target(serialize(model, manifest=None), Target.WEB, rows)
    del model.signatureDefs[0]
    with pytest.raises(ConversionError, match=r"asks for serving_default by name, got .*'combine'"):
        check_target(serialize(model, manifest=None), Target.WEB, rows)


def test_an_accelerator_report_says_what_stays_float(convert):
    report = convert(Target.INT8_ACCELERATOR).target
    assert report.evidence is Evidence.CHECKED
    first, second, third = report.notes
    assert "stay float" in first and "first layer that stays float: preprocess/" in second and "CPU" in second
    assert "--per-tensor" in third
    per_tensor = convert(Target.INT8_ACCELERATOR, per_tensor=True).target
    assert len(per_tensor.notes) == 2


def test_an_accelerator_refuses_a_layer_that_isnt_int8(convert, rows):
    mixed = convert(Target.LITERT, expert_schemes={1: Scheme.FLOAT16}).path.read_bytes()
    with pytest.raises(ConversionError, match=r"layer expert_1/dense_0 \(FULLY_CONNECTED.*float32"):
        check_target(mixed, Target.INT8_ACCELERATOR, rows)


@pytest.mark.parametrize("scheme", [Scheme.FLOAT32, Scheme.W8A8])
def test_tflite_micro_answers_like_litert(convert, scheme):
    pytest.importorskip("tflite_micro", reason="wheels for Linux x86-64 only")
    result = convert(Target.MICROCONTROLLER, scheme)
    report = result.target
    assert report.evidence is Evidence.RAN and report.runtime.startswith("tflite-micro ")
    assert 0 < report.arena_bytes < 65536 and report.arena_bytes % 256 == 0
    assert report.array_bytes < result.num_bytes and "FULLY_CONNECTED" in report.operators
    assert [path.suffix for path in result.sources] == [".h", ".cc"]
    with ModelFile.open(result.path) as file:
        assert list(file.signatures) == ["serving_default"] and file.structure.head == len(file.content)
    assert f"arena_bytes = {report.arena_bytes};" in result.sources[0].read_text()


def test_tflite_micro_takes_int8_rows(convert):
    pytest.importorskip("tflite_micro", reason="wheels for Linux x86-64 only")
    assert convert(Target.MICROCONTROLLER, int8_io=True).target.evidence is Evidence.RAN


def test_without_tflite_micro_a_file_is_only_checked(convert, monkeypatch):
    monkeypatch.delenv(TFLITE_MICRO.variable, raising=False)
    monkeypatch.setattr(target_runs.util, "find_spec", lambda name: None)
    result = convert(Target.MICROCONTROLLER)
    assert result.target.evidence is Evidence.CHECKED and "pip install 'tflite-micro" in result.target.notes[0]
    assert "arena_bytes" not in result.sources[0].read_text()


def test_a_microcontroller_refuses_what_it_cant_run(convert, rows):
    with pytest.raises(ConversionError, match="expected serving_default alone"):
        check_target(convert().path.read_bytes(), Target.MICROCONTROLLER, rows)
    for scheme, words in ((Scheme.DYNAMIC_W8, "float32 with int8"), (Scheme.FLOAT16, "float16 with float32")):
        content = convert(Target.LITERT, scheme, routed=False, self_contained=True).path.read_bytes()
        with pytest.raises(ConversionError, match=f"can't compute {words}: layer "):
            check_target(content, Target.MICROCONTROLLER, rows)


def test_a_runtime_that_dies_or_hangs_is_reported(convert, rows, monkeypatch):
    content = convert().path.read_bytes()
    for code, message in (
        ("import os; os.abort()", "ended its process .signal 6"),
        ("while True: pass", "didn't answer"),
    ):
        fake = SimpleNamespace(__file__="-c")
        monkeypatch.setattr(target_runs, "target_child", fake)
        monkeypatch.setattr(target_runs, "TIMEOUT_S", 2.0)
        runtime = target_runs.ForeignRuntime(name=code, module="json", variable="MOE_EDGE_TEST_PYTHON")
        with pytest.raises(ConversionError, match=message):
            target_runs.run_foreign(runtime, content, rows[:2])


def test_comparison_can_fail(convert, rows):
    content = convert().path.read_bytes()
    reference = run_litert(content, rows)
    for change, message in (
        (lambda a: a + 0.2, "largest difference 0.2"),
        (lambda a: np.where(a == a.max(), np.nan, a), "NaN"),
        (lambda a: a[:, ::-1], "otherwise than LiteRT"),
        (lambda a: a[:5], "another shape"),
    ):
        answers = {"combine/prediction": change(reference.answers["combine/prediction"])}
        wrong = TargetRun(runtime="a runtime", answers={**reference.answers, **answers})
        with pytest.raises(ConversionError, match=f"a runtime answers combine.*{message}"):
            target_check._compare(reference, wrong, content, classifies=True, where="a runtime")
    assert target_check._compare(reference, reference, content, classifies=True, where="") == (0.0, 1.0)


def test_no_rows_is_an_error(convert, rows):
    with pytest.raises(ConversionError, match="expected rows to answer"):
        check_target(convert().path.read_bytes(), Target.LITERT, rows[:0])


def test_a_refused_target_leaves_no_file(spec, rows, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise ConversionError("refused")

    monkeypatch.setattr("moe_edge_converters.conversion.check_target", refuse)
    with pytest.raises(ConversionError, match="refused"):
        convert_spec(spec, tmp_path / "m.tflite", reference=None, rows=rows, options=ConversionOptions())
    assert list(tmp_path.iterdir()) == []


def test_records_are_plain_json(convert):
    assert json.loads(json.dumps(convert().target.to_record()))["name"] == "litert"
