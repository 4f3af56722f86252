"""The gallery's tables: two inputs and five classes, one input and a number, windows of a signal. Simulated, seeded."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from moe_edge.cli.demo import write_digits

PLANE, ZONES, CURVE, WINDOWS, DIGITS = "plane.csv", "zones.csv", "curve.csv", "windows.npz", "digits.csv"
SHAPES = ("sine", "square", "saw", "pulse")
_ARMS, _ROWS = 5, 700


def write_tables(folder: Path) -> None:
    """Write all tables into ``folder``, made when missing; the digits of ``moe-edge demo`` beside it if they lack."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder.parent / DIGITS).exists():
        write_digits(folder.parent / DIGITS)
    random = np.random.default_rng(0)
    x, y, arm = _pinwheel(random)
    names = [f"arm {chr(ord('a') + code)}" for code in arm]
    zone = np.select([x < -0.8, x > 0.8], ["west", "east"], "middle")
    _write(folder / PLANE, ("x", "y", "arm"), zip(x.round(4), y.round(4), names, strict=True))
    _write(folder / ZONES, ("x", "y", "zone", "arm"), zip(x.round(4), y.round(4), zone, names, strict=True))
    dose, reading = _curve(random)
    _write(folder / CURVE, ("dose", "reading"), zip(dose.round(4), reading.round(4), strict=True))
    windows, shape = _windows(random)
    np.savez(folder / WINDOWS, x=windows, y=np.asarray(SHAPES)[shape])


def _write(path: Path, header: tuple[str, ...], rows: object) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)  # type: ignore[arg-type]


def _pinwheel(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Five arms that wind around the middle: x, y and the arm, (n,) each."""
    arm = random.integers(0, _ARMS, _ROWS)
    along, across = random.normal(1.6, 0.55, _ROWS), random.normal(0, 0.16, _ROWS)
    angle = 2 * np.pi * arm / _ARMS + 0.75 * along
    return along * np.cos(angle) - across * np.sin(angle), along * np.sin(angle) + across * np.cos(angle), arm


def _curve(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A saw-tooth of three lines whose noise grows with the dose: dose in mg, reading in mV, (n,) each."""
    dose = random.uniform(0, 9, 600)
    reading = np.select([dose < 3, dose < 6], [1 + 1.6 * dose, 5.8 - 1.5 * (dose - 3)], 1.3 + 1.2 * (dose - 6))
    return dose, reading + random.normal(0, 0.08 + 0.05 * dose)


def _windows(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Windows of 24 samples, any phase, 1.5 to 2.5 periods, noise: float32 (n, 24, 1), and the shape's code (n,)."""
    shape = random.integers(0, len(SHAPES), 480)
    phase = random.uniform(0, 1, (480, 1)) + np.linspace(0, 1, 24) * random.uniform(1.5, 2.5, (480, 1))
    turn = phase % 1
    waves = np.stack([np.sin(2 * np.pi * turn), np.sign(turn - 0.5), 2 * turn - 1, np.where(turn < 0.2, 1.0, -0.3)])
    windows = waves[shape, np.arange(480)] + random.normal(0, 0.15, (480, 24))
    return windows[:, :, None].astype(np.float32), shape
