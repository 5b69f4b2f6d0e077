"""The power goes after each step of a write to a database, on real file systems, also in the middle of a page.

What the disk holds at that instant is mounted again, judged, and given to the next Clawmend that starts.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.power.disk import DISKS, missing
from tests.faults.power.rows import CLEAN, LOGGED, SCENES, UNDO, Play, Stage, judged
from tests.faults.power.scenes import BYSTANDER, NOBODY

EXT4, NO_AUTO_DA_ALLOC, XFS, BTRFS = DISKS
BOUNDED = [
    Stage(EXT4, CLEAN),
    Stage(XFS, LOGGED),
    Stage(BTRFS, UNDO),
    Stage(NO_AUTO_DA_ALLOC, LOGGED, BYSTANDER),
]
LONG = [Stage(disk, scene, who) for disk in DISKS for scene in SCENES for who in (NOBODY, BYSTANDER)]
LEFT_OUT = [Stage(disk, LOGGED, log_sync=False) for disk in (XFS, BTRFS)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    soak = bool(metafunc.config.getoption("--soak"))
    if metafunc.function.__name__ == "test_a_log_that_is_not_synced_is_seen":
        metafunc.parametrize("stage", LEFT_OUT if soak else LEFT_OUT[:1], ids=str)
    else:
        metafunc.parametrize("stage", LONG if soak else BOUNDED, ids=str)


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Lines to be shown in the end."""
    lines: list[str] = []
    yield lines
    plugins = request.config.pluginmanager
    reporter: Any = plugins.get_plugin("terminalreporter")
    capture: Any = plugins.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        reporter.ensure_newline()
        for line in lines:
            reporter.write_line(f"  {line}")


@pytest.fixture
def images(stage: Stage, tmp_path: Path) -> Iterator[Path]:
    """Where the images go, if there can be any; they are large, so they do not stay for pytest to keep."""
    why_not = missing(stage.disk, tmp_path)
    if why_not is not None:
        pytest.skip(why_not)
    folder = tmp_path / "images"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def broken(stage: Stage, images: Path, told: list[str]) -> list[str]:
    played = Play(stage, images).run()
    found = judged(played, images)
    disks = len({m.cut.digest for m in played.moments})
    bad = len({b.number for b in found})
    told.append(f"{stage}: {len(played.moments)} cuts, {disks} different disks, {bad} with a broken claim")
    return [str(b) for b in found]


def test_after_a_power_cut_at_any_step_the_row_is_whole_and_the_audit_tells_the_truth(
    stage: Stage, images: Path, told: list[str]
) -> None:
    assert broken(stage, images, told) == []


def test_a_log_that_is_not_synced_is_seen(stage: Stage, images: Path, told: list[str]) -> None:
    assert any("a success that was reported survives" in each for each in broken(stage, images, told))
