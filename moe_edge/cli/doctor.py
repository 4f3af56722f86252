"""``moe-edge doctor``: what is installed here, which runtime imports, what to install."""

from __future__ import annotations

import platform
from typing import Any

import click

from moe_edge._version import __version__
from moe_edge.cli.console import Reporter, output_options
from moe_edge.extras import install_command
from moe_edge.runtime.installation import (
    DESKTOP_PACKAGES,
    advise,
    emulation_trap,
    installed_version,
    read_cpuinfo,
    runtime_states,
    this_machine,
)


@click.command()
@output_options
def command(*, as_json: bool, quiet: bool) -> None:
    """Say what is installed here, which TFLite runtime imports, and what to install.

    Exit code 1 when no runtime imports: then nothing can be predicted here.
    """
    reporter = Reporter(as_json=as_json, quiet=quiet)
    machine = this_machine()
    trap = emulation_trap(machine, read_cpuinfo())
    if trap is not None:
        # Said before the imports below, which may end the process here.
        reporter.warn(trap)
    runtimes = runtime_states()
    chosen = next((name for name, (works, _) in runtimes.items() if works), None)
    advice = advise(machine)
    packages = {package: installed_version(module, package) for module, package in DESKTOP_PACKAGES.items()}
    missing = [package for package, version in packages.items() if version is None]

    rows = [("moe-edge", __version__), ("Python", platform.python_version()), ("machine", machine.summary)]
    rows += [("numpy", installed_version("numpy", "numpy") or "not installed")]
    rows += [(f"runtime {name}", _state(*state, chosen=name == chosen)) for name, state in runtimes.items()]
    rows += [(package, version or "not installed") for package, version in packages.items() if package != "tensorflow"]
    reporter.table("What is installed", ("what", "state"), rows)
    for line in _verdict(chosen, advice.command, advice.reasons):
        reporter.say(line)
    if missing:
        reporter.say(f"To train and convert here: {install_command('desktop')}")
    else:
        reporter.say("Training and conversion: everything is installed")
    document: dict[str, Any] = {
        "moe_edge": __version__,
        "python": platform.python_version(),
        "machine": vars(machine),
        "backend": chosen,
        "runtimes": {name: {"imports": works, "detail": detail} for name, (works, detail) in runtimes.items()},
        "packages": packages,
        "pip": advice.command,
        "reasons": list(advice.reasons),
        "warning": trap,
    }
    reporter.document(document)
    if chosen is None:
        raise SystemExit(1)
    reporter.next_command("moe-edge demo" if not missing else "moe-edge predict MODEL.tflite DATA.csv")


def _state(works: bool, detail: str, *, chosen: bool) -> str:
    if works:
        return f"{detail}, in use" if chosen else detail
    return f"no: {detail}"


def _verdict(chosen: str | None, pip: str | None, reasons: tuple[str, ...]) -> list[str]:
    """What runs here, or what to do about it."""
    if chosen is not None:
        return [f"Predictions run here, with {chosen}"]
    if pip is not None:
        return ["No TFLite runtime imports here", f"Install one: {pip}"]
    return [
        "No TFLite runtime imports here, and no wheel fits this machine:",
        *(f"  {reason}" for reason in reasons),
        "Use a 64-bit system with glibc 2.34 or newer (Debian 12, Ubuntu 22.04) and Python 3.10 to 3.14",
    ]
