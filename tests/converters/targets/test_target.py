"""What a target forces, and that a report never says "ran" of what was only checked."""

from __future__ import annotations

import pytest

from moe_edge.errors import ConversionError
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.targets.target import Evidence, Target, TargetReport, parse_target
from moe_edge_converters.targets.target_options import fit_options


def options(target, **others):
    return ConversionOptions(target=target, **others)


def test_a_target_by_its_name():
    assert parse_target("web") is Target.WEB and parse_target(Target.LITERT) is Target.LITERT
    with pytest.raises(ConversionError, match=r"expected a target among litert, tflite-runtime-2.14, web"):
        parse_target("toaster")
    assert all(target.summary for target in Target)


def test_litert_and_web_force_nothing():
    for target in (Target.LITERT, Target.WEB):
        for scheme in Scheme:
            given = options(target, scheme=scheme)
            assert fit_options(given) == given


def test_tflite_runtime_gets_per_tensor_weights_only_where_it_needs_them():
    assert fit_options(options(Target.TFLITE_RUNTIME, scheme=Scheme.DYNAMIC_W8)).per_tensor
    assert fit_options(options(Target.TFLITE_RUNTIME, expert_schemes={2: Scheme.DYNAMIC_W8})).per_tensor
    assert not fit_options(options(Target.TFLITE_RUNTIME, scheme=Scheme.W8A8)).per_tensor
    with pytest.raises(ConversionError, match="4-bit weights and answers wrongly"):
        fit_options(options(Target.TFLITE_RUNTIME, expert_schemes={0: Scheme.W4}))


@pytest.mark.parametrize("scheme", [scheme for scheme in Scheme if scheme is not Scheme.W8A8])
def test_an_int8_accelerator_wants_every_expert_in_w8a8(scheme):
    with pytest.raises(ConversionError, match=f"w8a8 for every expert, got {scheme.value}"):
        fit_options(options(Target.INT8_ACCELERATOR, scheme=scheme))
    if scheme is not Scheme.FLOAT32:
        with pytest.raises(ConversionError, match=f"got {scheme.value}"):
            fit_options(options(Target.INT8_ACCELERATOR, expert_schemes={1: scheme}))
    fit_options(options(Target.INT8_ACCELERATOR, gate_scheme=scheme))


def test_an_expert_in_float32_is_no_int8_expert():
    with pytest.raises(ConversionError, match="got float32"):
        fit_options(options(Target.INT8_ACCELERATOR, expert_schemes={1: Scheme.FLOAT32}))


def test_a_microcontroller_gets_one_graph_with_its_weights_inside():
    for scheme in (Scheme.FLOAT32, Scheme.W8A8):
        fitted = fit_options(options(Target.MICROCONTROLLER, scheme=scheme))
        assert fitted.self_contained and fitted.routed is False and fitted.scheme is scheme
    for scheme in (Scheme.FLOAT16, Scheme.DYNAMIC_W8, Scheme.W8A16, Scheme.W4):
        with pytest.raises(ConversionError, match=f"float32 and w8a8, got {scheme.value}"):
            fit_options(options(Target.MICROCONTROLLER, gate_scheme=scheme))
    with pytest.raises(ConversionError, match="drop --top-k"):
        fit_options(options(Target.MICROCONTROLLER, top_k=2))
    with pytest.raises(ConversionError, match="drop --top-k and --routed"):
        fit_options(options(Target.MICROCONTROLLER, routed=True))


def test_a_report_says_ran_or_checked():
    ran = TargetReport(
        target=Target.TFLITE_RUNTIME,
        evidence=Evidence.RAN,
        runtime="tflite-runtime 2.14.0",
        num_rows=200,
        max_abs_error=0.0012345,
        top1_agreement=0.995,
        arena_bytes=9216,
        notes=("a note",),
    )
    assert ran.lines()[0].startswith("tflite-runtime-2.14: ran 200 rows on tflite-runtime 2.14.0")
    assert "99.5%" in ran.lines()[0] and "9,216 bytes" in ran.lines()[1] and ran.lines()[2] == "a note"
    assert ran.to_record() == {
        "name": "tflite-runtime-2.14",
        "evidence": "ran",
        "runtime": "tflite-runtime 2.14.0",
        "rows": 200,
        "max_abs_error": 0.00123,
        "top1_agreement": 0.995,
        "arena_bytes": 9216,
        "notes": ["a note"],
    }
    checked = TargetReport(target=Target.WEB, evidence=Evidence.CHECKED, runtime="a table")
    assert "not run here" in checked.lines()[0] and "ran " not in checked.lines()[0]
    assert "rows" not in checked.to_record()
