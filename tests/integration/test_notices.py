"""What the system tells of folders: as long as a stamp is the same, nothing in them has another mark."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import inotify_simple
import pytest

from app.openclaw.notices import BELIEVED_FOR, Notices
from app.openclaw.rest import Mark, mark_of
from tests.world import HeldClock


@dataclass
class Told:
    """One agent's folder of sessions with a file in it, and the notices of it."""

    root: Path
    clock: HeldClock
    notices: Notices

    @property
    def folder(self) -> Path:
        return self.root / "main" / "sessions"

    @property
    def file(self) -> Path:
        return self.folder / "file"

    @property
    def stamp(self) -> int | None:
        """As of this pass."""
        return self.notices.stamp(str(self.root), (str(self.folder), str(self.root / "main" / "agent")))

    def next_pass(self) -> int | None:
        self.notices.begin()
        return self.stamp


@pytest.fixture
def told(tmp_path: Path) -> Told:
    clock = HeldClock()
    told = Told(tmp_path / "state" / "agents", clock, Notices(clock))
    told.folder.mkdir(parents=True)
    (told.root / "aside").mkdir()
    told.file.write_bytes(b"1")
    assert told.next_pass() is not None
    return told


def it_is_appended_to(told: Told) -> None:
    with told.file.open("ab") as file:
        file.write(b"2")


def it_is_cut_off(told: Told) -> None:
    os.truncate(told.file, 0)


def another_is_renamed_over_it(told: Told) -> None:
    beside = told.root.parent / "beside"
    beside.write_bytes(b"2")
    beside.rename(told.file)


def it_goes(told: Told) -> None:
    told.file.unlink()


def it_is_moved_away(told: Told) -> None:
    told.file.rename(told.root.parent / "away")


def another_comes(told: Told) -> None:
    (told.folder / "another").touch()


def a_link_to_it_comes(told: Told) -> None:
    os.link(told.file, told.folder / "another")


def its_times_are_set(told: Told) -> None:
    os.utime(told.file, (1, 1))


def its_rights_are_set(told: Told) -> None:
    told.file.chmod(0o400)


def its_folder_is_moved_away_and_back(told: Told) -> None:
    told.folder.rename(told.root / "away")
    (told.root / "away").rename(told.folder)


def its_folder_goes(told: Told) -> None:
    shutil.rmtree(told.folder)


def its_folder_is_made_again(told: Told) -> None:
    shutil.rmtree(told.folder)
    told.folder.mkdir()
    told.file.write_bytes(b"1")


def a_folder_above_is_moved_away(told: Told) -> None:
    (told.root / "main").rename(told.root.parent / "away")


def another_root_takes_its_place(told: Told) -> None:
    told.root.rename(told.root.parent / "away")
    shutil.copytree(told.root.parent / "away", told.root)


def another_folder_above_the_root_takes_its_place(told: Told) -> None:
    state = told.root.parent
    state.rename(state.parent / "away")
    shutil.copytree(state.parent / "away", state)


def a_link_takes_the_roots_place(told: Told) -> None:
    told.root.rename(told.root.parent / "away")
    told.root.symlink_to(told.root.parent / "away")


def a_folder_comes_that_was_not_there(told: Told) -> None:
    (told.root / "main" / "agent").mkdir()


def a_link_comes_where_no_folder_was(told: Told) -> None:
    (told.root / "main" / "agent").symlink_to(told.root.parent)


def more_happens_than_the_system_tells(told: Told) -> None:
    """The queue is full with what happens to two others, before anything happens to the file."""
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    aside = told.root / "aside"
    told.notices.stamp(str(told.root), (str(aside),))
    for number in range(most + 10):
        (aside / str(number % 2)).touch()
    it_is_appended_to(told)


HAPPENS = [
    it_is_appended_to,
    it_is_cut_off,
    another_is_renamed_over_it,
    it_goes,
    it_is_moved_away,
    another_comes,
    a_link_to_it_comes,
    its_times_are_set,
    its_rights_are_set,
    its_folder_is_moved_away_and_back,
    its_folder_goes,
    its_folder_is_made_again,
    a_folder_above_is_moved_away,
    another_root_takes_its_place,
    another_folder_above_the_root_takes_its_place,
    a_link_takes_the_roots_place,
    a_folder_comes_that_was_not_there,
    a_link_comes_where_no_folder_was,
    more_happens_than_the_system_tells,
]


@pytest.mark.parametrize("happens", HAPPENS, ids=[each.__name__ for each in HAPPENS])
def test_whatever_happens_in_a_folder_gives_it_another_stamp_in_the_next_pass(
    told: Told, happens: Callable[[Told], None]
) -> None:
    before = told.next_pass()
    assert told.next_pass() == before
    happens(told)
    assert told.next_pass() != before
    after = told.next_pass()  # and what happens next is told of as well
    if told.file.exists() and after is not None:
        it_is_appended_to(told)
        assert told.next_pass() != after


def test_within_a_pass_nothing_changes_what_was_told(told: Told) -> None:
    before = told.stamp
    it_is_appended_to(told)
    assert told.stamp == before
    assert told.next_pass() != before


def test_what_happens_before_anybody_was_told_of_a_folder_is_not_missed(told: Told) -> None:
    other = told.root / "other"
    other.mkdir()
    told.notices.begin()
    first = told.notices.stamp(str(told.root), (str(other),))
    (other / "file").touch()
    told.notices.begin()
    assert told.notices.stamp(str(told.root), (str(other),)) != first


