"""A gateway that writes in the instant of our exchange: what it wrote must stand afterwards.

The measure is always the same: the store, and whatever anybody read of it, must be as though we had never been there.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from app.openclaw import lease, stepping_back, swap
from app.openclaw import publish as protocol
from app.openclaw.folder import Folder
from app.openclaw.publish import Crossed, Published
from tests.integration.test_publish import NAME, OTHER, TOKEN, Store, before_each_exchange, dumped, fail, store

__all__ = ["store"]

TEMP = f".clawmend-{TOKEN}.tmp"


def writes(store: Store, **fields: object) -> Callable[[], None]:
    """A gateway write to the other row, built on what the gateway wrote before."""
    return lambda: store.gateway_writes(lambda rows: rows[OTHER].update(fields))


def after_each_exchange(patch: pytest.MonkeyPatch, *moments: Callable[[], None] | None) -> None:
    real, waiting = swap.exchange, list(moments)

    def exchange(folder: Folder, one: str, other: str) -> None:
        real(folder, one, other)
        moment = waiting.pop(0) if waiting else None
        if moment is not None:
            moment()

    patch.setattr(swap, "exchange", exchange)


class Reader(threading.Thread):
    """Opens the store as the gateway does, and may have to wait."""

    def __init__(self, store: Store) -> None:
        super().__init__(daemon=True)
        self._path = store.path
        self.read: bytes | None = None

    def run(self) -> None:
        self.read = self._path.read_bytes()

    def go_and_wait(self) -> None:
        """Start, and come back when the kernel has it waiting in its `open`."""
        self.start()
        wchan = f"/proc/self/task/{self.native_id}/syscall"
        while self.is_alive():
            with suppress(OSError), open(wchan, encoding="ascii") as file:
                if file.read().split()[0] in ("257", "56"):  # openat, on x86-64 and on arm64
                    return

    def comes_back_with(self) -> bytes | None:
        self.join(timeout=10)
        assert not self.is_alive(), "nobody waits longer than the repair takes"
        return self.read


def test_a_write_between_the_check_and_the_exchange_is_live_again_to_the_byte(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    assert isinstance(store.publish(), Crossed)
    assert store.path.read_bytes() == dumped(store.own)
    assert os.listdir(store.path.parent) == [NAME]


def test_who_opens_ours_before_it_is_verified_waits_and_then_reads_ours(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, reader = store.change(), Reader(store)
    after_each_exchange(monkeypatch, reader.go_and_wait)
    assert isinstance(store.publish(change), Published)
    assert reader.comes_back_with() == change.new


@pytest.mark.parametrize("label", ["n", "n" * 100_000, None], ids=["as long", "longer", "shorter"])
def test_who_opens_ours_in_a_crossing_reads_what_the_gateway_wrote_in_its_place(
    store: Store, label: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(store)

    def crossing() -> None:
        if label is None:
            store.gateway_writes(lambda rows: rows.pop(OTHER))
        else:
            writes(store, label=label)()

    before_each_exchange(monkeypatch, crossing)
    after_each_exchange(monkeypatch, reader.go_and_wait)
    assert isinstance(store.publish(), Crossed)
    assert reader.comes_back_with() == dumped(store.own) == store.path.read_bytes()


def test_the_gateway_may_break_our_lease_and_we_live(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's signal to the holder of a broken lease is one that nobody dies of."""
    reader = Reader(store)
    came: list[int] = []
    before = signal.signal(signal.SIGURG, lambda number, _: came.append(number))
    try:
        after_each_exchange(monkeypatch, reader.go_and_wait)
        store.publish()
        reader.comes_back_with()
    finally:
        signal.signal(signal.SIGURG, before)
    assert came == [signal.SIGURG]
    assert signal.getsignal(signal.SIGURG) == signal.SIG_DFL, "which is to ignore it"


def test_a_write_that_does_not_parse_is_put_back_all_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_a_store() -> None:
        store.path.with_name("new").write_bytes(b'{"agent:main:')
        store.path.with_name("new").rename(store.path)

    before_each_exchange(monkeypatch, half_a_store)
    assert isinstance(store.publish(), Crossed)
    assert store.path.read_bytes() == b'{"agent:main:'


