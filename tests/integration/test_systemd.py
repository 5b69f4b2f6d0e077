"""The real service beside a socket that plays systemd: ready, alive, stopping, and what is not said when it hangs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.domain.model import Code
from tests.integration.served import FROM_CHECKOUT, PATIENCE, environment
from tests.world import World, finding_of

WATCHDOG = 1.5
HANGS_LATER = """
import sys, threading
from app.cli import main
from app.reconcile.reconciler import Reconciler
run_pass = Reconciler.run_pass
def hanging(self):
    if self.report.number >= 2:
        threading.Event().wait()
    return run_pass(self)
Reconciler.run_pass = hanging
sys.exit(main(["serve"]))
"""
FAILS = HANGS_LATER.replace("threading.Event().wait()", "raise OSError('no pass today')")


class Systemd:
    """Hears what a service says."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name.replace("@", "\0", 1))

    def hears(self, patience: float) -> list[str] | None:
        """The lines of the next word; None when none comes in time."""
        self.socket.settimeout(patience)
        try:
            return self.socket.recv(65_536).decode().splitlines()
        except TimeoutError:
            return None

    def hears_until(self, line: str) -> list[str]:
        """All that is said until a word has `line` in it."""
        heard: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            word = self.hears(PATIENCE) or []
            heard += word
            if line in word:
                return heard
        raise AssertionError(f"{line} was not said: {heard}")

    def would_restart_it(self) -> bool:
        """Whether the service stops saying that it is alive for as long as the watchdog waits."""
        deadline = time.monotonic() + PATIENCE
        last = time.monotonic()
        while time.monotonic() < deadline:
            word = self.hears(WATCHDOG)
            if word and "WATCHDOG=1" in word:
                last = time.monotonic()
            elif time.monotonic() - last >= WATCHDOG:
                return True
        return False


@pytest.fixture(params=["a path", "an abstract name"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(str(tmp_path / "notify") if request.param == "a path" else f"@clawmend-test-{os.getpid()}")
    with made.socket:
        yield made


@contextmanager
def started(systemd: Systemd, world: World, *command: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    more = {
        "CLAWMEND_STATE_DIR": str(world.state),
        "CLAWMEND_DATABASE_URL": world.database_url,
        "CLAWMEND_PORT": "0",
        "CLAWMEND_SCAN_INTERVAL_SECONDS": "0.2",
        "NOTIFY_SOCKET": systemd.name,
        "WATCHDOG_USEC": str(int(WATCHDOG * 1_000_000)),
        **env,
    }
    with subprocess.Popen(command, env=environment(world.folder / "home", **more), cwd=world.folder) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_service_says_that_it_is_ready_alive_and_stopping(systemd: Systemd, world: World) -> None:
    world.recording("success-done")
    with started(systemd, world, *FROM_CHECKOUT, "serve") as process:
        before = systemd.hears_until("READY=1")
        assert "WATCHDOG=1" in before[-3:], "the watchdog counts from the moment that it is ready"
        assert systemd.hears_until("WATCHDOG=1") and systemd.hears_until("WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        systemd.hears_until("STOPPING=1")
        assert process.wait(PATIENCE) in (0, -signal.SIGTERM), "what systemd takes for a clean end"


def test_what_it_says_of_itself_has_counts_and_no_session_in_it(tmp_path: Path, world: World) -> None:
    world.stuck()
    systemd = Systemd(str(tmp_path / "notify"))
    with systemd.socket, started(systemd, world, *FROM_CHECKOUT, "serve", CLAWMEND_AUTO_REPAIR="false"):
        heard = systemd.hears_until("READY=1")
    status = next(line for line in heard[::-1] if line.startswith("STATUS="))
    assert status.startswith("STATUS=1 sessions, 1 stuck;")
    finding = finding_of(world.reconciler(auto_repair=False).run_pass() or pytest.fail("no report"))
    assert finding.verdict.code is Code.STUCK
    assert not any(name in "\n".join(heard) for name in (finding.key, str(finding.session_id), "agent"))


@pytest.mark.parametrize("script", [HANGS_LATER, FAILS], ids=["hangs", "fails"])
def test_a_service_whose_passes_do_not_end_well_is_not_called_alive_though_it_still_answers(
    tmp_path: Path, world: World, script: str
) -> None:
    world.recording("success-done")
    systemd = Systemd(str(tmp_path / "notify"))
    with systemd.socket, started(systemd, world, sys.executable, "-c", script) as process:
        systemd.hears_until("READY=1")
        assert systemd.would_restart_it()
        assert process.poll() is None
        assert systemd.hears(PATIENCE) is not None, "the event loop turns, and says how things stand"
