"""The exchange on a real folder, beside a gateway that writes at the worst moments."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.domain.splice import splice
from app.openclaw import lease, swap
from app.openclaw import publish as protocol
from app.openclaw.folder import Folder
from app.openclaw.publish import Change, Crossed, Published

NAME, TOKEN, STUCK, OTHER = "sessions.json", "token", "agent:main:stuck", "agent:main:other"
LIMIT = 1 << 30
SETTLED = {"status": "done", "endedAt": 200, "runtimeMs": 100, "abortedLastRun": False}
BEFORE = {
    STUCK: {"sessionId": "s", "status": "running", "startedAt": 100, "cut": "\ud83d"},
    OTHER: {"sessionId": "o", "status": "done", "startedAt": 10, "endedAt": 20, "updatedAt": 20},
}
Rows = dict[str, dict[str, Any]]


def dumped(rows: Rows) -> bytes:
    return json.dumps(rows, indent=2).encode()


class Store:
    """A store, the gateway that writes it, and us."""

    def __init__(self, path: Path) -> None:
        self.path = path / NAME
        self.path.write_bytes(dumped(BEFORE))
        self.path.chmod(0o600)
        self.folder = Folder(str(path))
        self.own: Rows = json.loads(dumped(BEFORE))
        """What the gateway last wrote, as its memory has it."""

    def rows(self) -> Rows:
        rows: Rows = json.loads(self.path.read_bytes())
        return rows

    def gateway_writes(self, change: Callable[[Rows], None]) -> None:
        """Change what it remembers, write beside, rename: as 2026.5.18 does."""
        change(self.own)
        temp = self.path.with_name(".fs-safe-replace.1.x.tmp")
        temp.write_bytes(dumped(self.own))
        temp.chmod(0o600)
        temp.rename(self.path)

    def change(self) -> Change:
        base = protocol.read_for_writing(self.folder, NAME, LIMIT)
        return Change(base, splice(base.data, STUCK, SETTLED)[0], TOKEN)

    def publish(self, change: Change | None = None, *, allow_rename: bool = False) -> Published | Crossed:
        return protocol.publish(self.folder, NAME, change or self.change(), allow_rename=allow_rename)

    def ours(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in self.path.parent.glob(".clawmend*")}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    with made.folder:
        yield made


def before_each_exchange(monkeypatch: pytest.MonkeyPatch, *moments: Callable[[], None] | None) -> None:
    """Run the n-th of `moments` directly before the n-th exchange: the last instant in which a gateway can slip in."""
    real, waiting = swap.exchange, list(moments)

    def exchange(folder: Folder, one: str, other: str) -> None:
        moment = waiting.pop(0) if waiting else None
        if moment is not None:
            moment()
        real(folder, one, other)

    monkeypatch.setattr(swap, "exchange", exchange)


def fail(monkeypatch: pytest.MonkeyPatch, call: str, number: int, when: Callable[[Any], bool] = lambda _: True) -> None:
    """The system call `os.<call>` fails with `number` from now on, where `when` says so of its first argument."""
    real = getattr(os, call)

    def failing(first: Any, *rest: Any, **named: Any) -> Any:
        if when(first):
            raise OSError(number, os.strerror(number))
        return real(first, *rest, **named)

    monkeypatch.setattr(os, call, failing)


def test_the_new_version_takes_the_place_of_the_old_one_and_leaves_nothing_behind(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:
        os.chown(store.path, -1, 4242)
    group, change = store.path.stat().st_gid, store.change()
    temp = store.path.with_name(f".clawmend-{TOKEN}.tmp")
    before_each_exchange(monkeypatch, lambda: os.utime(temp, ns=(0, 10**9)))

    done = store.publish(change)

    assert isinstance(done, Published)
    assert (done.mode, done.identity) == ("exchange", store.folder.identity(NAME))

    st = store.path.stat()
    assert store.path.read_bytes() == change.new
    assert (st.st_mode & 0o7777, st.st_uid, st.st_gid, st.st_nlink) == (0o600, os.geteuid(), group, 1)
    assert st.st_mtime_ns == 10**9 + 10**6, "touched after the exchange: later than it was, whatever the clock's steps"
    assert os.listdir(store.path.parent) == [NAME]


@pytest.mark.parametrize("moment", ["before the check", "in the exchange"])
def test_a_deleted_store_is_never_brought_back(store: Store, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change = store.change()
    if moment == "before the check":
        store.path.unlink()
    else:
        before_each_exchange(monkeypatch, store.path.unlink)
    with pytest.raises(protocol.StoreChanged):
        store.publish(change)
    assert os.listdir(store.path.parent) == []


def test_a_store_that_changed_since_it_was_read_is_not_touched(store: Store) -> None:
    change = store.change()
    store.gateway_writes(lambda rows: rows[OTHER].update(updatedAt=21))
    written = store.path.read_bytes()
    with pytest.raises(protocol.StoreChanged):
        store.publish(change)
    assert store.path.read_bytes() == written
    assert os.listdir(store.path.parent) == [NAME]


def test_a_gateway_write_while_the_store_is_read_is_no_second_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between `open` and `fstat` the file that was opened loses its only name."""
    real, opened = os.fstat, 0

    def fstat(fd: int) -> os.stat_result:
        nonlocal opened
        opened += 1
        if opened == 3:  # the look at owner and names, after the bytes were read
            store.gateway_writes(lambda rows: rows[OTHER].update(updatedAt=21))
        return real(fd)

    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(protocol.StoreChanged):
        store.change()


