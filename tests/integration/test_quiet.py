"""When a store may be written: at which millisecond it counts as quiet, and how long is waited for it."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.openclaw.folder import FileProblem, Folder
from app.openclaw.quiet import StoreBusy, is_quiet, sole_writer, wait_until_quiet
from tests.world import HeldClock

NAME = "sessions.json"
QUIET = 1.0


class Place:
    """A folder with a store, a clock, and the moment at which the store was last written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = HeldClock()
        self.written(NAME, ago=60.0)
        self.folder = Folder(str(path))

    def written(self, name: str, *, ago: float) -> None:
        file = self.path / name
        file.touch()
        moment = (self.clock.now() - round(ago * 1000)) * 1_000_000
        os.utime(file, ns=(moment, moment))

    def quiet(self, *, quiet: float = QUIET) -> bool:
        return is_quiet(self.folder, NAME, self.clock.now(), quiet, None)

    def wait(self, patience: float) -> float:
        """Seconds that were waited."""
        began = self.clock.mono
        wait_until_quiet(self.folder, NAME, self.clock, quiet=QUIET, patience=patience, ours=None)
        return self.clock.mono - began


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    with made.folder:
        yield made


@pytest.mark.parametrize(
    ("ago", "quiet", "is_so"), [(0.999, 1.0, False), (1.0, 1.0, True), (1.0, 1.5, False), (0, 0, True)]
)
def test_a_store_is_quiet_from_the_very_millisecond_at_which_its_time_is_over(
    place: Place, ago: float, quiet: float, is_so: bool
) -> None:
    place.written(NAME, ago=ago)

    assert place.quiet(quiet=quiet) is is_so


def test_our_own_write_is_no_reason_to_wait(place: Place) -> None:
    place.written(NAME, ago=0)
    ours = place.folder.identity(NAME)

    assert is_quiet(place.folder, NAME, place.clock.now(), QUIET, ours)
    place.written(NAME, ago=0.1)
    assert not is_quiet(place.folder, NAME, place.clock.now(), QUIET, ours)


@pytest.mark.parametrize(
    ("name", "ago", "quiet"),
    [
        (".fs-safe-replace.1.x.tmp", 0, False),
        (".fs-safe-replace.1.x.tmp", 29.999, False),
        (".fs-safe-replace.1.x.tmp", 30, True),
        ("fs-safe-replace.1.x.tmp", 0, True),
        (".clawmend-1.tmp", 0, True),
        ("another.json", 0, True),
    ],
)
def test_a_gateways_temporary_file_that_is_young_means_that_it_writes(
    place: Place, name: str, ago: float, quiet: bool
) -> None:
    place.written(name, ago=ago)

    assert place.quiet() is quiet


@pytest.mark.parametrize("first", ["a", "z"])
def test_one_young_temporary_file_among_others_is_enough(place: Place, first: str) -> None:
    """Whatever the order of the folder: a dead one, one that cannot be told, and one that is being written."""
    place.written(f".fs-safe-replace.{first}.tmp", ago=0)
    place.written(".fs-safe-replace.m.tmp", ago=3_600)
    (place.path / ".fs-safe-replace.k.tmp").symlink_to("nowhere")

    assert not place.quiet()


def test_a_temporary_file_that_is_a_link_or_gone_again_says_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.path / ".fs-safe-replace.1.tmp").symlink_to("nowhere")
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda fd: [*real(fd), ".fs-safe-replace.2.tmp"])

    assert place.quiet()


def test_a_store_that_is_gone_is_not_quiet_but_missing(place: Place) -> None:
    (place.path / NAME).unlink()
    with pytest.raises(FileProblem) as raised:
        place.quiet()
    assert (raised.value.code, raised.value.detail) == ("missing", "the store is gone")


@pytest.mark.parametrize("ago", [1.0, 3_600])
def test_a_quiet_store_is_not_waited_for(place: Place, ago: float) -> None:
    place.written(NAME, ago=ago)

    assert place.wait(patience=0) == 0


def test_our_own_write_is_not_waited_for_either(place: Place) -> None:
    place.written(NAME, ago=0)
    ours, began = place.folder.identity(NAME), place.clock.mono
    wait_until_quiet(place.folder, NAME, place.clock, quiet=QUIET, patience=10, ours=ours)
    assert place.clock.mono == began


def test_a_store_that_comes_to_rest_is_waited_for_and_no_longer_than_that(place: Place) -> None:
    place.written(NAME, ago=0.25)

    assert 0.75 <= place.wait(patience=10) < 0.9


@pytest.mark.parametrize("patience", [0.0, 0.5])
def test_patience_ends_when_it_is_over_and_says_so(place: Place, patience: float) -> None:
    place.written(NAME, ago=-1_000)
    began = place.clock.mono
    with pytest.raises(StoreBusy) as raised:
        place.wait(patience=patience)
    assert patience <= place.clock.mono - began < patience + 0.11
    assert str(raised.value) == f"the gateway has been writing to this store for {patience:g} s without a pause"


@pytest.mark.parametrize("patience", [0.0, 0.5])
def test_another_Clawmend_is_waited_for_as_long_as_the_patience_lasts(place: Place, patience: float) -> None:
    began = place.clock.mono
    with Folder(str(place.path)) as other, sole_writer(other, place.clock, 0):
        with pytest.raises(StoreBusy) as raised, sole_writer(place.folder, place.clock, patience):
            pytest.fail("both were let in")
        assert patience <= place.clock.mono - began < patience + 0.06
    assert str(raised.value) == "another Clawmend is writing to this store"
    with sole_writer(place.folder, place.clock, 0):
        pass


def test_who_has_no_patience_does_not_wait_at_all(place: Place) -> None:
    """As the looks: they come again."""
    place.written(NAME, ago=0)
    began = place.clock.mono
    with pytest.raises(StoreBusy):
        place.wait(patience=0)
    held = (Folder(str(place.path)), pytest.raises(StoreBusy))
    with held[0] as other, sole_writer(other, place.clock, 0), held[1], sole_writer(place.folder, place.clock, 0):
        pytest.fail("both were let in")
    assert place.clock.mono == began


def test_the_folder_is_let_go_whatever_happens_meanwhile(place: Place) -> None:
    with pytest.raises(ZeroDivisionError), sole_writer(place.folder, place.clock, 0):
        _ = 1 / 0
    with Folder(str(place.path)) as other, sole_writer(other, place.clock, 0):
        pass


def test_a_lock_that_cannot_be_given_up_is_given_up_with_the_folder(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def failing(fd: int, operation: int) -> None:
        if operation == fcntl.LOCK_UN:
            raise OSError(errno.EIO, "Input/output error")
        real(fd, operation)

    with monkeypatch.context() as patch, Folder(str(place.path)) as other:
        patch.setattr(fcntl, "flock", failing)
        with sole_writer(other, place.clock, 0):
            pass
    with sole_writer(place.folder, place.clock, 0):
        pass


def test_a_folder_that_cannot_be_locked_is_busy_at_once_and_says_why(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    began = place.clock.mono
    with pytest.raises(StoreBusy) as raised, sole_writer(place.folder, place.clock, 10):
        pytest.fail("without a lock")
    assert (str(raised.value), place.clock.mono) == (
        "the store's folder cannot be locked: No locks available",
        began,
    )
