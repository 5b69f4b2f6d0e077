"""Running passes for ever: by APScheduler, when a file changes, when something falls due, when somebody asks."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from watchfiles import Change, awatch

from app.openclaw.paths import DATABASE_NAME, STORE_NAME
from app.reconcile.reconciler import Reconciler

logger = logging.getLogger("clawmend")

_SHORTEST_WAIT = 0.02
_SPACING = 0.5
"""Seconds between two passes that file changes ask for, at least; a long pass earns a longer pause."""
_LAST_PASS_PATIENCE = 30.0
_STORES = (STORE_NAME, DATABASE_NAME, f"{DATABASE_NAME}-wal")


class Service:
    """Never runs two passes at once: every wish for a pass is one flag, and one task serves it."""

    def __init__(self, reconciler: Reconciler) -> None:
        self.reconciler = reconciler
        self.last_pass_at: float | None = None
        """By the monotonic clock."""
        self.started_at = time.monotonic()
        self._interval = reconciler.settings.scan_interval_seconds
        self._wanted = asyncio.Event()
        self._finished = asyncio.Condition()
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._tasks: list[asyncio.Task[None]] = []
        self._watcher: asyncio.Task[None] | None = None
        self._watched: frozenset[str] = frozenset()
        self._timer: asyncio.TimerHandle | None = None
        self._nudged: asyncio.TimerHandle | None = None
        """The pass that a gateway's word has asked for, and when it is to begin."""
        self._nudge_at = 0.0
        self._last_cost = 0.0
        self.passes: Counter[str] = Counter()
        """`finished`, `failed` and `abandoned` ones since the start."""
        self.seconds_in_passes = 0.0
        self._passes = 0
        self._progress_at = self.started_at
        self._failed = False
        """Whether the last pass has failed."""
        self._pass: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._scheduler.add_job(
            self.want_pass,
            "interval",
            seconds=self._interval,
            next_run_time=datetime.now(UTC),
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
        self._scheduler.start()
        self._tasks.append(asyncio.create_task(self._serve_wishes()))
        if self.reconciler.links is not None:
            loop = asyncio.get_running_loop()
            self.reconciler.links.start(partial(loop.call_soon_threadsafe, self._nudge))

    async def stop(self) -> None:
        """Let a pass that is under way come to its end, then stop."""
        self._scheduler.shutdown(wait=False)
        if self.reconciler.links is not None:
            await asyncio.to_thread(self.reconciler.links.stop)
        for timer in (self._timer, self._nudged):
            if timer:
                timer.cancel()
        tasks = [t for t in (*self._tasks, self._watcher) if t]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._pass is not None and not self._pass.done():
            await asyncio.wait({self._pass}, timeout=_LAST_PASS_PATIENCE)

    async def want_pass(self) -> None:
        """Ask for a pass; asking again before it begins changes nothing. Runs on the event loop."""
        self._wanted.set()

    def _nudge(self) -> None:
        """A gateway says that something has changed: a pass soon, one for many such words."""
        loop = asyncio.get_running_loop()
        if self._nudge_at <= loop.time():
            self._nudge_at = max(loop.time(), self._nudge_at + max(_SPACING, 5 * self._last_cost))
            self._nudged = loop.call_at(self._nudge_at, self._wanted.set)

    async def next_pass(self, patience: float = 5.0) -> None:
        """Wait until a pass that begins after this call has finished, or `patience` seconds."""
        under_way = self._pass is not None and not self._pass.done()
        goal = self._passes + (2 if under_way else 1)
        self._wanted.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience), self._finished:
                await self._finished.wait_for(lambda: self._passes >= goal)

    async def passes_after(self, seen: int) -> int:
        """Wait until more than `seen` passes have finished; how many have."""
        async with self._finished:
            await self._finished.wait_for(lambda: self._passes > seen)
            return self._passes

    @property
    def seconds_since_pass(self) -> float:
        return time.monotonic() - (self.last_pass_at if self.last_pass_at is not None else self.started_at)

    @property
    def seconds_without_progress(self) -> float:
        """Since a pass ended well, or the one under way came to its next store or repair; a pass that is begun anew
        because the last one has failed is none.
        """
        return time.monotonic() - self._progress_at

    async def next_end(self, patience: float) -> None:
        """Wait until a pass ends, or `patience` seconds; asks for none."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience), self._finished:
                await self._finished.wait()

    async def _serve_wishes(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            began = time.monotonic()
            self._pass = asyncio.create_task(self._one_pass())
            await asyncio.shield(self._pass)
            self._last_cost = time.monotonic() - began
            self.seconds_in_passes += self._last_cost
            self._wake_when_due()
            self._watch_folders()

    async def _one_pass(self) -> None:
        outcome = _in_thread(self.reconciler.run_pass)
        progress = self.reconciler.progress
        while True:
            await asyncio.wait({outcome}, timeout=1.0)
            if outcome.done():
                break
            if self.reconciler.progress != progress and not self._failed:
                progress, self._progress_at = self.reconciler.progress, time.monotonic()
            reading = self.reconciler.reading
            limit = self.reconciler.settings.store_timeout_seconds
            if reading is not None and self.reconciler.clock.monotonic() - reading[1] > limit:
                self.reconciler.abandon()
                self.passes["abandoned"] += 1
                self._wanted.set()
                return
        error = outcome.exception()
        if error is not None:
            logger.error("a pass failed: %r", error, exc_info=error)
            self.passes["failed"] += 1
            self._failed = True
        else:
            self.passes["finished"] += 1
            self.last_pass_at = self._progress_at = time.monotonic()
            self._failed = False
        async with self._finished:
            self._passes += 1
            self._finished.notify_all()

    def _wake_when_due(self) -> None:
        """A pass of its own for the next session that falls due, so that nobody waits for the interval."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        due = self.reconciler.wake_at
        if due is not None:
            delay = (due - self.reconciler.clock.now()) / 1000
            if delay < self._interval:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(max(_SHORTEST_WAIT, delay), self._wanted.set)

    def _watch_folders(self) -> None:
        """Keep the watcher on the folders that are there now."""
        if not self.reconciler.settings.watch_files:
            return
        there = self.reconciler.folders
        if there == self._watched and self._watcher is not None and not self._watcher.done():
            return
        if self._watcher is not None:
            self._watcher.cancel()
        self._watched = there
        self._watcher = asyncio.create_task(self._watch(there)) if there else None

    async def _watch(self, folders: frozenset[str]) -> None:
        try:
            async for _ in awatch(*folders, watch_filter=_tells_something, recursive=False, step=50, debounce=200):
                self._wanted.set()
                await asyncio.sleep(max(_SPACING, 5 * self._last_cost))
        except (OSError, RuntimeError) as error:
            logger.warning("the system does not tell of changed files (%s); looking every %g s", error, self._interval)
            await asyncio.sleep(3_600)


def _tells_something(_: Change, path: str) -> bool:
    """A store, a database's log, a trajectory, or a folder (an agent that appears); not our own files, nor a lock."""
    name = path.rpartition("/")[2]
    return name in _STORES or name.endswith(".trajectory.jsonl") or "." not in name


def _in_thread(function: object) -> asyncio.Future[object]:
    """Run in a thread of its own that does not keep the process alive: a read that hangs can be left behind."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[object] = loop.create_future()

    def settle(result: object, error: BaseException | None) -> None:
        if not future.done():
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    def run() -> None:
        result, failure = None, None
        try:
            result = function()  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001  (it is raised again on the loop)
            failure = error
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="pass", daemon=True).start()
    return future
