"""The gallery names every kind there is, and its page shows what was made."""

import re
import sys
from pathlib import Path

import pytest

from moe_edge.config import Strategy
from moe_edge.training.kinds.registry import EXPERTS, GATES
from moe_edge.training_config import CLUSTERINGS, PIECES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "GALLERY.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^moe-edge .*$", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize("kind", EXPERTS)
def test_every_kind_of_expert_has_a_panel(kind):
    assert any(re.search(rf"--expert {kind}\b", line) for line in COMMANDS)


@pytest.mark.parametrize("kind", GATES)
def test_every_kind_of_gate_has_a_panel(kind):
    assert any(re.search(rf"--gate {kind}\b", line) for line in COMMANDS)


@pytest.mark.parametrize("words", [*(f"--pieces {by}" for by in PIECES), "--overlap", f"--clustering {CLUSTERINGS[1]}"])
def test_every_way_to_split_has_a_panel(words):
    assert any(words in line for line in COMMANDS)


def test_every_strategy_has_a_panel():
    named = {strategy for line in COMMANDS for strategy in re.findall(r"--strategy (\w+)", line)}
    assert named | {"joint"} == {strategy.value for strategy in Strategy}


def test_pictures_are_there_and_small():
    shown = re.findall(r"\]\((pictures/[^)]+)\)", PAGE)
    assert len(shown) == len(set(shown)) == len(re.findall(r"^## ", PAGE, flags=re.MULTILINE))
    for name in shown:
        assert 1_000 < (ROOT / "docs" / name).stat().st_size < 60_000, name


def test_the_page_shows_the_commands_that_the_gallery_runs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "demos" / "gallery"))
    import jobs

    expected = [line for picture in jobs.PICTURES for job in picture.jobs for line in job.commands]
    for module in ("jobs", "tables"):
        sys.modules.pop(module)
    assert expected == COMMANDS
