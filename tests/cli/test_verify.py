import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from moe_edge.cli.main import main

ROOT = Path(__file__).parents[2]


def run(*arguments):
    return CliRunner().invoke(main, ["verify", *map(str, arguments)])


def test_pass_is_said(mixture_file):
    result = run(mixture_file("plain"))
    assert result.exit_code == 0, result.output
    assert "PASS" in result.output and "dense" in result.output and "routed" in result.output
    assert "sha256" in result.output and "litert" in result.output


def test_past_the_tolerance_the_exit_code_is_1(mixture_file, rewrite_manifest, tmp_path):
    def alter(text):
        data = json.loads(text)
        data["golden"]["predictions"][0][0] = round(data["golden"]["predictions"][0][0] + 1e-3, 4)
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    altered = tmp_path / "altered.tflite"
    altered.write_bytes(rewrite_manifest(mixture_file("plain"), alter))
    result = run(altered, "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["passed"] is False
    assert "FAIL" in run(altered).stdout and "FAIL" in run(altered, "--quiet").stderr
    assert run(altered, "--tolerance", "0.01").exit_code == 0


def test_a_damaged_file_is_one_line_and_exit_code_1(mixture_file, tmp_path):
    content = bytearray(mixture_file("plain").read_bytes())
    content[-5] ^= 8
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(content)
    result = run(damaged)
    assert result.exit_code == 1 and "damaged" in result.stderr and len(result.stderr.splitlines()) == 1


def test_json_holds_what_was_found(mixture_file):
    document = json.loads(run(mixture_file("table"), "--json").output)
    assert document["passed"] is True and document["backend"] == "litert" and len(document["sha256"]) == 64
    assert {check["mode"] for check in document["modes"]} == {"dense", "routed"}


def test_quiet_prints_nothing_on_success(mixture_file):
    assert run(mixture_file("plain"), "--quiet").output == ""


@pytest.mark.parametrize("scheme", ["float32", "w8a8"])
def test_on_tflite_runtime(mixture_file, old_runtime_python, scheme):
    code = "from moe_edge.cli.main import main; main()"
    result = subprocess.run(
        [old_runtime_python, "-c", code, "verify", mixture_file("table", scheme=scheme), "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    document = json.loads(result.stdout)
    assert result.returncode == 0 and document["passed"], result.stderr
    assert document["backend"] == "tflite-runtime" and document["backend_version"] == "2.14.0"
