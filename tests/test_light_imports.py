"""Each device module starts in a fresh interpreter without the training stack."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEAVY = (
    "tensorflow",
    "keras",
    "pandas",
    "sklearn",
    "matplotlib",
    "ai_edge_quantizer",
    "moe_edge.training",
    "moe_edge_converters",
)
SHARED = (
    "",
    "errors",
    "config",
    "schema",
    "manifest",
    "routing",
    "diagnosis",
    "parity",
    "strict",
    "atomic",
    "cli.main",
    "cli.predict",
    "cli.verify",
    "cli.doctor",
)

# One process forks a fresh child for each module, so that a dozen interpreters cost one start.
CHECK = """
import importlib, json, os, sys
modules, heavy = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for module in modules:
    pid = os.fork()
    if pid == 0:
        importlib.import_module(module)
        found = [name for name in heavy if name in sys.modules]
        print(module, *found, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
"""


def device_modules() -> list[str]:
    files = [path for folder in ("runtime", "tables") for path in (ROOT / "moe_edge" / folder).rglob("*.py")]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(files)]
    shared = [f"moe_edge.{name}".rstrip(".") for name in SHARED]
    return [*shared, *(name.removesuffix(".__init__") for name in names)]


def test_device_modules_start_without_the_training_stack():
    modules = device_modules()
    result = subprocess.run(
        [sys.executable, "-c", CHECK, json.dumps(modules), json.dumps(HEAVY)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert result.stderr == ""
    # A module's own name alone: nothing heavy came along, and it did import.
    assert result.stdout.split("\n")[:-1] == modules


def test_importing_the_package_brings_no_numpy():
    code = "import sys, moe_edge; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_check_can_fail():
    result = subprocess.run(
        [sys.executable, "-c", CHECK, json.dumps(["pandas"]), json.dumps(HEAVY)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["pandas", "pandas"]
