"""The interleavings that a race meets by luck, each made to happen: what the step of the protocol is there for."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.openclaw import swap
from app.openclaw.folder import Folder
from app.openclaw.publish import Change, Crossed, publish, read_for_writing
from app.openclaw.stepping_back import VersionsKept
from app.reconcile.reconciler import Reconciler
from tests.faults.race.field import COUNTER_KEY, NODE, PACKAGE
from tests.faults.race.held import held_gateway, told_gateway
from tests.world import STUCK_KEY, World, attempts, run_for

needs_openclaw = pytest.mark.skipif(
    not (NODE.exists() and PACKAGE.is_dir()), reason="OpenClaw is not here: make test-faults installs it"
)
held_at_both = pytest.mark.parametrize("held", ["after its own write", "while it lists its sessions"])


def repair_beside(
    world: World, held: str, monkeypatch: pytest.MonkeyPatch, touch: Callable[..., None]
) -> tuple[Reconciler, dict[str, Any]]:
    """The gateway looks at the store between our exchange and our `touch` of it, and then writes; gives the rows."""
    world.stuck()
    world.write_store(json.dumps(world.rows() | {COUNTER_KEY: {"sessionId": "counter"}}).encode())
    world.edit_row(COUNTER_KEY, updatedAt=world.clock.now())
    world.clock.advance(60)
    reconciler = world.reconciler(store_quiet_seconds=0)
    with held_gateway(world.store(), held) as gateway:

        def touched(*given: Any, **named: Any) -> None:
            gateway.go_on()
            gateway.comes_to("looked")
            touch(*given, **named)

        monkeypatch.setattr(os, "utime", touched)
        run_for(reconciler, world.clock, 130, step=10)
        monkeypatch.undo()
        gateway.go_on()
        gateway.comes_to("written")
    return reconciler, world.rows()


def within_one_tick(name: Any, *given: Any, ns: tuple[int, int] | None = None, **named: Any) -> None:
    """`utime` on a kernel whose file times move in steps of 4 ms (before 6.13), all of it within one step: "now" is the
    time that the file has already."""
    if ns is None and not given:
        st = os.stat(name, dir_fd=named.get("dir_fd"))
        ns = (st.st_atime_ns, st.st_mtime_ns)
    _utime(name, *given, **({"ns": ns} if ns else {}), **named)


_utime = os.utime


@needs_openclaw
@held_at_both
def test_a_gateway_that_keeps_older_rows_under_our_mtime_reads_again_since_we_touch_the_store(
    world: World, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    reconciler, rows = repair_beside(world, held, monkeypatch, os.utime)
    assert rows[STUCK_KEY]["status"] == "failed"
    run_for(reconciler, world.clock, 70)
    assert [a.outcome for a in attempts(reconciler)] == ["applied"]


@needs_openclaw
@held_at_both
def test_without_the_touch_that_gateway_overwrites_the_repair_and_it_is_noticed_and_done_again(
    world: World, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    """The ablation of the touch: this is what it is there for."""
    reconciler, rows = repair_beside(world, held, monkeypatch, lambda *_, **__: None)
    assert rows[STUCK_KEY]["status"] == "running"
    run_for(reconciler, world.clock, 70)
    assert [a.outcome for a in attempts(reconciler)] == ["overwritten", "applied"]
    assert world.row()["status"] == "failed"


@needs_openclaw
def test_the_touch_gives_the_store_a_new_mtime_where_file_times_move_in_steps(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, rows = repair_beside(world, "after its own write", monkeypatch, within_one_tick)
    assert rows[STUCK_KEY]["status"] == "failed"


@needs_openclaw
def test_a_gateway_that_writes_three_times_while_ours_is_taken_back_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first write crosses our exchange; its second, in flight by then, the exchange that puts the first back. For
    an instant the first, which is older, has the store's name. If it could load that, its third would lose the second.
    """
    store = tmp_path / "sessions.json"
    store.write_text(json.dumps({COUNTER_KEY: {"sessionId": "counter", "updatedAt": 0}}))
    store.chmod(0o600)
    exchange, calls = swap._renameat2, 0
    assert exchange is not None
    with told_gateway(store) as gateway, Folder(str(tmp_path)) as folder:

        def go_on_to(*places: str) -> None:
            for place in places:
                gateway.go_on()
                gateway.comes_to(place)

        third = threading.Thread(target=go_on_to, args=("loaded", "written"))

        def crossed(*given: Any) -> int:
            nonlocal calls
            calls += 1
            if calls == 1:
                go_on_to("loaded", "written", "loaded")
            elif calls == 2:
                go_on_to("written")
            done: int = exchange(*given)
            if calls == 2:
                third.start()
                third.join(0.5)  # it may have to wait for us: then it writes when we are done
            return done

        base = read_for_writing(folder, store.name, 1 << 20)
        monkeypatch.setattr(swap, "_renameat2", crossed)
        with suppress(VersionsKept):
            publish(folder, store.name, Change(base, base.data + b" ", "token"), allow_rename=False)
        third.join()
    assert json.loads(store.read_text())[COUNTER_KEY]["counted"] == 3


def gateway_writes(store: Path, version: int) -> None:
    beside = store.with_name("beside")
    beside.write_text(json.dumps({"version": version}))
    beside.chmod(0o600)
    beside.rename(store)


def test_nobody_reads_an_older_version_while_ours_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, seen by whoever opens the store in that instant."""
    store = tmp_path / "sessions.json"
    gateway_writes(store, 1)
    exchange, calls, read = swap._renameat2, 0, list[str]()
    assert exchange is not None
    reader = threading.Thread(target=lambda: read.append(store.read_text()))

    def crossed_twice(*given: Any) -> int:
        nonlocal calls
        calls += 1
        if calls <= 2:
            gateway_writes(store, 1 + calls)
        done: int = exchange(*given)
        if calls == 2:
            reader.start()
            reader.join(0.3)  # it may have to wait for us: then it reads when we are done
        return done

    monkeypatch.setattr(swap, "_renameat2", crossed_twice)
    with Folder(str(tmp_path)) as folder:
        base = read_for_writing(folder, store.name, 1 << 20)
        done = publish(folder, store.name, Change(base, b'{"version": "ours"}', "token"), allow_rename=False)
    reader.join()
    assert isinstance(done, Crossed)
    assert json.loads(store.read_text()) == {"version": 3}
    assert [json.loads(text) for text in read] == [{"version": 3}]
    assert os.listdir(tmp_path) == [store.name]
