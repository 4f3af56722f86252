"""Whatever is wrong, the C host ends with one line and exit code 1 or 2; the program is the sanitized one."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_host import build, command, library, run

from moe_edge.config import Combine, Task
from moe_edge_converters.conversion import convert_spec
from moe_edge_converters.given_rows import probe_rows
from moe_edge_converters.options import ConversionOptions
from moe_edge_converters.schemes.scheme import Scheme
from moe_edge_converters.spec import MixtureSpec, dense_stack

NOTICE = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU."


def refused(*arguments, code=1, **keywords) -> str:
    """The one line that the program gives when it refuses."""
    result = run(*arguments, sanitize=True, **keywords)
    lines = [line for line in result.stderr.splitlines() if line != NOTICE]
    assert result.returncode == code, (result.returncode, result.stdout[-300:], result.stderr[-3000:])
    assert len(lines) == 1, result.stderr[-3000:]
    return lines[0].decode()


def csv(rows) -> bytes:
    return "\n".join(",".join(f"{value:.9g}" for value in row) for row in rows).encode() + b"\n"


@pytest.fixture
def model(host, mixture_file):
    return mixture_file("regression")


ROW = np.arange(6, dtype=np.float32)[None]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"", "expected rows, got none"),
        (b"\n \n", "expected rows, got none"),
        (b"1,2,3\n", "line 1: expected 6 values with commas between them, got 3"),
        (b"1,2,3,4,5,6\n1,2,3,4,5,6,7\n", "line 2: expected 6 values with commas between them, got 7"),
        (
            b"1,2,3,4,5,six\n",
            "line 1, value 6: expected a number, got another text; if this line holds the columns' names",
        ),
        (b"1,2,3,4,5,6\n1,2,3,4,5,6 7\n", "line 2, value 6: expected a number, got another text"),
        (b"1,2,,4,5,6\n", "row 1, value 3: expected a finite number"),
        (b"1,2,nan,4,5,6\n", "row 1, value 3: expected a finite number"),
        (b"1,2,3,4,5,1e39\n", "row 1, value 6: expected a finite number"),
        (b"1,2,-inf,4,5,6\n", "row 1, value 3: expected a finite number"),
        (b"1,2,3,4,5,6\x00\n", "line 1: expected text, got a zero byte"),
    ],
)
def test_rows_that_are_wrong(model, given, said):
    assert said in refused(model, given=given)


def test_binary_rows_that_are_wrong(model):
    whole = ROW.tobytes()
    assert "row 2: expected 24 bytes (6 float32), got 23" in refused("--binary", model, given=whole + whole[:-1])
    assert "row 1, value 1" in refused("--binary", model, given=np.full(6, np.inf, np.float32).tobytes())
    assert "expected rows, got none" in refused("--binary", model)


def test_a_row_without_an_answer_is_named(model):
    """NaN is let through, but this model fills nothing: its gate gives no weights."""
    assert "row 1: the gate gave no weights" in refused("--missing", "--routed", model, given=b"1,2,,4,5,6\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--top-k", "0"), "--top-k of at least 1"),
        (("--top-k", "two"), "--top-k of at least 1"),
        (("--top-k", "99999999999999999999"), "--top-k of at least 1"),
        (("--mass", "0"), "--mass in (0, 1]"),
        (("--mass", "1.5"), "--mass in (0, 1]"),
        (("--mass", "nan"), "--mass in (0, 1]"),
        (("--mixing", "other"), "--mixing file or few"),
        (("--benchmark", "-3"), "--benchmark in [1"),
        (("--wrong",), "unrecognized option"),
        (("--mass",), "requires an argument"),
    ],
)
def test_options_that_are_wrong(host, options, said, tmp_path):
    arguments = options if options == ("--mass",) else (*options, tmp_path / "none.tflite")
    assert said in refused(*arguments, code=2)


def test_arguments_that_are_missing_or_too_many(model):
    assert "expected MODEL.tflite" in refused(code=2)
    assert "expected MODEL.tflite" in refused(model, "-", "more", code=2)


def test_an_output_that_is_not_there(model):
    line = refused("--output", "colour", model, given=csv(ROW))
    assert line.endswith("expected an output of the model, got 'colour'")


def test_files_that_are_not_there(model, tmp_path):
    assert "No such file or directory" in refused(tmp_path / "none.tflite")
    assert "No such file or directory" in refused(model, tmp_path / "none.csv")
    assert "isn't a file" in refused(tmp_path)
    assert "expected LiteRT's library, got none" in refused(model, given=csv(ROW), at=tmp_path / "none.so")


def test_a_library_without_the_functions(model):
    """A shared library, but not LiteRT's."""
    line = refused(model, given=csv(ROW), at="libm.so.6")
    assert "expected libLiteRt.so of ai-edge-litert 2.1.6 or newer, got one without LiteRt" in line


