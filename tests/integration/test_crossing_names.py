"""The names of what crosses: each is on the disk before it is needed, and tells a later look what may go."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from app.openclaw import stepping_back, swap
from app.openclaw.publish import Crossed
from tests.integration.test_crossings import TEMP, after_each_exchange, writes
from tests.integration.test_publish import NAME, Store, before_each_exchange, dumped, store
from tests.integration.test_publish_edges import when

__all__ = ["store"]

Patch = pytest.MonkeyPatch


def sizes_at_each_sync(patch: Patch, store: Store) -> list[dict[str, int]]:
    """Our files and their lengths at each time at which the folder is synced: to open one would be to wait for it."""
    seen: list[dict[str, int]] = []
    ours = store.path.parent.glob
    when(patch, "fsync", store.folder.fd, lambda: seen.append({p.name: p.stat().st_size for p in ours(".clawmend*")}))
    return seen


def test_ours_is_named_as_past_before_it_is_given_other_bytes(store: Store, monkeypatch: Patch) -> None:
    change = store.change()
    before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    seen = sizes_at_each_sync(monkeypatch, store)
    store.publish(change)
    assert seen == [
        {stepping_back.back_name(TEMP): len(change.new), stepping_back.kept_name(TEMP): len(dumped(store.own))},
        {},
    ]


def test_ours_that_cannot_be_named_as_past_is_taken_back_all_the_same(store: Store, monkeypatch: Patch) -> None:
    change = store.change()

    def no_rename(first: object, second: object, **_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def once_live() -> None:
        writes(store, updatedAt=21)()
        monkeypatch.setattr(os, "rename", no_rename)

    before_each_exchange(monkeypatch, once_live)
    seen = sizes_at_each_sync(monkeypatch, store)
    assert isinstance(store.publish(change), Crossed)
    assert seen == [{TEMP: len(change.new), stepping_back.kept_name(TEMP): len(dumped(store.own))}, {}]


def test_a_gateway_version_that_a_newer_one_replaced_is_not_named_as_taken_back(
    store: Store, monkeypatch: Patch
) -> None:
    """The second write comes in the put-back, the third while the first one has the name for an instant."""
    versions: list[bytes] = []

    def write(number: int) -> Callable[[], None]:
        def moment() -> None:
            writes(store, **{f"field{number}": number})()
            versions.append(dumped(store.own))

        return moment

    before_each_exchange(monkeypatch, write(1), write(2))
    after_each_exchange(monkeypatch, None, write(3))
    seen = sizes_at_each_sync(monkeypatch, store)
    assert isinstance(store.publish(), Crossed)
    assert seen == [{TEMP: len(versions[1]), stepping_back.kept_name(TEMP): len(versions[0])}, {}]
    assert store.path.read_bytes() == versions[2]


def test_every_version_that_is_put_back_has_a_second_name_of_its_own(store: Store, monkeypatch: Patch) -> None:
    versions: list[bytes] = []

    def write(number: int) -> Callable[[], None]:
        def moment() -> None:
            writes(store, **{f"field{number}": number})()
            versions.append(dumped(store.own))

        return moment

    def killed() -> None:
        raise KeyboardInterrupt

    before_each_exchange(monkeypatch, write(1), write(2), write(3), killed)
    with pytest.raises(KeyboardInterrupt):
        store.publish()
    ours = store.ours()
    kept = [ours[f"{TEMP}.kept{number}"] for number in ("", 1, 2)]
    assert kept == versions


def test_a_second_name_that_cannot_be_taken_away_ends_the_tries(store: Store, monkeypatch: Patch) -> None:
    kept = stepping_back.kept_name(TEMP)

    def fails() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    when(monkeypatch, "unlink", kept, fails)
    with pytest.raises(swap.WriteFailed) as raised:
        store.publish()
    assert str(raised.value) == f"the disk fails, and {kept} cannot be taken away"
    assert store.path.read_bytes() == dumped(store.own)
    assert {kept, stepping_back.back_name(TEMP)} == set(store.ours()), "a look sees by the one that the other may go"


def test_a_second_name_that_is_gone_already_is_no_reason_to_end_the_tries(store: Store, monkeypatch: Patch) -> None:
    before_each_exchange(monkeypatch, writes(store, updatedAt=21))
    kept = stepping_back.kept_name(TEMP)
    when(monkeypatch, "unlink", kept, store.path.with_name(kept).unlink)
    assert isinstance(store.publish(), Crossed)
    assert os.listdir(store.path.parent) == [NAME]
