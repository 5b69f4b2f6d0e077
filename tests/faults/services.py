"""Several Clawmends in processes of their own, started at the same instant, as a user might by mistake."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.integration.served import FROM_CHECKOUT, environment

PATIENCE = 60.0
"""Seconds for anything that must come to its end: longer than any of it takes on a machine that is busy."""
QUICK = {
    "CLAWMEND_AUTH": "off",
    "CLAWMEND_STALE_AFTER_SECONDS": "1",
    "CLAWMEND_ERROR_QUIET_SECONDS": "1",
    "CLAWMEND_COMPACTION_QUIET_SECONDS": "1",
    "CLAWMEND_STORE_QUIET_SECONDS": "0.2",
    "CLAWMEND_SCAN_INTERVAL_SECONDS": "0.5",
    "CLAWMEND_REPAIRS_PER_MINUTE": "6000",
}
"""Windows of a second, and more repairs asked for than people ask for; everything else as it is shipped."""


@dataclass(frozen=True)
class Clawmend:
    """One service that runs; `http` asks it and never waits for ever."""

    process: subprocess.Popen[bytes]
    http: httpx.Client
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def verdicts(self, keys: list[str]) -> set[str]:
        """On these sessions, in its last pass."""
        found = {each["session_key"]: each["verdict"] for each in self.http.get("/sessions").json()["items"]}
        return {found.get(key, "absent") for key in keys}


@contextmanager
def clawmends(folder: Path, *settings: dict[str, str]) -> Iterator[list[Clawmend]]:
    """One service for each of `settings`, started together; stopped together as Ctrl-C does."""
    with ExitStack() as stack:
        started = [_start(stack, folder / f"clawmend-{number}", each) for number, each in enumerate(settings)]
        for one in started:
            until(lambda one=one: _answers(one), f"it serves, but said: {one.said}")  # type: ignore[misc]
        yield started
        for one in started:
            one.process.send_signal(signal.SIGINT)
        for one in started:
            assert one.process.wait(PATIENCE) == 0, one.said


def command(folder: Path, settings: dict[str, str], *words: str) -> subprocess.Popen[str]:
    """The command `clawmend` with `words`, running."""
    return subprocess.Popen(
        [*FROM_CHECKOUT, *words],
        env=environment(folder, **settings),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Call all of them in one instant, each in a thread of its own; gives what each gave or raised."""
    line = threading.Barrier(len(calls))

    def one(call: Callable[[], Any]) -> Any:
        line.wait(PATIENCE)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        asked = [pool.submit(one, call) for call in calls]
        return [each.exception(PATIENCE) or each.result() for each in asked]


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"waited {PATIENCE:g} s in vain: {what}"
        time.sleep(0.02)


def _start(stack: ExitStack, folder: Path, settings: dict[str, str]) -> Clawmend:
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "said.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*FROM_CHECKOUT, "serve"],
            env=environment(folder, **QUICK, **settings, CLAWMEND_PORT=str(port)),
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    stack.callback(process.wait)
    stack.callback(process.kill)
    http = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False))
    return Clawmend(process, http, log)


def _answers(one: Clawmend) -> bool:
    assert one.process.poll() is None, f"it does not serve: {one.said}"
    try:
        return one.http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
