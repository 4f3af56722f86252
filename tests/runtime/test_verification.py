import json
import math
from dataclasses import replace

import numpy as np
import pytest

from moe_edge.errors import ModelFileError
from moe_edge.manifest import Golden, Manifest
from moe_edge.runtime.model_file import ModelFile
from moe_edge.runtime.verification import FLOAT_TOLERANCE, INT8_STEP, OLD_FLOAT_TOLERANCE, default_tolerance, verify


@pytest.mark.parametrize("kind", ["plain", "table", "regression"])
@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic_w8", "w8a8"])
def test_a_sound_file_passes_in_both_modes(mixture_file, kind, scheme):
    path = mixture_file(kind, scheme=scheme)
    found = verify(path)
    assert found.passed and found.backend == "litert"
    assert [check.mode for check in found.modes] == ["dense", "routed"]
    assert {"serving_default", "gate", "combine", "expert_0"} <= set(found.signatures)
    for check in found.modes:
        assert check.worst <= found.tolerance and check.max_routing_difference is not None and check.us_per_row > 0
        assert check.same_labels == (None if kind == "regression" else found.num_rows)
    assert found.tolerance == (FLOAT_TOLERANCE if scheme.startswith("float") else pytest.approx(INT8_STEP, rel=0.01))


def test_a_damaged_weight_byte_fails(mixture_file):
    content = bytearray(mixture_file("plain").read_bytes())
    content[-100] ^= 1
    with pytest.raises(ModelFileError, match="weights are damaged"):
        verify(bytes(content))


def alter(key):
    def change(text):
        data = json.loads(text)
        data["golden"][key][0][0] = round(data["golden"][key][0][0] + 1e-3, 4)
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    return change


@pytest.mark.parametrize("key", ["predictions", "routing_weights"])
def test_another_stored_answer_fails(mixture_file, rewrite_manifest, key):
    content = rewrite_manifest(mixture_file("plain"), alter(key))
    found = verify(content)
    assert not found.passed
    assert all(5e-4 < check.worst < 2e-3 for check in found.modes)
    assert verify(content, tolerance=0.01).passed


def test_a_file_of_before_routing_was_stored_opens_with_a_wider_tolerance(mixture_file, rewrite_manifest):
    def drop(text):
        data = json.loads(text)
        del data["golden"]["routing_weights"]
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    found = verify(rewrite_manifest(mixture_file("plain"), drop))
    assert found.passed and found.tolerance == OLD_FLOAT_TOLERANCE
    assert all(check.max_routing_difference is None for check in found.modes)


def test_golden_rows_that_do_not_fit_are_refused(mixture_file, rewrite_manifest):
    def shorten(text):
        data = json.loads(text)
        data["golden"]["predictions"].pop()
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    with pytest.raises(ModelFileError, match="golden predictions of 3 values"):
        verify(rewrite_manifest(mixture_file("plain"), shorten))


def test_a_file_without_golden_rows_is_refused(mixture_file, rewrite_manifest):
    def empty(text):
        data = json.loads(text)
        del data["golden"]
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    with pytest.raises(ModelFileError, match="golden vectors"):
        verify(rewrite_manifest(mixture_file("plain"), empty))


def test_a_foreign_file_is_refused(foreign_model):
    with pytest.raises(ModelFileError, match="written by moe-edge"):
        verify(foreign_model)


@pytest.mark.parametrize("tolerance", [0.0, -1.0, math.nan, math.inf])
def test_a_tolerance_is_positive(mixture_file, tolerance):
    with pytest.raises(ValueError, match="tolerance above 0"):
        verify(mixture_file("plain"), tolerance=tolerance)


def test_another_runtime_may_round_int8_otherwise(mixture_file):
    with ModelFile.open(mixture_file("plain", scheme="w8a8")) as file:
        manifest = file.manifest
    assert isinstance(manifest, Manifest)
    assert default_tolerance(manifest, "tflite-runtime") == pytest.approx(5 * default_tolerance(manifest, "litert"))


def test_stored_inputs_are_exact(mixture_file):
    with ModelFile.open(mixture_file("plain")) as file:
        golden = file.manifest.golden
    assert isinstance(golden, Golden) and replace(golden) == golden
    values = np.asarray(golden.inputs)
    # Every stored number is a float32 to nine digits, so reading it as float32 and writing it again changes nothing.
    assert [float(f"{np.float32(value):.9g}") for value in values.reshape(-1)] == values.reshape(-1).tolist()
