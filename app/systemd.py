"""What systemd is told where it started us (sd_notify(3)): ready, alive, how things stand, stopping.

Alive is more than an event loop that turns: passes end well, or the one under way gets on. What hangs is not told of,
and systemd then starts us anew (`WatchdogSec=` in the unit). A datagram that cannot be sent is dropped: the next one
says the same.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from app.domain.model import Code
from app.reconcile.service import Service

_LONGEST_TICK = 5.0
_PATIENCE = 120.0
"""Seconds without progress that are borne at the start where systemd has set no watchdog."""


@dataclass(frozen=True, slots=True)
class Manager:
    """Who started us and wants to be told."""

    address: str
    """Of a datagram socket: a path, or a name in the abstract namespace behind a zero byte."""
    watchdog: float | None
    """Seconds without a word after which it takes us for hung; None: it does not watch."""

    @property
    def patience(self) -> float:
        """Seconds without progress after which we are not called alive any more."""
        return _PATIENCE if self.watchdog is None else self.watchdog

    @property
    def tick(self) -> float:
        """Seconds between two words."""
        return _LONGEST_TICK if self.watchdog is None else min(_LONGEST_TICK, self.watchdog / 3)


def manager_of(env: Mapping[str, str], pid: int) -> Manager | None:
    """The manager that `env` names; None where nobody wants to be told. Another process's watchdog is not ours."""
    name = env.get("NOTIFY_SOCKET") or ""
    if name[:1] not in ("/", "@"):
        return None
    usec = env.get("WATCHDOG_USEC") or ""
    watched = usec.isdecimal() and int(usec) > 0 and env.get("WATCHDOG_PID") in (None, "", str(pid))
    address = f"\0{name[1:]}" if name[0] == "@" else name
    return Manager(address, int(usec) / 1_000_000 if watched else None)


def words(manager: Manager, *, was_ready: bool, passed: bool, idle: float, pause: float, status: str) -> list[str]:
    """What is to be said now. `passed`: a pass has ended well since the start; `idle`: seconds without progress;
    `pause`: the seconds that lie between two passes when all is well.
    """
    said = [f"STATUS={status}"]
    alive = idle <= manager.patience + pause
    if passed and not was_ready:
        said.append("READY=1")
    if alive and (passed or was_ready):
        said.append("WATCHDOG=1")
    elif alive:
        said.append(f"EXTEND_TIMEOUT_USEC={int((manager.patience + pause) * 1_000_000)}")
    return said


class Telling:
    """Tells a manager of one service, for as long as `run` runs."""

    def __init__(self, manager: Manager, service: Service) -> None:
        self._manager = manager
        self._service = service
        self._ready = False

    async def run(self) -> None:
        while True:
            service = self._service
            passed = service.last_pass_at is not None
            said = words(
                self._manager,
                was_ready=self._ready,
                passed=passed,
                idle=service.seconds_without_progress,
                pause=service.reconciler.settings.scan_interval_seconds,
                status=_status(service),
            )
            self._ready = self._ready or passed
            send(self._manager, *said)
            if self._ready:
                await asyncio.sleep(self._manager.tick)
            else:
                await service.next_end(self._manager.tick)


def send(manager: Manager, *lines: str) -> None:
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
        to.setblocking(False)  # a manager that does not read is no reason to stand still
        to.sendto("\n".join(lines).encode(), manager.address)


def _status(service: Service) -> str:
    """Counts only: `systemctl status` shows it to everybody."""
    report = service.reconciler.report
    if service.last_pass_at is None:
        return "the first pass is not over"
    stuck, total = len(report.with_code(Code.STUCK)), sum(1 for _ in report.findings())
    return f"{total} sessions, {stuck} stuck; the last pass ended {service.seconds_since_pass:.0f} s ago"
