"""What is installed here, what imports, and which wheel fits this machine.

Layer: device. Imports the standard library and ``moe_edge.runtime.backends``.
"""

from __future__ import annotations

import platform
import struct
import sys
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from moe_edge.runtime.backends import CANDIDATES, Backend, try_backend

Version = tuple[int, ...]

DESKTOP_PACKAGES: dict[str, str] = {
    "tensorflow": "tensorflow",
    "keras": "keras",
    "ai_edge_quantizer": "ai-edge-quantizer",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
}
"""Import name -> package of the desktop extra."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What decides which wheel fits.

    Attributes:
        system: ``Linux``, ``Darwin`` or ``Windows``.
        architecture: Of the Python, not of the kernel: ``x86_64``, ``aarch64``, ``armv7l``, ``arm64``, ``AMD64``, ...
        python: Major and minor version.
        implementation: ``CPython``, ``PyPy``, ...
        libc: ``glibc``, ``musl`` or an empty text.
        libc_version: Such as (2, 36); empty when unknown.
    """

    system: str
    architecture: str
    python: Version
    implementation: str = "CPython"
    libc: str = ""
    libc_version: Version = ()

    @property
    def summary(self) -> str:
        """The machine in one line."""
        libc = f", {self.libc} {_dotted(self.libc_version)}".rstrip() if self.libc else ""
        return f"{self.implementation} {_dotted(self.python)} on {self.system} {self.architecture}{libc}"


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """For which machines a package has wheels that work.

    Attributes:
        distribution: The package.
        requirements: What to give pip.
        oldest_python, newest_python: First and last Python that it has wheels for.
        glibc: Linux architecture -> the oldest glibc that loads it.
        others: (system, architecture) pairs outside Linux.
    """

    distribution: str
    requirements: tuple[str, ...]
    oldest_python: Version
    newest_python: Version
    glibc: dict[str, Version]
    others: frozenset[tuple[str, str]] = frozenset()

    def misfit(self, machine: Machine) -> str | None:
        """Why this package can't run on ``machine``; None when it can."""
        if machine.implementation != "CPython":
            return f"{self.distribution} is built for CPython, not {machine.implementation}"
        if machine.system == "Linux":
            needed = self.glibc.get(machine.architecture)
            if needed is None:
                return f"{self.distribution} has no wheel for {machine.system} {machine.architecture}"
            if machine.libc != "glibc":
                return f"{self.distribution} needs glibc, this system has {machine.libc or 'another C library'}"
            if machine.libc_version < needed:
                return (
                    f"{self.distribution} needs glibc {_dotted(needed)}, "
                    f"this system has {_dotted(machine.libc_version) or 'an unknown one'}"
                )
        elif (machine.system, machine.architecture) not in self.others:
            return f"{self.distribution} has no wheel for {machine.system} {machine.architecture}"
        if not self.oldest_python <= machine.python <= self.newest_python:
            return (
                f"{self.distribution} has wheels for Python {_dotted(self.oldest_python)} to "
                f"{_dotted(self.newest_python)}, this is {_dotted(machine.python)}"
            )
        return None


WHEELS: tuple[Wheel, ...] = (
    # The tag of the wheels says glibc 2.27, their symbols need 2.34.
    Wheel(
        distribution="ai-edge-litert",
        requirements=("ai-edge-litert",),
        oldest_python=(3, 10),
        newest_python=(3, 14),
        glibc={"x86_64": (2, 34), "aarch64": (2, 34)},
        others=frozenset({("Darwin", "arm64"), ("Windows", "AMD64")}),
    ),
    # On ARM it is the tag that says 2.34 and pip that obeys; on x86-64 the symbols need 2.29.
    Wheel(
        distribution="tflite-runtime",
        requirements=("tflite-runtime==2.14.0", "'numpy<2'"),
        oldest_python=(3, 8),
        newest_python=(3, 11),
        glibc={"x86_64": (2, 29), "aarch64": (2, 34), "armv7l": (2, 34)},
    ),
)
"""In order of preference; read from the package index and from the wheels' symbols in 2026."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Which runtime to install.

    Attributes:
        command: The pip command, or None when no wheel fits.
        reasons: Why each package that was passed over doesn't fit.
    """

    command: str | None
    reasons: tuple[str, ...]


def advise(machine: Machine) -> Advice:
    """The pip command that gives ``machine`` a TFLite runtime."""
    reasons: list[str] = []
    for wheel in WHEELS:
        misfit = wheel.misfit(machine)
        if misfit is None:
            return Advice(command=f"pip install {' '.join(wheel.requirements)}", reasons=tuple(reasons))
        reasons.append(misfit)
    return Advice(command=None, reasons=tuple(reasons))


def this_machine() -> Machine:
    """The machine that runs this Python."""
    libc, version = _libc()
    return Machine(
        system=platform.system(),
        architecture=python_architecture(platform.machine(), pointer_bytes=struct.calcsize("P")),
        python=sys.version_info[:2],
        implementation=platform.python_implementation(),
        libc=libc,
        libc_version=version,
    )


def python_architecture(kernel_machine: str, *, pointer_bytes: int) -> str:
    """The architecture that wheels are chosen by: a 32-bit Python often runs on a 64-bit kernel (Raspberry Pi OS)."""
    if pointer_bytes == 4:
        return {"aarch64": "armv7l", "x86_64": "i686", "AMD64": "x86"}.get(kernel_machine, kernel_machine)
    return kernel_machine


def emulation_trap(machine: Machine, cpuinfo: str) -> str | None:
    """Say when an emulated arm64 system shows an x86 host's /proc/cpuinfo, on which ai-edge-litert crashes."""
    emulated = machine.architecture == "aarch64" and "vendor_id" in cpuinfo and "CPU implementer" not in cpuinfo
    if not emulated:
        return None
    return (
        "this arm64 system is emulated and shows an x86 /proc/cpuinfo: ai-edge-litert 2.2 and 2.3 crash here; "
        "use tflite-runtime, or give the emulator an arm64 cpuinfo"
    )


def installed_version(module: str, distribution: str) -> str | None:
    """The version of a package, without importing it; None when it isn't there."""
    if util.find_spec(module) is None:
        return None
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def runtime_states() -> dict[str, tuple[bool, str]]:
    """Name of each back end -> (whether it imports, its version or why not).

    TensorFlow, slow to import, is tried only when neither small runtime imports.
    """
    states: dict[str, tuple[bool, str]] = {}
    for candidate in CANDIDATES:
        if candidate.name == "tensorflow" and any(works for works, _ in states.values()):
            version = installed_version("tensorflow", "tensorflow")
            states[candidate.name] = (version is not None, f"{version}, not tried" if version else "not installed")
            continue
        found = try_backend(candidate)
        states[candidate.name] = (True, found.version) if isinstance(found, Backend) else (False, found)
    return states


def read_cpuinfo() -> str:
    """The text of /proc/cpuinfo, empty where there is none."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _libc() -> tuple[str, Version]:
    name, version = platform.libc_ver()
    if not name and platform.system() == "Linux" and list(Path("/lib").glob("ld-musl-*")):
        name = "musl"
    numbers = tuple(int(part) for part in version.split(".") if part.isdigit())
    return name, numbers


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
