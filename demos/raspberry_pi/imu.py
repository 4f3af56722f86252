"""Samples from an MPU-6050 on the Pi's I2C bus, by the registers of its datasheet (RM-MPU-6000A, revision 4.2).

Never run on hardware here: a fake bus with the datasheet's registers stands for it in the tests.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from samples import CHANNELS, RATE, Sample

from moe_edge.errors import DataError, require

SMPLRT_DIV, CONFIG, GYRO_CONFIG, ACCEL_CONFIG = 0x19, 0x1A, 0x1B, 0x1C
ACCEL_XOUT_H, PWR_MGMT_1, WHO_AM_I = 0x3B, 0x6B, 0x75
IDENTITY = 0x68
_INTERNAL_RATE = 1000
"""Samples a second inside, with the low-pass filter on."""
_LOW_PASS = 4
"""DLPF_CFG 4: 21 Hz, below half of 50 Hz."""
_G_PER_STEP = 1 / 4096
"""AFS_SEL 2: ±8 g; recordings reach 5.8 g."""
_RADIANS_PER_STEP = math.radians(1 / 16.4)
"""FS_SEL 3: ±2000 °/s; recordings reach 29 rad/s, 1660 °/s."""


class Bus(Protocol):
    """The part of ``smbus2.SMBus`` that is used."""

    def read_byte_data(self, address: int, register: int) -> int:
        """One register."""
        ...

    def write_byte_data(self, address: int, register: int, value: int) -> None:
        """Set one register."""
        ...

    def read_i2c_block_data(self, address: int, register: int, length: int) -> list[int]:
        """Some registers in one go: the chip keeps the bytes of one sample together."""
        ...

    def close(self) -> None:
        """Let go of the bus."""
        ...


class Imu:
    """An MPU-6050 at ±8 g and ±2000 °/s, 50 samples a second."""

    def __init__(
        self,
        bus: Bus,
        *,
        address: int = 0x68,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Wake the chip and set it up.

        Raises:
            DataError: If nothing answers at the address, or another chip does.
        """
        self.name = f"MPU-6050 at 0x{address:02x}"
        self.failed_reads = 0
        self._bus, self._address, self._clock, self._sleep = bus, address, clock, sleep
        self._open = True
        try:
            found = bus.read_byte_data(address, WHO_AM_I)
        except OSError as error:
            raise DataError(
                f"nothing answers at I2C address 0x{address:02x} ({error.strerror or error}); see: i2cdetect -y 1"
            ) from error
        if found != IDENTITY:
            raise DataError(f"expected an MPU-6050 (identity 0x68) at 0x{address:02x}, got identity 0x{found:02x}")
        try:
            self._set_up()
        except OSError as error:
            raise DataError(f"the MPU-6050 stopped answering while it was set up: {error.strerror or error}") from error

    def __iter__(self) -> Iterator[Sample]:
        """Samples at 50 Hz; a reading that fails is left out, a gap."""
        period = 1 / RATE
        due = self._clock()
        while self._open:
            now = self._clock()
            if now < due:
                self._sleep(due - now)
            elif now > due + period:
                due = now  # too late to catch up: samples are gone, and the time says so
            try:
                values = self.read()
            except OSError:
                self.failed_reads += 1
                self._wake_again()
            else:
                yield Sample(self._clock(), values)
            due += period

    def read(self) -> tuple[float, ...]:
        """One reading: g and rad/s.

        Raises:
            OSError: If the chip doesn't answer, or answers as one asleep does.
        """
        if not self._configured:
            raise OSError(5, "the chip isn't set up")
        block = bytes(self._bus.read_i2c_block_data(self._address, ACCEL_XOUT_H, 14))
        numbers = struct.unpack(">7h", block)
        accelerations, rates = numbers[:3], numbers[4:]  # between them lies the temperature
        if not any(accelerations):
            raise OSError(5, "no gravity: the chip lost power and sleeps")
        found = (*(value * _G_PER_STEP for value in accelerations), *(value * _RADIANS_PER_STEP for value in rates))
        assert len(found) == CHANNELS
        return found

    def close(self) -> None:
        """Let go of the bus."""
        self._open = False
        self._bus.close()

    def _set_up(self) -> None:
        # The first write wakes it for the others; until all are done it counts as not set up, in ranges of its own.
        self._configured = False
        for register, value in (
            (PWR_MGMT_1, 0x01),  # awake, clocked by the x gyroscope
            (SMPLRT_DIV, _INTERNAL_RATE // int(RATE) - 1),
            (CONFIG, _LOW_PASS),
            (GYRO_CONFIG, 3 << 3),
            (ACCEL_CONFIG, 2 << 3),
        ):
            self._bus.write_byte_data(self._address, register, value)
        self._configured = True

    def _wake_again(self) -> None:
        """A chip that lost power comes back asleep, in other ranges."""
        try:
            if not self._configured or self._bus.read_byte_data(self._address, PWR_MGMT_1) & 0x40:
                self._set_up()
        except OSError:
            return


def open_imu(bus_number: int = 1, address: int = 0x68) -> Imu:
    """The chip on one of the Pi's buses.

    Raises:
        DataError: If the bus can't be opened, or as ``Imu``.
        MissingDependencyError: If smbus2 isn't installed.
    """
    require("smbus2", extra="demos", purpose="reading an I2C sensor")
    from smbus2 import SMBus

    try:
        bus: Any = SMBus(bus_number)
    except OSError as error:
        raise DataError(f"can't open I2C bus {bus_number}: {error.strerror}; switch it on with raspi-config") from error
    return Imu(bus, address=address)
