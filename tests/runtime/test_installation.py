from __future__ import annotations

import platform

import pytest

from moe_edge.runtime.installation import (
    Machine,
    advise,
    emulation_trap,
    installed_version,
    python_architecture,
    runtime_states,
    this_machine,
)

LITERT, OLD = "pip install ai-edge-litert", "pip install tflite-runtime==2.14.0 'numpy<2'"


def linux(architecture: str, python: tuple[int, int], glibc: tuple[int, int] = (2, 36), **other) -> Machine:
    return Machine(
        **{"system": "Linux", "architecture": architecture, "python": python, "libc": "glibc", "libc_version": glibc}
        | other
    )


@pytest.mark.parametrize(
    ("machine", "command", "reason"),
    [
        (linux("x86_64", (3, 12)), LITERT, None),
        (linux("x86_64", (3, 10), (2, 34)), LITERT, None),
        (linux("x86_64", (3, 11), (2, 31)), OLD, "needs glibc 2.34, this system has 2.31"),
        (linux("x86_64", (3, 12), (2, 31)), None, "has wheels for Python 3.8 to 3.11, this is 3.12"),
        (linux("x86_64", (3, 11), (2, 28)), None, "tflite-runtime needs glibc 2.29"),
        (linux("x86_64", (3, 11), (2, 4)), None, "needs glibc 2.34, this system has 2.4"),
        (linux("x86_64", (3, 14)), LITERT, None),
        (linux("x86_64", (3, 15)), None, "this is 3.15"),
        (linux("aarch64", (3, 11)), LITERT, None),  # Raspberry Pi OS 12, 64 bit
        (linux("aarch64", (3, 13), (2, 41)), LITERT, None),  # Raspberry Pi OS 13
        (linux("aarch64", (3, 9), (2, 31)), None, "needs glibc 2.34"),  # Raspberry Pi OS 11
        (linux("armv7l", (3, 11)), OLD, "ai-edge-litert has no wheel for Linux armv7l"),  # Pi OS 12, 32 bit
        (linux("armv7l", (3, 13), (2, 41)), None, "this is 3.13"),  # Pi OS 13, 32 bit
        (linux("armv7l", (3, 9), (2, 31)), None, "needs glibc 2.34"),
        (linux("armv6l", (3, 11)), None, "no wheel for Linux armv6l"),  # Pi Zero
        (linux("i686", (3, 11)), None, "no wheel for Linux i686"),
        (linux("riscv64", (3, 12)), None, "no wheel for Linux riscv64"),
        (linux("x86_64", (3, 12), libc="musl", libc_version=(1, 2)), None, "needs glibc, this system has musl"),
        (linux("x86_64", (3, 12), libc="", libc_version=()), None, "another C library"),
        (linux("x86_64", (3, 11), implementation="PyPy"), None, "built for CPython, not PyPy"),
        (Machine(system="Darwin", architecture="arm64", python=(3, 12)), LITERT, None),
        (Machine(system="Darwin", architecture="x86_64", python=(3, 11)), None, "no wheel for Darwin x86_64"),
        (Machine(system="Windows", architecture="AMD64", python=(3, 11)), LITERT, None),
        (Machine(system="Windows", architecture="ARM64", python=(3, 11)), None, "no wheel for Windows ARM64"),
    ],
    ids=lambda value: value.summary if isinstance(value, Machine) else "",
)
def test_which_wheel_fits(machine, command, reason):
    advice = advise(machine)
    assert advice.command == command
    if reason is not None:
        assert any(reason in said for said in advice.reasons), advice.reasons
    if command is None:
        assert len(advice.reasons) == 2


def test_a_32_bit_python_on_a_64_bit_kernel():
    assert python_architecture("aarch64", pointer_bytes=4) == "armv7l"
    assert python_architecture("aarch64", pointer_bytes=8) == "aarch64"
    assert python_architecture("armv7l", pointer_bytes=4) == "armv7l"
    assert python_architecture("x86_64", pointer_bytes=4) == "i686"


def test_the_emulation_trap():
    x86, pi = "processor : 0\nvendor_id : GenuineIntel\n", "processor : 0\nCPU implementer : 0x41\n"
    assert "emulated" in str(emulation_trap(linux("aarch64", (3, 11)), x86))
    assert emulation_trap(linux("aarch64", (3, 11)), pi) is None
    assert emulation_trap(linux("aarch64", (3, 11)), "") is None
    assert emulation_trap(linux("x86_64", (3, 11)), x86) is None


def test_this_machine_runs_what_is_advised():
    machine = this_machine()
    assert machine.system == platform.system()
    assert machine.summary.startswith("CPython 3.")
    assert advise(machine).command is not None


def test_versions_without_imports():
    assert installed_version("numpy", "numpy") is not None
    assert installed_version("no_such_package_anywhere", "none") is None
    states = runtime_states()
    assert list(states) == ["litert", "tflite-runtime", "tensorflow"]
    assert states["litert"][0] and states["litert"][1][0].isdigit()
