"""A Clawmend in a process of its own, as a user starts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

TOP = Path(__file__).resolve().parents[2]
PATIENCE = 180.0
FROM_CHECKOUT = (sys.executable, "-m", "app.cli")


@dataclass(frozen=True)
class Served:
    url: str
    log: Path
    pid: int

    def get(self, path: str, token: str | None = None) -> Any:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = httpx.get(self.url + path, headers=headers, trust_env=False, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @property
    def said(self) -> str:
        return self.log.read_text()


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a new user's shell has, and `more`."""
    home.mkdir(exist_ok=True)
    own = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(TOP), "CLAWMEND_GATEWAY": "off"}
    return {**own, **more}


def run(*command: str, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run to its end; a command that should have ended and serves instead is stopped and fails the test."""
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False)


@contextmanager
def served(*command: str, env: dict[str, str], cwd: Path) -> Iterator[Served]:
    """Start `command` on a free port; hands it over once it answers, and stops it as Ctrl-C does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = cwd / "said.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env={**env, "CLAWMEND_PORT": str(port)}, cwd=cwd, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        service = Served(f"http://127.0.0.1:{port}", log, process.pid)
        _wait_until_it_answers(service, process)
        yield service
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()


def _wait_until_it_answers(service: Served, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{service.url}/readyz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"it does not serve:\n{service.said}")
