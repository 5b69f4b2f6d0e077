"""The power goes after each step of a repair, on real file systems: nothing is lost, and nothing untrue is said.

What the disk holds at that instant is mounted again, judged, and given to the next Clawmend that starts. That these
tests see a step that is missing is shown by leaving it out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.power.claims import judged
from tests.faults.power.disk import DISKS, Disk, missing
from tests.faults.power.scenes import (
    BYSTANDER,
    CROSSED,
    FLUSHER,
    NOBODY,
    OUTRUN,
    REPAIR,
    SCENES,
    TOGETHER,
    TOGETHER_CROSSED,
    TOGETHER_OUTRUN,
    UNDO,
    Play,
    Stage,
)
from tests.faults.power.steps import ABLATIONS, PROTOCOL

EXT4, NO_AUTO_DA_ALLOC, XFS, BTRFS = DISKS
FLUSH_FROM = ("audit: intent", "audit: plan", "open ours", "fsync ours", "exchange ours", "fsync folder", "unlink ours")

BOUNDED = [
    *(Stage(disk, PROTOCOL, scene) for disk in DISKS for scene in (REPAIR, CROSSED)),
    *(Stage(disk, PROTOCOL, OUTRUN) for disk in (EXT4, XFS)),
    *(Stage(disk, PROTOCOL, UNDO) for disk in (NO_AUTO_DA_ALLOC, BTRFS)),
    *(Stage(disk, PROTOCOL, REPAIR, BYSTANDER) for disk in (NO_AUTO_DA_ALLOC, XFS)),
    Stage(EXT4, PROTOCOL, CROSSED, FLUSHER),
    *(Stage(disk, PROTOCOL, TOGETHER) for disk in DISKS),
    *(Stage(disk, PROTOCOL, TOGETHER, BYSTANDER) for disk in (NO_AUTO_DA_ALLOC, XFS)),
    *(Stage(disk, PROTOCOL, TOGETHER_CROSSED) for disk in (EXT4, BTRFS)),
    Stage(XFS, PROTOCOL, TOGETHER_OUTRUN),
]
LONG = [
    *(Stage(disk, PROTOCOL, scene, who) for disk in DISKS for scene in SCENES for who in (NOBODY, BYSTANDER)),
    *(Stage(d, PROTOCOL, scene, FLUSHER, step) for d in DISKS for scene in SCENES for step in FLUSH_FROM),
    *(
        Stage(disk, PROTOCOL, REPAIR, who, padding=size)
        for disk in DISKS
        for who in (NOBODY, BYSTANDER)
        for size in (400_000, 5_000_000)
    ),
]

SEEN_BY = {
    "the file is not synced": [(d, a) for d in (NO_AUTO_DA_ALLOC, EXT4, XFS, BTRFS) for a in (NOBODY, BYSTANDER)],
    "the file is synced after the exchange": [(d, BYSTANDER) for d in (XFS, EXT4, NO_AUTO_DA_ALLOC, BTRFS)],
    "the folder is not synced": [(d, NOBODY) for d in (XFS, EXT4, NO_AUTO_DA_ALLOC)],
    "the intent is committed, but not durable": [(d, NOBODY) for d in (BTRFS, EXT4, NO_AUTO_DA_ALLOC, XFS)],
    "the intent is written after the publish": [(d, NOBODY) for d in (EXT4, NO_AUTO_DA_ALLOC, XFS, BTRFS)],
}
"""Which file system, and who else is at work on it, shows that a step is missing. The bounded form takes the first."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    soak = bool(metafunc.config.getoption("--soak"))
    stages: list[Stage] = []
    match metafunc.function.__name__:
        case "test_after_a_power_cut_at_any_step_no_write_is_lost_and_the_next_start_ends_the_repair":
            stages = LONG if soak else BOUNDED
        case "test_a_step_that_is_left_out_is_seen":
            for variant in ABLATIONS:
                for scene in (REPAIR, TOGETHER):
                    seen_by = [Stage(disk, variant, scene, who) for disk, who in SEEN_BY[variant.name]]
                    stages += seen_by if soak else seen_by[:1]
        case "test_a_gateway_version_that_we_put_back_is_durable_although_the_gateway_does_not_sync":
            disks = DISKS if soak else (XFS,)
            stages = [Stage(disk, PROTOCOL, CROSSED, NOBODY, gateway_syncs=False) for disk in disks]
        case "test_a_second_power_cut_while_the_first_is_mended_loses_nothing_either":
            several = (REPAIR, UNDO, OUTRUN, CROSSED, TOGETHER, TOGETHER_CROSSED)
            stages = [Stage(disk, PROTOCOL, scene, BYSTANDER) for disk in DISKS for scene in several]
            if not soak:
                stages = [stage for stage in stages if stage.disk == EXT4 and stage.scene in (CROSSED, TOGETHER)]
    metafunc.parametrize("stage", stages, ids=lambda s: f"{s.variant.name}: {s}" if s.variant != PROTOCOL else str(s))


@pytest.fixture(scope="session")
def lacking(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Disk], str | None]:
    """What is missing here to try a file system; looked for once."""
    known: dict[Disk, str | None] = {}

    def look(disk: Disk) -> str | None:
        if disk not in known:
            known[disk] = missing(disk, tmp_path_factory.mktemp("probe"))
        return known[disk]

    return look


@pytest.fixture
def images(stage: Stage, tmp_path: Path, lacking: Callable[[Disk], str | None]) -> Iterator[Path]:
    """Where the images go, if there can be any; they are large, so they do not stay for pytest to keep."""
    why_not = lacking(stage.disk)
    if why_not is not None:
        pytest.skip(why_not)
    folder = tmp_path / "images"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_after_a_power_cut_at_any_step_no_write_is_lost_and_the_next_start_ends_the_repair(
    stage: Stage, images: Path
) -> None:
    played = Play(stage, images).run()
    assert [str(b) for b in judged(played, images)] == []


def test_a_step_that_is_left_out_is_seen(stage: Stage, images: Path) -> None:
    played = Play(stage, images).run()
    assert judged(played, images, next_start=False) != []


def test_a_gateway_version_that_we_put_back_is_durable_although_the_gateway_does_not_sync(
    stage: Stage, images: Path
) -> None:
    played = Play(stage, images).run()
    assert [str(b) for b in judged(played, images)] == []


def test_a_second_power_cut_while_the_first_is_mended_loses_nothing_either(
    stage: Stage, images: Path, soak: bool
) -> None:
    played = Play(stage, images).run()
    moments = {m.cut.digest: m for m in played.moments if soak or m.step == "exchange ours"}
    for number, moment in enumerate(list(moments.values()) if soak else list(moments.values())[:1]):
        alone = Stage(stage.disk, PROTOCOL, stage.scene)
        again = Play(alone, images, f"again{number}").next_start(played, moment)
        assert [f"{moment.step}: {b}" for b in judged(again, images)] == []
        shutil.rmtree(images / f"again{number}")