@pytest.mark.parametrize("moment", ["before the put-back is decided", "in the put-back"])
def test_a_second_write_in_the_same_crossing_stands(store: Store, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = writes(store, updatedAt=21), writes(store, updatedAt=22, label="n")
    if moment == "in the put-back":
        before_each_exchange(monkeypatch, first, second)
    else:
        before_each_exchange(monkeypatch, first)
        after_each_exchange(monkeypatch, second)
    assert isinstance(store.publish(), Crossed)
    assert store.path.read_bytes() == dumped(store.own)
    assert store.own[OTHER]["updatedAt"] == 22
    assert os.listdir(store.path.parent) == [NAME]


def test_a_newer_gateway_version_is_not_taken_out_of_its_place_for_an_instant(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanged: list[str] = []
    before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    after_each_exchange(monkeypatch, writes(store, updatedAt=22), lambda: exchanged.append("again"))
    store.publish()
    assert exchanged == []


@pytest.mark.parametrize("label", ["n", "n" * 100_000], ids=["as long", "longer"])
def test_who_opens_an_older_gateway_version_in_the_put_back_reads_the_newest(
    store: Store, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second write lands in the last instant before the put-back: for another one, the first has the name again."""
    reader = Reader(store)
    before_each_exchange(monkeypatch, writes(store, updatedAt=21), writes(store, updatedAt=22, label=label))
    after_each_exchange(monkeypatch, None, reader.go_and_wait)
    assert isinstance(store.publish(), Crossed)
    assert reader.comes_back_with() == dumped(store.own) == store.path.read_bytes()
    assert os.listdir(store.path.parent) == [NAME]


def test_a_third_write_in_the_put_back_was_built_on_the_second_and_stands(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (writes(store, **{f"field{n}": n}) for n in (1, 2, 3))
    before_each_exchange(monkeypatch, first, second)
    after_each_exchange(monkeypatch, None, third)
    assert isinstance(store.publish(), Crossed)
    assert store.path.read_bytes() == dumped(store.own)
    assert os.listdir(store.path.parent) == [NAME]


def test_a_third_write_that_may_have_been_built_on_the_first_costs_no_version(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has the first version open, so that it could not be held shut; the second is in our hand."""
    first, second, third = (writes(store, **{f"field{n}": n}) for n in (1, 2, 3))
    real, taken = lease.hold_shut, 0

    def only_ours(fd: int) -> bool:
        nonlocal taken
        taken += 1
        if taken > 1:
            raise lease.AlreadyOpen
        return real(fd)

    monkeypatch.setattr(lease, "hold_shut", only_ours)
    first, second, third = (writes(store, **{f"field{n}": n}) for n in (1, 2, 3))
    before_each_exchange(monkeypatch, first, second)
    after_each_exchange(monkeypatch, None, third)
    with pytest.raises(stepping_back.VersionsKept):
        store.publish()
    assert store.path.read_bytes() == dumped(store.own)
    (kept,) = store.ours().values()
    assert json.loads(kept)[OTHER].keys() >= {"field1", "field2"}


@pytest.mark.parametrize("more", [0, 1], ids=["the second is put back at once", "a further write crosses that"])
def test_a_write_that_was_built_on_the_first_and_comes_when_all_is_put_back_costs_no_version(
    store: Store, more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has the first version open, so that it could not be held shut; the gateway reads it while it has the
    store's name, and overwrites later what it had written since.
    """
    real, taken = lease.hold_shut, 0

    def not_the_first(fd: int) -> bool:
        nonlocal taken
        taken += 1
        if 1 < taken <= 1 + stepping_back._TRIES_TO_HOLD:
            raise lease.AlreadyOpen
        return real(fd)

    read: list[bytes] = []
    monkeypatch.setattr(lease, "hold_shut", not_the_first)
    before_each_exchange(monkeypatch, *(writes(store, **{f"field{n}": n}) for n in range(1, 3 + more)))
    after_each_exchange(monkeypatch, None, lambda: read.append(store.path.read_bytes()))
    with pytest.raises(stepping_back.VersionsKept) as raised:
        store.publish()
    names = f"{TEMP}, {TEMP}.kept1, {TEMP}.kept2" if more else f"{TEMP}.kept1"
    assert str(raised.value) == f"a gateway version is kept in {names}, since another took its place meanwhile"
    assert sorted(store.ours()) == names.split(", ")
    assert store.path.read_bytes() == dumped(store.own)
    assert json.loads(read[0])[OTHER].keys() & {"field1", "field2"} == {"field1"}
    (store.path.parent / "beside").write_bytes(read[0])
    os.rename(store.path.parent / "beside", store.path)
    kept = [json.loads(data)[OTHER].keys() & {"field2", "field3"} for data in store.ours().values()]
    assert {"field2"} in kept
    assert not more or {"field2", "field3"} in kept
    assert set() not in kept  # what all the others were built on need not stay


def test_a_gateway_that_writes_at_every_exchange_is_never_gone_back_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_each_exchange(monkeypatch, *(writes(store, **{f"field{n}": n}) for n in range(60)))
    assert isinstance(store.publish(), Crossed)
    assert store.path.read_bytes() == dumped(store.own)


@pytest.mark.parametrize("moment", ["before the put-back is decided", "in the put-back"])
def test_a_store_that_is_deleted_in_a_crossing_stays_deleted(
    store: Store, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deleted() -> None:
        os.unlink(store.path)

    if moment == "in the put-back":
        before_each_exchange(monkeypatch, writes(store, updatedAt=21), deleted)
    else:
        before_each_exchange(monkeypatch, writes(store, updatedAt=21))
        after_each_exchange(monkeypatch, deleted)
    assert isinstance(store.publish(), Crossed)
    assert os.listdir(store.path.parent) == []


def test_killed_in_a_crossing_what_crossed_outlasts_what_a_reader_of_ours_writes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease ends with the process, and who waited for ours reads ours."""

    def killed() -> None:
        raise KeyboardInterrupt

    before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    after_each_exchange(monkeypatch, None, killed)
    with pytest.raises(KeyboardInterrupt):
        store.publish()
    crossed = dumped(store.own)
    store.gateway_writes(lambda rows: rows[OTHER].update(updatedAt=20, built="on ours"))
    assert store.ours()[stepping_back.kept_name(TEMP)] == crossed


def test_killed_in_a_second_put_back_the_newest_outlasts_what_a_reader_of_the_older_one_writes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first that crossed had the store's name for an instant; who waited for it reads it then, and writes on it."""

    def killed() -> None:
        raise KeyboardInterrupt

    before_each_exchange(monkeypatch, writes(store, updatedAt=21), writes(store, updatedAt=22))
    after_each_exchange(monkeypatch, None, None, killed)
    with pytest.raises(KeyboardInterrupt):
        store.publish()
    newest = dumped(store.own)
    store.gateway_writes(lambda rows: rows[OTHER].update(updatedAt=21, built="on the first"))
    assert store.ours()[stepping_back.kept_name(TEMP, 1)] == newest


def test_what_was_taken_back_has_a_name_that_says_so_before_it_is_written_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    back, kept = stepping_back.back_name(TEMP), stepping_back.kept_name(TEMP)
    seen: list[tuple[set[str], bool, bytes]] = []

    def looked(fd: int, _: bytes) -> None:
        folder = store.path.parent
        same = os.path.samestat(os.stat(folder / back), os.fstat(fd))  # to read it would be to wait for its lease
        seen.append(({path.name for path in folder.glob(".clawmend*")}, same, (folder / kept).read_bytes()))

    monkeypatch.setattr(lease, "say_instead", looked)
    store.publish()
    assert seen == [({back, kept}, True, dumped(store.own))]


def test_a_version_that_the_gateway_wrote_over_ours_itself_is_not_called_past(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In our hand is then what crossed, not ours: who waited for ours may still write over what stands."""
    before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    crossed: list[bytes] = []

    def second() -> None:
        crossed.append(dumped(store.own))
        writes(store, updatedAt=22)()

    after_each_exchange(monkeypatch, second)
    seen = list[dict[str, bytes]]()
    monkeypatch.setattr(lease, "say_instead", lambda *_: seen.append(store.ours()))
    store.publish()
    assert seen == [{TEMP: crossed[0]}]


def test_a_second_name_that_cannot_be_taken_away_ends_the_repair_and_what_tells_of_it_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    fail(monkeypatch, "unlink", errno.EIO, lambda name: name == stepping_back.kept_name(TEMP))
    with pytest.raises(swap.WriteFailed, match="cannot be taken away"):
        store.publish()
    gateways = dumped(store.own)
    assert store.path.read_bytes() == gateways
    assert store.ours() == {stepping_back.back_name(TEMP): gateways, stepping_back.kept_name(TEMP): gateways}


def test_a_displaced_version_that_cannot_be_read_is_put_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    after_each_exchange(monkeypatch, lambda: fail(monkeypatch, "pread", errno.EIO))
    change = store.change()
    with pytest.raises(stepping_back.VersionsKept):
        store.publish(change)
    assert store.path.read_bytes() == change.base.data


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
def test_a_disk_that_is_full_in_a_crossing_keeps_what_a_waiting_reader_could_overwrite(
    store: Store, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(store)
    before_each_exchange(monkeypatch, writes(store, label="n" * 100_000))
    after_each_exchange(monkeypatch, reader.go_and_wait)
    with monkeypatch.context() as patch:
        fail(patch, call, errno.ENOSPC)
        with pytest.raises(stepping_back.VersionsKept):
            store.publish()
    reader.comes_back_with()
    assert store.path.read_bytes() == dumped(store.own)
    assert store.ours()[stepping_back.kept_name(TEMP)] == dumped(store.own)
    store.gateway_writes(lambda rows: rows[OTHER].pop("label"))
    assert b"nnnn" in store.ours()[stepping_back.kept_name(TEMP)]


def test_an_exchange_that_fails_in_a_crossing_leaves_the_gateways_version_in_our_hand(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before_each_exchange(monkeypatch, writes(store, updatedAt=21), fails)
    with pytest.raises(stepping_back.VersionsKept):
        store.publish()
    assert store.ours()[TEMP] == dumped(store.own)


def test_the_put_back_is_on_disk_before_ours_is_written_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a power cut could give the store's name back to a file that is half ours and half the gateway's."""
    calls: list[str] = []
    real_sync, real_write = os.fsync, os.pwrite

    def fsync(fd: int) -> None:
        inode = os.fstat(fd).st_ino
        calls.append("folder" if fd == store.folder.fd else "live" if inode == store.path.stat().st_ino else "ours")
        real_sync(fd)

    def pwrite(fd: int, data: bytes, at: int) -> int:
        calls.append("written over")
        return real_write(fd, data, at)

    before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "pwrite", pwrite)
    store.publish()
    assert calls == ["ours", "live", "folder", "written over", "folder"]


def test_a_gateway_version_that_cannot_be_synced_stands_and_the_repair_is_given_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = store.change()
    before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    after_each_exchange(monkeypatch, None, lambda: fail(monkeypatch, "fsync", errno.EIO))
    with pytest.raises(stepping_back.VersionsKept):
        store.publish(change)
    assert store.path.read_bytes() == dumped(store.own)
    assert store.ours() == {stepping_back.back_name(TEMP): change.new, stepping_back.kept_name(TEMP): dumped(store.own)}


@pytest.mark.parametrize("moment", ["before the exchange", "crossed"])
def test_a_try_that_came_to_nothing_is_gone_for_good_before_the_next_one(
    store: Store, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brought back by a power cut, it would be taken for a gateway version that the next try displaced."""
    calls: list[str] = []
    real_sync, real_unlink = os.fsync, os.unlink

    def fsync(fd: int) -> None:
        calls.append("folder" if fd == store.folder.fd else "file")
        real_sync(fd)

    def unlink(name: str, *, dir_fd: int | None = None) -> None:
        calls.append("unlink")
        real_unlink(name, dir_fd=dir_fd)

    change = store.change()
    if moment == "crossed":
        before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    else:
        writes(store, updatedAt=21)()
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "unlink", unlink)
    with suppress(protocol.StoreChanged):
        store.publish(change)
    assert calls[-2:] == ["unlink", "folder"]


def test_somebody_who_has_our_new_version_open_already_stops_the_repair(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, real, opened = store.change(), lease.hold_shut, []

    def a_backup_reads_along(fd: int) -> bool:
        opened.append(os.open(store.path.with_name(TEMP), os.O_RDONLY))
        return real(fd)

    monkeypatch.setattr(lease, "hold_shut", a_backup_reads_along)
    with pytest.raises(swap.WriteFailed, match="another process has opened"):
        store.publish(change)
    os.close(opened[0])
    assert store.path.read_bytes() == change.base.data
    assert os.listdir(store.path.parent) == [NAME]


def test_an_interrupt_directly_after_the_exchange_takes_no_gateway_version_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    after_each_exchange(monkeypatch, interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.publish()
    assert store.ours() == {TEMP: dumped(store.own)}


def test_a_reader_of_ours_waits_for_a_repair_of_ours(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass, or the CLI beside the service, reads the store in the very instant in which it is held shut."""
    read: list[Any] = []

    def look() -> None:
        with Folder(str(store.path.parent)) as folder:
            read.append(folder.read(NAME, 1 << 20)[0])

    change, thread = store.change(), threading.Thread(target=look, daemon=True)
    after_each_exchange(monkeypatch, thread.start)
    store.publish(change)
    thread.join(timeout=10)
    assert read == [change.new]


def test_the_folder_is_synced_before_a_displaced_version_is_taken_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_sync, real_unlink, calls = os.fsync, os.unlink, []

    def fsync(fd: int) -> None:
        calls.append("folder" if fd == store.folder.fd else "file")
        real_sync(fd)

    def unlink(name: str, *, dir_fd: int | None = None) -> None:
        calls.append("unlink")
        real_unlink(name, dir_fd=dir_fd)

    before_each_exchange(monkeypatch, lambda: calls.append("exchange"))
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "unlink", unlink)
    store.publish()
    assert calls == ["file", "exchange", "folder", "unlink"]
