"""Samples from a serial line (a pty stands for the port) and from an I2C chip (a bus with the datasheet's registers)."""

import contextlib
import math
import os
import pty
import struct
import termios
import threading
import time
import tty

import imu
import numpy as np
import pytest
from imu import Imu
from replay import parse_turn, turn_rows
from serial_source import SerialSource

from moe_edge.errors import DataError


@pytest.fixture
def line():
    """The two ends of a pty: our end, and the name of the port."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs, termios.TCSANOW)
    yield ours, os.ttyname(theirs)
    for end in (ours, theirs):
        with contextlib.suppress(OSError):
            os.close(end)


def test_serial_lines_become_samples_and_garbled_ones_are_counted(line):
    ours, port = line
    source = SerialSource(port)
    os.write(
        ours,
        b"6.02,9,9,9,9,9,9\n# time,ax,ay,az,wx,wy,wz\n1.5,1,2,3,4,5,6\r\n1.52,1,2,3\n1.53,1e39,2,3,4,5,6\n\xff\xfe,1\n1.5",
    )
    samples = iter(source)
    assert next(samples).values == (1, 2, 3, 4, 5, 6)
    os.write(ours, b"4,6,5,4,3,2,1\n1.56,nan,5,4,3,2,1\n" + b"x" * 300)
    second, third = next(samples), next(samples)
    assert second.time == 1.54 and second.values[0] == 6 and math.isnan(third.values[0])
    os.write(ours, b"\n1.6,0,0,0,0,0,0\n")
    assert next(samples).time == 1.6
    assert source.bad_lines == 4
    source.close()
    assert list(samples) == []


def test_a_port_that_goes_away_is_opened_again(tmp_path):
    port = tmp_path / "port"
    first, theirs = pty.openpty()
    port.symlink_to(os.ttyname(theirs))
    source = SerialSource(str(port), retry=0.05)
    samples = iter(source)
    os.write(first, b"\n1,0,0,0,0,0,0\n")
    assert next(samples).time == 1
    second, others = pty.openpty()
    tty.setraw(others, termios.TCSANOW)
    port.unlink()
    port.symlink_to(os.ttyname(others))
    os.close(theirs)
    os.close(first)  # the cable is pulled

    def send():
        for number in range(200):
            with contextlib.suppress(OSError):
                os.write(second, f"{2 + number},0,0,0,0,0,0\n".encode())
            time.sleep(0.02)
            if found:
                return

    found = []
    sender = threading.Thread(target=send)
    sender.start()
    found.append(next(samples))
    sender.join()
    assert found[0].time >= 2
    source.close()
    for end in (second, others):
        os.close(end)


def test_no_port_is_an_error_of_one_line():
    with pytest.raises(DataError, match="can't open /dev/no-such-port"):
        SerialSource("/dev/no-such-port")


class FakeBus:
    """The registers of an MPU-6050: asleep after power-on, read by block, scaled by its range registers."""

    def __init__(self, identity=0x68):
        self.registers = dict.fromkeys(range(128), 0) | {0x75: identity, 0x6B: 0x40}
        self.motion = (0.0, 0.0, 1.0, 0.0, 0.0, 0.0)  # g, rad/s
        self.failing = 0
        self.closed = False

    def power_on(self):
        self.registers |= dict.fromkeys(range(0x19, 0x1D), 0) | {0x6B: 0x40}

    def _answer(self):
        if self.failing:
            self.failing -= 1
            raise OSError(121, "Remote I/O error")

    def read_byte_data(self, address, register):
        self._answer()
        if address != 0x68:
            raise OSError(121, "Remote I/O error")
        return self.registers[register]

    def write_byte_data(self, address, register, value):
        self._answer()
        self.registers[register] = value

    def read_i2c_block_data(self, address, register, length):
        self._answer()
        if self.registers[0x6B] & 0x40:
            return [0] * length  # asleep: nothing is measured
        per_g = 16384 >> (self.registers[0x1C] >> 3 & 3)
        per_degree = (131, 65.5, 32.8, 16.4)[self.registers[0x1B] >> 3 & 3]
        steps = [round(value * per_g) for value in self.motion[:3]]
        steps += [3400]  # the temperature
        steps += [round(math.degrees(value) * per_degree) for value in self.motion[3:]]
        block = struct.pack(">7h", *(max(-32768, min(32767, value)) for value in steps))
        return list(block[register - 0x3B :][:length])

    def close(self):
        self.closed = True


def make_imu(bus):
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    return Imu(bus, clock=lambda: now[0], sleep=sleep), now


def test_the_chip_is_set_up_and_read_in_g_and_radians():
    bus = FakeBus()
    sensor, _ = make_imu(bus)
    assert bus.registers[imu.SMPLRT_DIV] == 19 and bus.registers[imu.PWR_MGMT_1] == 1
    bus.motion = (0.5, -5.8, 7.9, 29.0, -1.0, 0.1)
    samples = iter(sensor)
    found = [next(samples) for _ in range(4)]
    np.testing.assert_allclose(found[0].values, bus.motion, atol=1.1e-3)
    np.testing.assert_allclose(np.diff([sample.time for sample in found]), 0.02)
    sensor.close()
    assert bus.closed and list(samples) == []


def test_a_reading_that_fails_is_a_gap_and_a_chip_that_lost_power_is_set_up_again():
    bus = FakeBus()
    sensor, _ = make_imu(bus)
    samples = iter(sensor)
    first = next(samples)
    bus.power_on()
    bus.failing = 1
    second = next(samples)
    assert second.time - first.time == pytest.approx(0.04) and sensor.failed_reads == 1
    assert second.values[2] == pytest.approx(1, abs=1e-3)


def test_a_chip_that_fell_asleep_between_two_readings_is_woken():
    bus = FakeBus()
    sensor, _ = make_imu(bus)
    samples = iter(sensor)
    next(samples)
    bus.power_on()
    assert next(samples).values[2] == pytest.approx(1, abs=1e-3) and sensor.failed_reads == 1


def test_a_set_up_that_fails_half_way_is_done_again(monkeypatch):
    bus = FakeBus()
    sensor, _ = make_imu(bus)
    samples = iter(sensor)
    next(samples)
    bus.power_on()
    write, refused = bus.write_byte_data, []

    def refuse_once(address, register, value):
        if register == imu.SMPLRT_DIV and not refused:
            refused.append(register)
            raise OSError(121, "Remote I/O error")
        write(address, register, value)

    monkeypatch.setattr(bus, "write_byte_data", refuse_once)
    # Awake but in the ranges of power-on, it would give 4 g.
    assert next(samples).values[2] == pytest.approx(1, abs=1e-3) and refused and sensor.failed_reads == 2


def test_another_chip_or_none_is_an_error_of_one_line():
    with pytest.raises(DataError, match="got identity 0x71"):
        make_imu(FakeBus(identity=0x71))
    bus = FakeBus()
    bus.failing = 1
    with pytest.raises(DataError, match="nothing answers at I2C address 0x68"):
        make_imu(bus)


def test_turns_are_read_and_applied_to_both_sensors():
    rows = np.array([[1, 0, 0, 0, 2, 0]], dtype=np.float32)
    np.testing.assert_allclose(turn_rows(rows, parse_turn("z90")), [[0, 1, 0, -2, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(turn_rows(rows, parse_turn("y180")), [[-1, 0, 0, 0, 2, 0]], atol=1e-6)
    for text in ("", "w90", "z", "xnan"):
        with pytest.raises(ValueError, match="expected an axis and degrees"):
            parse_turn(text)
