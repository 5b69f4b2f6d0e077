"""Many sessions at once on one real gateway, with a Clawmend beside it; what happened is written down, judged later.

The bug is made for real: a model server's 400, 401, 403 or 404 in `chat.send` leaves the row `running` (2026.5.18).
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.integration.served import Served, served
from tests.live.client import Client
from tests.live.gateway import Gateway

CODES = (400, 401, 403, 404)
WINDOW = 30.0
STALE = "agent:main:stale"
"""Its row of mid-turn is written back over its end, as a writer that had loaded the store before would. A turn of the
`agent` call: of one that is delivered to somebody, 2026.7.1 knows by the row that it is its own to recover.
"""
_ALL_BEGUN = 90
"""Seconds that it takes until all turns have begun, about: until then the gateway writes the store without a pause."""
_POLL = 1.0
_PATIENCE = 420.0


@dataclass(frozen=True)
class Cast:
    """Who takes part: session key -> what its person says."""

    refused: dict[str, str]
    """The model refuses: on 2026.5.18 the row stays `running`."""
    healthy: dict[str, str]
    """Turns that end, or go on, as they should: nobody may touch them."""


def cast(each: int) -> Cast:
    """`each` refused sessions for every code and agent, and half as many again that are not to be touched."""
    refused = {
        f"agent:{agent}:refused-{code}-{n}": f"ERROR {code} {_ALL_BEGUN}"
        for n in range(each)
        for code in CODES
        for agent in ("main", "beta")
    }
    healthy = {
        "agent:main:tools": "WORK 8",
        "agent:beta:tools": "WORK 8",
        "agent:main:long": "SLOW 110",
        "agent:main:empty": "EMPTY",
        "agent:beta:empty": "EMPTY",
        "agent:main:busy-503": "ERROR 503",
        "agent:beta:busy-500": "ERROR 500",
        "agent:main:aborted": "SLOW 200",
        "agent:beta:aborted": "SLOW 200",
        "agent:main:queued": "SLOW 20",
        "agent:beta:queued": "SLOW 20",
    }
    done = {f"agent:{agent}:done-{n}": "hello" for n in range(each * 2) for agent in ("main", "beta")}
    return Cast(refused, {**healthy, **done})


@dataclass
class Scene:
    """What was seen. Times are epoch seconds."""

    gateway: Gateway
    cast: Cast
    seen: list[tuple[float, dict[str, dict[str, Any]]]] = field(default_factory=list)
    """Every `sessions.list`."""
    ends: dict[str, float] = field(default_factory=dict)
    """When each refused turn ended, by its trajectory."""
    stall: float = 0.0
    """The longest that this machine kept us from looking: nobody else was quicker."""
    attempts: list[dict[str, Any]] = field(default_factory=list)
    """The audit at the end of the scene."""
    changes: dict[str, list[tuple[float, dict[str, Any]]]] = field(default_factory=dict)
    said: str = ""
    """What the service logged."""
    went_on: dict[str, str] = field(default_factory=dict)
    """The status at the end of one more turn in a session that was settled."""
    later: dict[str, str] = field(default_factory=dict)
    """Sessions whose gateway was killed or stopped in their turn, and their status at the end."""

    def settled(self) -> dict[str, dict[str, Any]]:
        """The applied attempt on each session that was touched."""
        return {a["session_key"]: a for a in self.attempts if a["outcome"] == "applied"}

    def status_of(self, key: str, at: float) -> str | None:
        """What the gateway's list said of it last, before `at`."""
        before = [rows[key].get("status") for when, rows in self.seen if when <= at and key in rows]
        return before[-1] if before else None

    def end_of(self, key: str) -> float | None:
        """When its last turn ended, by its trajectory."""
        agent = key.split(":")[1]
        row = self.gateway.store(agent).get(key)
        ends = self.gateway.ends(agent, row["sessionId"]) if row else []
        return seconds(ends[-1]["ts"]) if ends else None


def seconds(rfc3339: str) -> float:
    return datetime.fromisoformat(rfc3339.replace("Z", "+00:00")).timestamp()


