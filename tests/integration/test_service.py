"""The service on the real clock: what starts a pass besides the interval, and a store that hangs."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.clock import SystemClock
from app.reconcile.reconciler import Reconciler
from app.reconcile.service import Service
from tests.databases import LOCKED_OUT, recorded
from tests.world import STUCK_KEY, World

PATIENCE = 20.0
HOUR = 3_600.0


def real(world: World, **over: Any) -> Reconciler:
    """A reconciler on the machine's own clock, with windows of a second."""
    quick = {"stale_after_seconds": 1.0, "error_quiet_seconds": 1.0, "store_quiet_seconds": 0.1}
    return world.reconciler(SystemClock(), **{**quick, **over})


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.02)


async def serving(reconciler: Reconciler, then: Callable[[Service], Any]) -> None:
    service = Service(reconciler)
    await service.start()
    try:
        await then(service)
    finally:
        await service.stop()


def test_a_session_is_settled_when_it_falls_due_and_not_at_the_next_interval(world: World) -> None:
    world.stuck(ended_ago=10)

    async def watch(_: Service) -> None:
        await until(lambda: world.row()["status"] == "failed")

    asyncio.run(serving(real(world, scan_interval_seconds=HOUR), watch))


def test_a_write_to_a_databases_log_starts_a_pass(world: World) -> None:
    database = recorded(world, ended_ago=10)
    reconciler = real(world, scan_interval_seconds=HOUR, watch_files=True)

    async def watch(_: Service) -> None:
        await until(lambda: bool(reconciler.report.find(LOCKED_OUT)))
        with closing(sqlite3.connect(database.path, isolation_level=None)) as gateway:
            gateway.execute("PRAGMA journal_mode=WAL")
            before = reconciler.report.number + 1  # by its own file the database has told of the log's beginning
            for attempt in range(200):
                gateway.execute("UPDATE session_nodes SET label = ?", (str(attempt),))
                await asyncio.sleep(0.05)
                if reconciler.report.number > before + 1:
                    return
        raise AssertionError("no pass was started")

    asyncio.run(serving(reconciler, watch))


def test_a_change_on_disk_starts_a_pass(world: World) -> None:
    world.stuck(ended_ago=10)
    reconciler = real(world, scan_interval_seconds=HOUR, watch_files=True, auto_repair=False)

    async def watch(_: Service) -> None:
        await until(lambda: bool(reconciler.report.find(STUCK_KEY)))
        await asyncio.sleep(0)
        for attempt in range(200):  # the watcher may still be setting itself up: change something until it tells
            world.edit_row(sessionId=f"another-{attempt}")
            await asyncio.sleep(0.1)
            if reconciler.report.find(STUCK_KEY)[0].session_id != "d3e9c2be-6fc1-49a5-b885-f84b423d462f":
                return
        raise AssertionError("no pass was started by a changed file")

    asyncio.run(serving(reconciler, watch))


def test_a_store_whose_read_hangs_is_left_out_and_the_others_are_settled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stuck(ended_ago=10)
    hanging = world.store("beta")
    hanging.parent.mkdir(parents=True)
    hanging.write_bytes(b"{}")
    release = threading.Event()
    pread = os.pread

    def slow(fd: int, size: int, offset: int) -> bytes:
        if Path(f"/proc/self/fd/{fd}").resolve() == hanging.resolve():
            release.wait(PATIENCE)
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", slow)
    reconciler = real(world, scan_interval_seconds=0.2, store_timeout_seconds=0.5)

    async def watch(_: Service) -> None:
        await until(lambda: world.row()["status"] == "failed")
        assert [p.code for p in reconciler.report.problems()] == ["not_answering"]
        release.set()
        await until(lambda: reconciler.report.problems() == [])

    asyncio.run(serving(reconciler, watch))


def test_two_passes_never_run_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.stuck()
    reconciler = real(world, scan_interval_seconds=0.1)
    running, most, count = 0, 0, 0
    run_pass = reconciler.run_pass

    def counted() -> object:
        nonlocal running, most, count
        running += 1
        most = max(most, running)
        count += 1
        result = run_pass()
        running -= 1
        return result

    monkeypatch.setattr(reconciler, "run_pass", counted)

    async def watch(service: Service) -> None:
        for _ in range(20):
            await asyncio.gather(*(service.want_pass() for _ in range(50)), service.next_pass())

    asyncio.run(serving(reconciler, watch))
    assert most == 1
    assert count >= 20
