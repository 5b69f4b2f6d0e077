"""Holding a file shut: who waits, for how long, and what they read."""

from __future__ import annotations

import errno
import fcntl
import os
import runpy
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.openclaw import lease

OURS = b"ours" * 1_000


def somebody_waits(fd: int) -> bool:
    """The kernel says of a lease that it is being broken what it is to become."""
    return fcntl.fcntl(fd, fcntl.F_GETLEASE) != fcntl.F_WRLCK


class Shut:
    """A file that only we have open, and perhaps somebody who wants to read it."""

    def __init__(self, path: Path) -> None:
        self.path = path / "ours"
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(self.fd, OURS)
        self.read: list[bytes] = []
        self.thread = threading.Thread(target=lambda: self.read.append(self.path.read_bytes()), daemon=True)

    def somebody_opens_it(self) -> None:
        self.thread.start()
        while not somebody_waits(self.fd):
            pass

    def what_they_read(self) -> bytes:
        self.thread.join(timeout=10)
        assert not self.thread.is_alive()
        return self.read[0]


@pytest.fixture
def shut(tmp_path: Path) -> Iterator[Shut]:
    made = Shut(tmp_path)
    yield made
    os.close(made.fd)


def test_a_file_that_is_held_shut_has_nobody_waiting_until_somebody_opens_it(shut: Shut) -> None:
    assert lease.hold_shut(shut.fd)
    assert not somebody_waits(shut.fd)
    shut.somebody_opens_it()
    assert shut.read == []
    lease.let_in(shut.fd)
    assert shut.what_they_read() == OURS


def test_a_file_that_was_let_go_can_be_opened_at_once(shut: Shut) -> None:
    lease.hold_shut(shut.fd)
    lease.let_in(shut.fd)
    shut.thread.start()
    assert shut.what_they_read() == OURS


def test_a_file_that_somebody_has_open_cannot_be_held_shut(shut: Shut) -> None:
    reader = os.open(shut.path, os.O_RDONLY)
    with pytest.raises(lease.AlreadyOpen):
        lease.hold_shut(shut.fd)
    os.close(reader)
    assert lease.hold_shut(shut.fd)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EACCES, errno.ENOLCK])
def test_a_file_system_without_leases_is_said_to_be_one(
    shut: Shut, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "fcntl", refusing)
    assert lease.hold_shut(shut.fd) is False


def test_a_system_without_leases_is_said_to_be_one(shut: Shut, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_SET_LEASE", None)
    assert lease.hold_shut(shut.fd) is False
    shut.thread.start()
    assert shut.what_they_read() == OURS


def test_a_Python_without_the_name_of_leases_loads_and_says_that_there_are_none(
    shut: Shut, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(fcntl, "F_SETLEASE")
    assert runpy.run_path(lease.__file__)["hold_shut"](shut.fd) is False


def test_a_lease_that_is_gone_already_can_be_given_up_again(shut: Shut, monkeypatch: pytest.MonkeyPatch) -> None:
    lease.hold_shut(shut.fd)

    def failing(*_: object) -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "fcntl", failing)
        lease.let_in(shut.fd)
    lease.let_in(shut.fd)


@pytest.mark.parametrize("said", [b"", b"x", OURS, b"theirs" * 10_000], ids=["nothing", "short", "as long", "longer"])
@pytest.mark.parametrize("piece", [7, 1 << 20])
def test_who_waits_reads_what_is_said_instead_and_nothing_of_ours(
    shut: Shut, said: bytes, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite
    lease.hold_shut(shut.fd)
    shut.somebody_opens_it()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[: max(piece, len(data) // 3)], at))
        lease.say_instead(shut.fd, said)
    lease.let_in(shut.fd)
    assert shut.what_they_read() == said


def test_a_file_of_no_bytes_can_be_made_to_say_nothing(shut: Shut) -> None:
    """A gateway version may be held shut as well, and that may be empty, as may be the newest one."""
    os.ftruncate(shut.fd, 0)
    lease.hold_shut(shut.fd)
    lease.say_instead(shut.fd, b"")
    lease.let_in(shut.fd)
    assert shut.path.read_bytes() == b""


def test_a_disk_that_is_full_is_noticed_before_anything_of_ours_is_changed(
    shut: Shut, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def full(_: int, at: int, length: int) -> None:
        asked.append((at, length))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        lease.say_instead(shut.fd, b"x" * 99)
    assert asked == [(0, len(OURS))]
    assert shut.path.read_bytes() == OURS
