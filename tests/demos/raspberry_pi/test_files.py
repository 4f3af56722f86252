"""State and log: whole or not at all, bounded, and a full disk is a warning."""

import json
import resource
import signal

import pytest
from full_disk import SmallDisk
from journal import Journal
from state_file import StateFile


@pytest.fixture
def disk(tmp_path):
    """A folder on which the kernel refuses writes after ``fill``; free again at the end."""
    before = signal.getsignal(signal.SIGXFSZ), resource.getrlimit(resource.RLIMIT_FSIZE)
    disk = SmallDisk(tmp_path, mounted=False)
    yield disk
    resource.setrlimit(resource.RLIMIT_FSIZE, before[1])
    signal.signal(signal.SIGXFSZ, before[0])


def test_state_comes_back(tmp_path):
    file = StateFile(tmp_path / "state.json")
    assert file.load() is None and not file.message
    assert file.save({"a": [1, 2]})
    assert StateFile(tmp_path / "state.json").load() == {"a": [1, 2]}


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "foreign"])
def test_a_damaged_state_is_set_aside(tmp_path, damage):
    path = tmp_path / "state.json"
    StateFile(path).save({"count": 12345})
    content = path.read_bytes()
    path.write_bytes(
        {"cut": content[:-4], "flip": content.replace(b"12345", b"12346"), "empty": b"", "foreign": b"{}"}[damage]
    )
    file = StateFile(path)
    assert file.load() is None
    assert "set aside as state.json.damaged" in file.message
    assert not path.exists() and (tmp_path / "state.json.damaged").exists()


def test_a_full_disk_leaves_the_state_whole_and_warns_once(disk):
    file = StateFile(disk.folder / "state.json")
    file.save({"n": 1})
    disk.fill()
    messages = []
    for number in range(3):
        assert not file.save({"n": number + 2})
        messages.append(file.message)
        file.message = ""
    disk.free()
    assert "going on without saving" in messages[0] and messages[1:] == ["", ""]
    assert StateFile(file.path).load() == {"n": 1}
    assert [path.name for path in disk.folder.iterdir()] == ["state.json"]
    assert file.save({"n": 9}) and "can be written again" in file.message
    assert StateFile(file.path).load() == {"n": 9}


def test_the_log_is_bounded(tmp_path):
    journal = Journal(tmp_path / "log", max_bytes=1000, backups=2)
    for number in range(500):
        journal.write({"number": number})
    journal.close()
    files = sorted(tmp_path.glob("log*"))
    assert len(files) == 3 and sum(path.stat().st_size for path in files) <= 3000
    assert json.loads((tmp_path / "log").read_text().splitlines()[-1]) == {"number": 499}


def test_a_full_disk_stops_the_log_with_one_warning_and_no_cut_line_stays(disk):
    journal = Journal(disk.folder / "log")
    messages = []
    for number in range(9):
        if number == 3:
            disk.fill()
        if number == 6:
            disk.free()
        journal.write({"number": number})
        messages.append(journal.message)
        journal.message = ""
    journal.close()
    assert [bool(message) for message in messages] == [False] * 3 + [True, False, False] + [True, False, False]
    assert "the log stops until it can" in messages[3] and "3 lines were dropped" in messages[6]
    lines = (disk.folder / "log").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == [0, 1, 2, 6, 7, 8]


def test_a_line_cut_by_a_full_disk_is_ended(tmp_path, disk):
    journal = Journal(tmp_path / "log")
    journal.write({"number": 0})
    disk.fill()
    journal.write({"number": 1})
    disk.free()
    with (tmp_path / "log").open("a") as file:
        file.write('{"numb')  # what a disk that fills in the middle of a line leaves
    journal.write({"number": 2})
    journal.close()
    assert (tmp_path / "log").read_text().splitlines() == ['{"number":0}', '{"numb', '{"number":2}']