def test_what_happens_elsewhere_changes_no_stamp(told: Told) -> None:
    before = told.next_pass()
    (told.root.parent / "file").touch()
    (told.folder / "file").read_bytes()
    assert told.next_pass() == before


def test_nothing_is_believed_for_longer_than_half_a_minute(told: Told) -> None:
    before = told.next_pass()
    told.clock.advance(BELIEVED_FOR - 1)
    assert told.next_pass() == before
    told.clock.advance(1)
    assert told.next_pass() != before


def test_of_a_folder_behind_a_link_nothing_is_told(told: Told) -> None:
    (told.root.parent / "far" / "sessions").mkdir(parents=True)
    (told.root / "link").symlink_to(told.root.parent / "far")
    told.notices.begin()
    assert told.notices.stamp(str(told.root), (str(told.root / "link" / "sessions"),)) is None


def test_of_a_folder_elsewhere_nothing_is_told(told: Told) -> None:
    assert told.notices.stamp(str(told.root / "main"), (str(told.root / "mainly"),)) is None


def test_of_a_disk_that_is_not_ours_alone_nothing_is_told() -> None:
    notices = Notices(HeldClock())
    notices.begin()
    assert notices.stamp("/proc", ("/proc/1",)) is None


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no disk is mounted there")
def test_of_a_disk_that_is_mounted_below_another_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.openclaw.notices.is_local", lambda _: True)
    notices = Notices(HeldClock())
    notices.begin()
    assert notices.stamp("/dev", ("/dev",)) is not None
    assert notices.stamp("/dev", ("/dev/shm",)) is None


def test_of_a_root_that_is_not_there_nothing_is_told(told: Told) -> None:
    assert told.notices.stamp(str(told.root / "nowhere"), (str(told.root / "nowhere"),)) is None


def test_where_the_system_gives_no_notices_nothing_is_told(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise OSError(errno.EMFILE, "as many as there may be")

    monkeypatch.setattr(inotify_simple, "INotify", refused)
    told.clock.advance(BELIEVED_FOR)
    assert told.next_pass() is None
    monkeypatch.undo()
    told.clock.advance(BELIEVED_FOR)
    assert told.next_pass() is not None


def test_it_holds_one_descriptor_and_gives_it_back(tmp_path: Path) -> None:
    def descriptors() -> int:
        return sum("inotify" in os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())

    before, clock = descriptors(), HeldClock()
    notices = Notices(clock)
    for _ in range(3):
        notices.begin()
        assert notices.stamp(str(tmp_path), (str(tmp_path),)) is not None
        assert descriptors() == before + 1
        clock.advance(BELIEVED_FOR)
    del notices
    assert descriptors() == before


def marks_below(root: Path) -> dict[str, Mark | None]:
    """Of all that a stamp stands for."""
    paths = [str(root), *(os.path.join(where, n) for where, folders, files in os.walk(root) for n in folders + files)]
    return {path: mark_of(path) for path in paths}


@pytest.mark.parametrize("seed", range(8))
def test_a_stamp_that_stays_means_that_nothing_has_another_mark(tmp_path: Path, seed: int) -> None:
    """Whatever is done in a tree of agents' folders, in any order, a few things between two passes."""
    root, lot, clock = tmp_path / "agents", random.Random(seed), HeldClock()
    notices = Notices(clock)
    folders = [root / agent / name for agent in ("a", "b") for name in ("sessions", "agent")]
    for folder in folders:
        folder.mkdir(parents=True)

    def place() -> Path:
        return lot.choice(folders) / lot.choice("xy")

    def write() -> None:
        with place().open("ab") as file:
            file.write(b"1")

    def swap_folders() -> None:
        one, two = lot.choice([(folders[0], folders[1]), (folders[0], folders[2]), (root / "a", root / "b")])
        one.rename(tmp_path / "swapped")
        with suppress(OSError):
            two.rename(one)
        (tmp_path / "swapped").rename(two)

    def swap_roots() -> None:
        root.rename(tmp_path / "swapped")
        shutil.copytree(tmp_path / "swapped", root, symlinks=True)
        shutil.rmtree(tmp_path / "swapped")

    def link() -> None:
        folder = lot.choice(folders)
        folder.rename(tmp_path / "between")
        folder.symlink_to(tmp_path / "between")

    def unlink() -> None:
        for folder in folders:
            if folder.is_symlink():
                folder.unlink()
                (tmp_path / "between").rename(folder)

    acts: list[Callable[[], object]] = [
        write,
        write,
        lambda: place().rename(place()),
        lambda: place().unlink(),
        lambda: place().chmod(lot.choice((0o600, 0o640))),
        lambda: os.utime(place(), (1, 1)),
        lambda: os.truncate(place(), 0),
        lambda: shutil.rmtree(lot.choice([*folders, root / "a"])),
        lambda: lot.choice(folders).mkdir(parents=True),
        swap_folders,
        swap_roots,
        link,
        unlink,
    ]
    stayed = 0
    before: dict[Path, tuple[int | None, dict[str, Mark | None]]] = {}
    for _ in range(400):
        notices.begin()
        now = {f: (notices.stamp(str(root), (str(f),)), marks_below(f)) for f in folders}
        for folder, (stamp, marks) in now.items():
            if folder in before and stamp is not None and stamp == before[folder][0]:
                stayed += 1
                assert marks == before[folder][1], folder
        before = now
        for _ in range(lot.choice((0, 1, 1, 2))):
            try:
                lot.choice(acts)()
            except OSError:
                continue
    assert stayed > 50
