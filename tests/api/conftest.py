"""The real server in a thread, on a real socket, with httpx as its client."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn

from app.api.app import create_app
from app.clock import SystemClock
from app.domain.model import Gateway
from app.main import Server
from app.openclaw.paths import StateDir
from app.reconcile.reconciler import Reconciler
from app.web.console import add_console
from tests.world import UNKNOWN, HeldClock, World, running_since

TOKEN = "a-token-that-is-long-enough"
HOUR = 3_600.0
FAILED: dict[str, Any] = {"status": "error"}
"""The data of an end that the stuck recording has, as far as a verdict needs it."""
SELDOM: dict[str, Any] = {"scan_interval_seconds": 3_600}
"""Settings with which no pass comes by itself after the first: a test asks for each (`Served.look`)."""


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for this in vain: {what}"
        time.sleep(0.02)


class SharedClock(HeldClock):
    """Held, but a wait of one thread gives the others a moment: two of the service's may want the same lock."""

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        time.sleep(0.005)


class _Server(Server):
    loop: asyncio.AbstractEventLoop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)


class Served:
    """One running service; `http` carries its token, `bare` nothing."""

    def __init__(self, reconciler: Reconciler, token: str | None = TOKEN) -> None:
        self.reconciler = reconciler
        self.app = create_app(reconciler, token)
        add_console(self.app)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        url = f"http://127.0.0.1:{self.port}"
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=20, trust_env=False)
        self.bare = httpx.Client(base_url=url, timeout=20, trust_env=False)
        config = uvicorn.Config(
            self.app, loop="uvloop", http="httptools", lifespan="on", log_config=None, timeout_graceful_shutdown=5
        )
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def start(self) -> None:
        self._thread.start()
        wait_until(lambda: self._server.started, "the server starts")

    def stop(self) -> None:
        self.http.close()
        self.bare.close()
        self._server.should_exit = True
        self._thread.join(15)
        self._socket.close()
        assert not self._thread.is_alive(), "the server did not stop"

    def look(self) -> None:
        """A pass that begins now has finished."""
        number = self.reconciler.report.number
        asyncio.run_coroutine_threadsafe(self.app.state.service.next_pass(15), self._server.loop).result(20)
        assert self.reconciler.report.number > number, "no pass was finished"

    def repair(self, session: str, **wish: Any) -> httpx.Response:
        return self.http.post(f"/sessions/{session}/repair", json=wish)


class Serve:
    """Starts servers and stops them after the test."""

    def __init__(self, world: World) -> None:
        self._world = world
        world.clock = SharedClock()
        self.running: list[Served] = []

    def __call__(self, reconciler: Reconciler | None = None, *, token: str | None = TOKEN, **settings: Any) -> Served:
        """On `reconciler`, or on the world's own; the first pass has finished."""
        served = self.start(reconciler or self._world.reconciler(**{**SELDOM, **settings}), token)
        wait_until(lambda: served.app.state.service.last_pass_at is not None, "the first pass")
        return served

    def start(self, reconciler: Reconciler, token: str | None = TOKEN) -> Served:
        served = Served(reconciler, token)
        self.running.append(served)
        served.start()
        return served


@pytest.fixture
def serve(world: World) -> Iterator[Serve]:
    made = Serve(world)
    yield made
    for served in made.running:
        served.stop()


def on_the_machines_clock(
    world: World, gateway_of: Callable[[StateDir], Gateway] = lambda _: UNKNOWN, **over: Any
) -> Reconciler:
    """A Clawmend as it really runs, but for what it takes the gateway for."""
    audit = world.reconciler().audit
    return Reconciler(world.settings(**over), SystemClock(), audit, world.env, gateway_of)


def add_row(
    world: World,
    key: str,
    session_id: str | None,
    *,
    started_ago: float,
    events: tuple[tuple[Any, ...], ...] = (),
    **over: Any,
) -> None:
    """A running row of agent main, beside those that are there, with a trajectory of `(type, seconds ago[, data])`.

    `over` changes the row's fields; None takes one away.
    """
    now = world.clock.now()
    moment = now - round(started_ago * 1000)
    row = {
        "sessionId": session_id,
        "status": "running",
        "startedAt": moment,
        "updatedAt": moment,
        "abortedLastRun": False,
    }
    rows = world.rows() if world.store().exists() else {}
    rows[key] = {name: value for name, value in {**row, **over}.items() if value is not None}
    write_rows(world, rows)
    if events:
        lines = [
            world.event(kind, now - round(ago * 1000), *data, sessionId=session_id, sessionKey=key, traceId=session_id)
            for kind, ago, *data in events
        ]
        world.append(*lines, session_id=str(session_id))
        os.utime(world.trajectory(str(session_id)), ns=(0, (now - 5_000) * 1_000_000))


def write_rows(world: World, rows: dict[str, Any]) -> None:
    """As the gateway writes them: half an emoji as an escape, everything else as it is."""
    text = json.dumps(rows, indent=2, ensure_ascii=False)
    world.write_store(re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text).encode())


def one_of_each(world: World) -> None:
    """Keys `agent:main:<verdict>` with ids `id-<verdict>`; the gateway was restarted three hours ago."""
    world.gateway = running_since(world.clock.now() - round(3 * HOUR * 1000))

    def add(verdict: str, started_ago: float, *events: tuple[Any, ...], **over: Any) -> None:
        add_row(world, f"agent:main:{verdict}", f"id-{verdict}", started_ago=started_ago, events=events, **over)

    add("working", 20, ("session.started", 20), ("prompt.submitted", 10))
    add("ending", 20, ("session.started", 20), ("session.ended", 10, FAILED))
    add("stuck", 2 * HOUR, ("session.started", 2 * HOUR), ("session.ended", HOUR, FAILED))
    add("orphaned", 5 * HOUR, ("session.started", 5 * HOUR), ("prompt.submitted", 4 * HOUR))
    add("silent", 2 * HOUR, ("session.started", 2 * HOUR), ("prompt.submitted", 1.5 * HOUR))
    add("never_started", 700)
    add("waiting", 2 * HOUR, ("session.started", 2 * HOUR), ("session.ended", HOUR, FAILED))
    add_row(world, "agent:main:child", "id-child", started_ago=5, spawnedBy="agent:main:waiting")
    add("recovering", 2 * HOUR, ("session.started", 2 * HOUR), ("session.ended", HOUR, FAILED), abortedLastRun=True)
    add("unprovable", 2 * HOUR, ("session.ended", -HOUR, FAILED))
    add("settled", 2 * HOUR, ("session.ended", HOUR, FAILED), status="failed", endedAt=world.clock.now())


@pytest.fixture
def each(world: World, serve: Serve) -> Served:
    one_of_each(world)
    return serve(auto_repair=False)