def play(gateway: Gateway, who: Cast, folder: Path) -> Scene:
    """From the first message to the last look."""
    scene = Scene(gateway, who)
    with ExitStack() as stack:
        gateway.start()
        stack.callback(gateway.end)
        service = stack.enter_context(clawmend(gateway, folder))
        person = Client(gateway)
        person.call("sessions.subscribe", {})
        by_agent = sorted({**who.healthy, **who.refused}.items(), key=lambda each: each[0].split(":")[1])
        for key, words in by_agent:  # to go from one agent to the other costs the gateway seconds
            _begin(scene, person, key, words)
        cron(person, "agent:main:cronned", "SLOW 50")
        person.send("agent:main:queued", "hello again")
        person.send("agent:beta:queued", "hello again")
        _look_until(scene, person, lambda: _all_begun(scene, ("agent:main:aborted", "agent:beta:aborted")))
        person.run_agent(STALE, "SLOW 10")
        _look_until(scene, person, lambda: _all_begun(scene, (STALE,)))
        mid_turn = gateway.store()[STALE]
        for agent in ("main", "beta"):
            person.call("chat.abort", {"sessionKey": f"agent:{agent}:aborted"})
        _look_until(scene, person, lambda: _over(scene))
        _write_back(gateway, STALE, mid_turn)
        scene.ends = {key: end for key in who.refused if (end := scene.end_of(key)) is not None}
        quiet = time.time() + WINDOW + 15
        _look_until(scene, person, lambda: time.time() > quiet)
        scene.changes = {key: person.changes(key) for key in (*who.refused, STALE)}
        for key in list(who.refused)[:4]:
            person.send(key, "hello")
        _look_until(scene, person, lambda: all(_is(scene, key, "done") for key in list(who.refused)[:4]))
        scene.went_on = {key: str(_now(scene, key).get("status")) for key in list(who.refused)[:4]}
        _stop_in_a_turn(scene, person, "agent:main:killed", signal.SIGKILL)
        gateway.start()
        _stop_in_a_turn(scene, Client(gateway), "agent:main:stopped", signal.SIGTERM)
        time.sleep(WINDOW + 5)  # what must not happen in that time cannot be waited for
        gateway.start()
        last = Client(gateway)
        scene.later = {
            key: str(last.listed()[key].get("status")) for key in ("agent:main:killed", "agent:main:stopped")
        }
        scene.attempts = service.get("/repairs?limit=500")["items"]
        scene.said = service.said
    return scene


def clawmend(gateway: Gateway, folder: Path, **settings: str) -> AbstractContextManager[Served]:
    """The service as it is shipped, started as the gateway's user would."""
    folder.mkdir()
    env = {
        **gateway.environment,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "CLAWMEND_AUTH": "off",
        "CLAWMEND_DATABASE_URL": f"sqlite:///{folder}/audit.db",
        **settings,
    }
    return served(sys.executable, "-m", "app.cli", "serve", env=env, cwd=folder)


def _begin(scene: Scene, person: Client, key: str, words: str) -> None:
    """One turn behind the other: fifty that begin in one instant stop the gateway's event loop for half a minute, and a
    list that is asked for while one is prepared costs two seconds.
    """
    person.send(key, words)
    until = time.monotonic() + _PATIENCE
    while not any(what.get("phase") == "start" for _, what in person.changes(key)):
        assert time.monotonic() < until, f"{key} did not begin"
        time.sleep(0.02)


def cron(person: Client, key: str, message: str) -> None:
    """A cron run into a session that people also use."""
    job = {
        "name": "a cron run",
        "schedule": {"kind": "every", "everyMs": 86_400_000},
        "sessionTarget": f"session:{key}",
        "wakeMode": "now",
        "payload": {"kind": "agentTurn", "message": message},
        "delivery": {"mode": "none"},
    }
    person.call("cron.run", {"id": person.call("cron.add", job)["id"], "mode": "force"})


def _look_until(scene: Scene, person: Client, over: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE
    while True:
        began = time.monotonic()
        scene.seen.append((time.time(), person.listed()))
        if over():
            return
        assert began < until, (
            f"it did not come to an end: {[(k, r.get('status')) for k, r in scene.seen[-1][1].items()]}"
        )
        time.sleep(_POLL)
        scene.stall = max(scene.stall, time.monotonic() - began - _POLL)


def _write_back(gateway: Gateway, key: str, row: dict[str, Any]) -> None:
    path = gateway.state / "agents" / "main" / "sessions" / "sessions.json"
    beside = path.with_suffix(".stale")
    beside.write_text(json.dumps({**gateway.store(), key: row}, indent=2, ensure_ascii=False))
    beside.chmod(0o600)
    beside.rename(path)


def _now(scene: Scene, key: str) -> dict[str, Any]:
    return scene.seen[-1][1].get(key, {})


def _is(scene: Scene, key: str, status: str) -> bool:
    row = _now(scene, key)
    return row.get("status") == status and row.get("hasActiveRun") is False


def _all_begun(scene: Scene, keys: tuple[str, ...]) -> bool:
    return all(_now(scene, key).get("status") == "running" for key in keys)


def _over(scene: Scene) -> bool:
    """No turn is under way, and every refused one has ended."""
    rows = scene.seen[-1][1]
    quiet = all(row.get("hasActiveRun") is False for row in rows.values())
    healthy = all(rows.get(key, {}).get("status") not in (None, "running") for key in scene.cast.healthy)
    return quiet and healthy and all(scene.end_of(key) for key in scene.cast.refused)


def _stop_in_a_turn(scene: Scene, person: Client, key: str, how: signal.Signals) -> None:
    """A turn hangs, and the gateway is killed or stopped in it."""
    person.send(key, "HANG")
    _look_until(scene, person, lambda: _now(scene, key).get("status") == "running")
    person.close()
    scene.gateway.end(how)
