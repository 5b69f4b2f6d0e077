"""What is open while a few rows are looked at: it stays what it was when it was opened, and is closed in the end."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from app.domain.model import Code
from app.openclaw import place as place_module
from app.openclaw.folder import FileProblem
from app.openclaw.place import OpenPlaces, Place
from app.reconcile import judging
from tests.faults.crowd import Crowd
from tests.world import World, run_pass


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A file of five bytes, two folders below its root."""
    folder = tmp_path / "root" / "a" / "sessions"
    folder.mkdir(parents=True)
    (folder / "t").write_bytes(b"first")
    return Place(str(tmp_path / "root"), str(folder), "t")


def text(places: OpenPlaces, place: Place) -> bytes:
    with places.opened(place) as (fd, st):
        data = os.pread(fd, 99, 0)
    assert len(data) == st.st_size
    return data


def open_now() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_folder_that_is_replaced_meanwhile_is_seen_as_what_was_opened(place: Place, tmp_path: Path) -> None:
    with OpenPlaces() as places:
        before = places.identity(place)
        Path(place.folder).rename(tmp_path / "away")
        Path(place.folder).mkdir()
        Path(place.path).write_bytes(b"another")
        assert (places.identity(place), text(places, place)) == (before, b"first")
        assert places.read(place, 9)[0] == b"first"
    with OpenPlaces() as places:
        assert text(places, place) == b"another"


def test_a_link_that_is_there_when_the_folder_is_opened_is_not_followed(place: Place, tmp_path: Path) -> None:
    Path(place.folder).rename(tmp_path / "away")
    Path(place.folder).symlink_to(tmp_path / "away")
    with OpenPlaces() as places:
        places.ask(place, 4)
        for look in (places.identity, places.opened, lambda at: places.read(at, 9)):
            with pytest.raises(FileProblem, match="symbolic link"):
                look(place)


def test_a_file_that_was_asked_for_is_read_as_it_is_when_it_is_read(place: Place) -> None:
    with OpenPlaces() as places:
        places.ask(place, 4)
        with Path(place.path).open("ab") as file:
            file.write(b" and more")
        assert text(places, place) == text(places, place) == b"first and more"


def test_a_file_that_is_replaced_after_it_was_asked_for_is_seen_as_what_was_opened(place: Place) -> None:
    with OpenPlaces() as places:
        places.ask(place, 4)
        Path(place.folder, "new").write_bytes(b"another")
        Path(place.folder, "new").rename(place.path)
        assert text(places, place) == b"first"


def test_a_file_that_came_after_it_was_asked_for_is_there(place: Place) -> None:
    late = place._replace(name="late")
    with OpenPlaces() as places:
        places.ask(late, 4)
        Path(late.path).write_bytes(b"late")
        assert text(places, late) == b"late"


@pytest.mark.parametrize("asked", [False, True])
def test_what_the_system_refuses_in_an_open_file_is_a_problem_with_a_name(place: Place, asked: bool) -> None:
    with OpenPlaces() as places:
        if asked:
            places.ask(place, 4)
        with pytest.raises(FileProblem) as refused, places.opened(place):
            raise OSError(5, "Input/output error")
    assert refused.value.code == "io_error"


def test_many_folders_are_looked_into_though_few_are_open_at_once(place: Place) -> None:
    before, root = open_now(), Path(place.root)
    files = [Place(place.root, str(root / f"a{number}"), "t") for number in range(30)]
    for number, file in enumerate(files):
        Path(file.folder).mkdir()
        Path(file.path).write_bytes(b"%d" % number)
    with OpenPlaces() as places:
        for _ in range(2):
            assert [text(places, file) for file in files] == [b"%d" % number for number in range(30)]
            assert open_now() - before <= 10
    assert open_now() == before


def test_nothing_stays_open_whatever_happened(place: Place) -> None:
    before = open_now()
    Path(place.folder, "folder").mkdir()
    os.mkfifo(Path(place.folder, "pipe"))
    with pytest.raises(KeyError), OpenPlaces() as places:
        for name in ("t", "gone", "folder", "pipe", "t"):
            places.ask(place._replace(name=name), 4)
        raise KeyError
    assert open_now() == before


@pytest.mark.parametrize("spare", [0, 8, place_module._LEFT_TO_OTHERS + 8])
def test_what_is_asked_for_leaves_the_last_descriptors_to_others(place: Place, spare: int) -> None:
    files = [place._replace(name=f"t{number}") for number in range(40)]
    for file in files:
        Path(file.path).write_bytes(file.name.encode())
    allowed, before = resource.getrlimit(resource.RLIMIT_NOFILE), open_now()
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free(spare + 4), allowed[1]))
    try:
        with OpenPlaces() as places:
            for file in files:
                places.ask(file, 4)
            assert open_now() - before <= 1 + max(0, spare + 4 - place_module._LEFT_TO_OTHERS)
            assert [text(places, file) for file in files] == [file.name.encode() for file in files]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)


def first_free(skip: int) -> int:
    """The descriptor that would be given after `skip` others."""
    used = {int(name) for name in os.listdir("/proc/self/fd")}
    return [number for number in range(len(used) + skip + 1) if number not in used][skip]


def test_of_many_rows_each_is_judged_by_its_own_trail_and_few_files_are_open_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = Crowd(world.state, world.clock.now())
    keys = [crowd.at_work("many", f"s{number}", ago=100) for number in range(3 * judging.AT_ONCE)]
    crowd.write()
    reconciler, before, most = world.reconciler(auto_repair=False), open_now(), 0
    advise = os.posix_fadvise

    def counted(fd: int, offset: int, length: int, advice: int) -> None:
        nonlocal most
        most = max(most, open_now() - before)
        advise(fd, offset, length, advice)

    monkeypatch.setattr(os, "posix_fadvise", counted)

    def working() -> list[tuple[str, bool]]:
        found = [f for f in run_pass(reconciler).findings() if f.key in keys]
        for finding in found:
            assert finding.evidence.trails[0].path.endswith(f"/{finding.evidence.row.session_id}.trajectory.jsonl")
        return [(finding.key, finding.verdict.code is Code.WORKING) for finding in found]

    assert working() == [(key, True) for key in keys]
    assert judging.AT_ONCE / 2 < most < judging.AT_ONCE + 40
    ended = [keys[number] for number in (0, 63, 64, 65, 191)]
    for key in ended:
        name = key.split(":")[-1]
        with crowd.trajectory("many", name).open("ab") as file:
            file.write(crowd.end(key, name, 50))
    assert working() == [(key, key not in ended) for key in keys]