def test_files_that_are_something_else(host, tmp_path):
    path = tmp_path / "something"
    for content, said in (
        (b"", "is empty or truncated"),
        (b"TFL3", "is empty or truncated"),
        (b"PK\x03\x04" + bytes(100), "isn't a .tflite"),
        (b"\x10\x00\x00\x00TFL3" + bytes(100), "wasn't written by moe-edge, or is damaged"),
        (b"\xff\xff\xff\xffTFL3" + b"\xff" * 100, "is truncated or damaged"),
    ):
        path.write_bytes(content)
        assert said in refused(path)


def test_a_truncated_file_never_reaches_the_runtime(model, tmp_path):
    content = model.read_bytes()
    rng = np.random.default_rng(3)
    path = tmp_path / "short.tflite"
    cuts = {1, 7, 8, 15, 16, 40, len(content) // 2, len(content) - 1, *rng.integers(17, len(content), 25).tolist()}
    for cut in sorted(cuts):
        path.write_bytes(content[:cut])
        for unchecked in ((), ("--unchecked",)):
            line = refused(*unchecked, path, given=csv(ROW))
            assert "truncated" in line or "damaged" in line or "isn't a .tflite" in line, (cut, line)


def test_a_damaged_byte_is_found_wherever_it_is(model, tmp_path):
    content = model.read_bytes()
    rng = np.random.default_rng(4)
    path = tmp_path / "damaged.tflite"
    for place in [4, len(content) - 1, *rng.integers(0, len(content), 40).tolist()]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        line = refused(path, given=csv(ROW))
        assert "damaged" in line or "isn't a .tflite" in line, (place, line)


def write_mixture(path, **options) -> None:
    """Six features, two classes, three linear experts."""
    rng = np.random.default_rng(8)

    def linear(values):
        return dense_stack([(rng.normal(size=(6, values)), rng.normal(size=values), "softmax")])

    spec = MixtureSpec(
        task=Task.CLASSIFICATION,
        combine=Combine.PROBABILITIES,
        input_shape=(6,),
        gate=linear(3),
        experts=tuple(linear(2) for _ in range(3)),
        num_outputs=2,
    )
    convert_spec(spec, path, reference=None, rows=probe_rows(spec), options=ConversionOptions(**options), schema=None)


def test_a_file_without_parts_says_so_and_runs_whole(host, tmp_path):
    path = tmp_path / "fused.tflite"
    write_mixture(path, scheme=Scheme.FLOAT32, routed=False)
    assert run(path, given=csv(ROW), sanitize=True).returncode == 0
    line = refused("--routed", path, given=csv(ROW))
    assert "has no signature gate" in line and "without --fused-only" in line


def test_a_file_with_int8_edges_is_refused(host, tmp_path):
    path = tmp_path / "int8.tflite"
    write_mixture(path, scheme=Scheme.W8A8, int8_io=True)
    assert "expected float32 inputs and outputs; convert without --io int8" in refused(path, given=csv(ROW))


def test_closed_and_full_outputs(model, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_bytes(csv(np.tile(ROW, (20000, 1))))
    words = command(build(sanitize=True) / "moe", "--library", library(), model, rows)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 1 and b"standard output: Broken pipe" in said
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False)
    assert result.returncode == 1 and b"standard output: No space left on device" in result.stderr


def test_help_and_library_from_the_environment(model):
    result = run("--help", sanitize=True)
    assert result.returncode == 0 and result.stdout.startswith(b"usage: moe")
    words = command(build(sanitize=True) / "moe", model)
    environment = {**os.environ, "MOE_LITERT": str(library())}
    result = subprocess.run(words, input=csv(ROW), capture_output=True, env=environment, check=False)
    assert result.returncode == 0 and result.stdout.startswith(b"prediction_0,routing_weights_0")


def test_a_benchmark_runs(model):
    result = run("--benchmark", "30", "--top-k", "1", model, given=csv(ROW), sanitize=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(b"whole graph") and b"times faster" in result.stdout