def test_a_store_whose_identity_changed_with_the_same_bytes_is_judged_again(store: Store) -> None:
    change = store.change()
    store.gateway_writes(lambda _: None)
    assert store.path.read_bytes() == dumped(BEFORE)
    with pytest.raises(protocol.StoreChanged):
        store.publish(change)


@pytest.mark.parametrize(
    ("call", "number"),
    [("write", errno.ENOSPC), ("write", errno.EDQUOT), ("fsync", errno.EIO), ("open", errno.EROFS)],
)
def test_a_disk_that_fails_leaves_the_old_store_and_no_litter(
    store: Store, call: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, inode = store.change(), store.path.stat().st_ino
    with monkeypatch.context() as patch:
        fail(patch, call, number)
        with pytest.raises(swap.WriteFailed):
            store.publish(change)
    assert (store.path.stat().st_ino, store.path.read_bytes()) == (inode, dumped(BEFORE))
    assert os.listdir(store.path.parent) == [NAME]


def test_a_write_that_the_disk_takes_in_pieces_is_written_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    change, real = store.change(), os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:7]))
    assert isinstance(store.publish(change), Published)
    assert store.path.read_bytes() == change.new


def test_a_folder_that_cannot_be_synced_keeps_the_displaced_version(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = store.change()
    with monkeypatch.context() as patch:
        fail(patch, "fsync", errno.EIO, lambda fd: fd == store.folder.fd)
        with pytest.raises(protocol.NotDurable):
            store.publish(change)
    assert store.path.read_bytes() == change.new
    assert list(store.ours().values()) == [change.base.data]


def without_exchange(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(swap, "_renameat2", None)


def without_leases(patch: pytest.MonkeyPatch) -> None:
    """As where Python was built for a system that has none."""
    patch.setattr(lease, "_SET_LEASE", None)
    patch.delattr(fcntl, "F_SETLEASE")


def leases_refused(patch: pytest.MonkeyPatch) -> None:
    """As a file system that has none answers."""
    real = fcntl.fcntl

    def refusing(fd: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETLEASE:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(fd, command, argument)

    patch.setattr(fcntl, "fcntl", refusing)


weak_systems = pytest.mark.parametrize("weak", [without_exchange, without_leases, leases_refused])


@weak_systems
def test_without_exchange_or_leases_nothing_is_written(
    store: Store, weak: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    weak(monkeypatch)
    with pytest.raises(protocol.NoExchange):
        store.publish()
    assert store.path.read_bytes() == dumped(BEFORE)
    assert os.listdir(store.path.parent) == [NAME]


@weak_systems
def test_without_exchange_or_leases_a_rename_is_made_where_it_is_allowed_and_said(
    store: Store, weak: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    weak(monkeypatch)
    change = store.change()
    done = store.publish(change, allow_rename=True)
    assert isinstance(done, Published)
    assert done.mode == "rename"
    assert store.path.read_bytes() == change.new
    assert os.listdir(store.path.parent) == [NAME]


@pytest.mark.parametrize("deleted", [False, True])
def test_the_weaker_way_checks_once_more_directly_before_its_rename(
    store: Store, deleted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moment(*_: object) -> None:
        store.path.unlink() if deleted else store.gateway_writes(lambda rows: rows.pop(OTHER))
        raise OSError(errno.EINVAL, "no exchange here")

    monkeypatch.setattr(swap, "exchange", moment)
    with pytest.raises(protocol.StoreChanged):
        store.publish(allow_rename=True)
    assert store.ours() == {}
    assert not store.path.exists() if deleted else list(store.rows()) == [STUCK]


def test_a_rename_that_fails_is_a_failed_write(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap, "_renameat2", None)
    fail(monkeypatch, "rename", errno.EIO)
    with pytest.raises(swap.WriteFailed):
        store.publish(allow_rename=True)
    assert os.listdir(store.path.parent) == [NAME]
