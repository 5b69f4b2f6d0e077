"""A gateway that writes in the instant of our exchange: what it wrote must stand afterwards, whatever it built on.

The measure is always the same: the store must look as though we had never been there.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable

import pytest

from app.openclaw import publish as protocol
from app.openclaw.folder import Folder
from app.openclaw.publish import Crossed
from tests.integration.test_publish import BEFORE, NAME, OTHER, STUCK, TOKEN, Store, before_each_exchange, fail, store

__all__ = ["store"]


def sets(key: str, **fields: object) -> Callable[[dict[str, dict[str, object]]], None]:
    """A gateway write: these fields of this row set, those given as None taken away."""

    def change(rows: dict[str, dict[str, object]]) -> None:
        row = rows.setdefault(key, {"sessionId": key[-1]})
        row.update(fields)
        for name in [n for n, v in fields.items() if v is None]:
            del row[name]

    return change


def test_a_write_between_the_check_and_the_exchange_is_live_again_to_the_byte(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_each_exchange(monkeypatch, lambda: store.gateway_writes(sets(OTHER, updatedAt=21)))
    assert isinstance(store.publish(), Crossed)
    written = json.dumps(store.own, indent=2).encode()
    assert store.path.read_bytes() == written
    assert store.ours() == {
        protocol.held_name(TOKEN): written,
        protocol.base_name(TOKEN): json.dumps(BEFORE, indent=2).encode(),
    }
    assert {p.stat().st_mode & 0o777 for p in store.path.parent.iterdir()} == {0o600}


def test_a_write_that_does_not_parse_is_put_back_all_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_a_store() -> None:
        store.path.with_name("new").write_bytes(b'{"agent:main:')
        store.path.with_name("new").rename(store.path)

    before_each_exchange(monkeypatch, half_a_store)
    assert isinstance(store.publish(), Crossed)
    assert store.path.read_bytes() == b'{"agent:main:'


def test_a_second_write_built_on_ours_and_the_first_are_both_live_and_our_edit_is_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_each_exchange(
        monkeypatch,
        lambda: store.gateway_writes(sets(OTHER, updatedAt=21)),
        lambda: store.gateway_writes(sets("agent:main:new", label="n"), on="disk"),
    )
    assert isinstance(store.publish(), Crossed)
    new = {"sessionId": "w", "label": "n"}
    assert store.rows() == {**BEFORE, OTHER: {**BEFORE[OTHER], "updatedAt": 21}, "agent:main:new": new}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(sets(OTHER, updatedAt=21), sets("agent:main:new", label="n"), id="another row"),
        pytest.param(sets(OTHER, updatedAt=21), sets(OTHER, updatedAt=22), id="the same field again"),
        pytest.param(sets(OTHER, pendingFinalDelivery=True), sets(OTHER, pendingFinalDelivery=None), id="a flag"),
        pytest.param(sets("agent:main:new", label="n"), lambda rows: rows.pop("agent:main:new"), id="a row"),
        pytest.param(
            sets(OTHER, status="running", startedAt=30, endedAt=None),
            sets(OTHER, status="done", endedAt=40),
            id="a whole turn",
        ),
    ],
)
def test_a_second_write_built_on_the_gateways_own_first_one_stands_as_it_is(
    store: Store,
    first: Callable[[object], None],
    second: Callable[[object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before_each_exchange(
        monkeypatch, lambda: store.gateway_writes(first), lambda: store.gateway_writes(second, on="own")
    )
    assert isinstance(store.publish(), Crossed)
    assert store.rows() == store.own


def test_a_turn_that_ends_in_a_write_built_on_ours_is_not_left_running_by_the_merge(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = sets(OTHER, status="done", endedAt=40, runtimeMs=30, updatedAt=40)
    before_each_exchange(
        monkeypatch,
        lambda: store.gateway_writes(sets(OTHER, status="running", startedAt=30, endedAt=None, updatedAt=30)),
        lambda: store.gateway_writes(end, on="disk"),
    )
    assert isinstance(store.publish(), Crossed)
    row = store.rows()[OTHER]
    assert (row["status"], row.get("endedAt"), row["updatedAt"]) == ("done", 40, 40)


def test_a_session_that_is_deleted_in_a_write_built_on_ours_stays_deleted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_each_exchange(
        monkeypatch,
        lambda: store.gateway_writes(sets(OTHER, updatedAt=21)),
        lambda: store.gateway_writes(lambda rows: rows.pop(OTHER), on="disk"),
    )
    assert isinstance(store.publish(), Crossed)
    assert list(store.rows()) == [STUCK]


@pytest.mark.parametrize("on", [["disk"], ["own"], ["disk", "own"], ["own", "disk"], ["own", "own", "disk"]])
def test_however_many_writes_cross_ours_all_of_them_are_live(
    store: Store, on: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(number: int) -> Callable[[], None]:
        return lambda: store.gateway_writes(
            sets(OTHER if number % 3 else STUCK, **{f"field{number}": number}), on=on[number % len(on)]
        )

    before_each_exchange(monkeypatch, *(write(n) for n in range(8)))
    assert isinstance(store.publish(), Crossed)
    mine = {f"field{n}": n for n in range(8) if not n % 3}
    others = {f"field{n}": n for n in range(8) if n % 3}
    assert store.rows() == {STUCK: {**BEFORE[STUCK], **mine}, OTHER: {**BEFORE[OTHER], **others}}
    assert sorted(store.ours()) == [protocol.base_name(TOKEN), protocol.held_name(TOKEN)]


def test_a_gateway_that_never_stops_crossing_ours_loses_no_version(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def write() -> None:
        store.gateway_writes(sets(OTHER, **{f"field{len(written)}": 1}), on="disk")
        written.append(f"field{len(written)}")

    before_each_exchange(monkeypatch, *[write] * 60)
    with pytest.raises(protocol.VersionsKept):
        store.publish()
    kept = b"".join(p.read_bytes() for p in store.path.parent.iterdir())
    assert len(written) > 40
    assert [f for f in written if f'"{f}"'.encode() not in kept] == []


def test_a_disk_that_is_full_in_a_crossing_loses_neither_write(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def second() -> None:
        store.gateway_writes(sets("agent:main:new", label="n"), on="disk")
        fail(monkeypatch, "write", errno.ENOSPC)

    before_each_exchange(monkeypatch, lambda: store.gateway_writes(sets(OTHER, updatedAt=21)), second)
    with pytest.raises(protocol.VersionsKept):
        store.publish()
    versions = [store.rows(), *(json.loads(v) for v in store.ours().values())]
    assert any(v[OTHER]["updatedAt"] == 21 for v in versions)
    assert any("agent:main:new" in v for v in versions)
    assert store.rows()[STUCK]["status"] == "running"


@pytest.mark.parametrize("crossed", [False, True])
def test_a_displaced_version_that_cannot_be_read_is_kept(
    store: Store, crossed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = store.change()

    def last_moment() -> None:
        if crossed:
            store.gateway_writes(sets(OTHER, updatedAt=21))
        fail(monkeypatch, "pread", errno.EIO)

    before_each_exchange(monkeypatch, last_moment)
    with pytest.raises(protocol.VersionsKept):
        store.publish(change)
    displaced = json.dumps(store.own, indent=2).encode()
    assert displaced in [store.path.read_bytes(), *store.ours().values()]


def test_a_store_that_is_deleted_before_the_put_back_stays_deleted_and_the_write_is_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_each_exchange(
        monkeypatch, lambda: store.gateway_writes(sets(OTHER, updatedAt=21)), lambda: os.unlink(store.path)
    )
    with pytest.raises(protocol.VersionsKept):
        store.publish()
    assert not store.path.exists()
    assert [json.loads(v) for v in store.ours().values()] == [store.own]


def test_a_gateway_version_is_on_disk_at_every_instant_of_a_crossing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = os.unlink, []

    def unlink(name: str, *, dir_fd: int | None = None) -> None:
        there = {p.name: p.read_bytes() for p in store.path.parent.iterdir() if p.name != name}
        seen.append(there)
        real(name, dir_fd=dir_fd)

    before_each_exchange(
        monkeypatch,
        lambda: store.gateway_writes(sets(OTHER, updatedAt=21)),
        lambda: store.gateway_writes(sets("agent:main:new", label="n"), on="disk"),
    )
    monkeypatch.setattr(os, "unlink", unlink)
    assert isinstance(store.publish(), Crossed)
    assert seen, "displaced versions are taken away in the end"
    for there in seen:
        live = json.loads(there[NAME])
        assert (live[OTHER]["updatedAt"], live["agent:main:new"]["label"]) == (21, "n")


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

    def exchange(folder: Folder, one: str, other: str) -> None:
        calls.append("exchange")
        real_exchange(folder, one, other)

    real_exchange = protocol.exchange
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "unlink", unlink)
    monkeypatch.setattr(protocol, "exchange", exchange)
    store.publish()
    assert calls == ["file", "exchange", "folder", "unlink"]
