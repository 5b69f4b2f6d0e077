"""Two Clawmends at one state dir, each a process: one repair, one outcome, a clear word to everybody else."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.audit.log import AuditLog
from app.audit.models import Attempt
from app.clock import SystemClock
from app.domain.splice import unsplice
from app.reconcile.attempts import edit_of
from tests.faults.crowd import Crowd
from tests.faults.services import PATIENCE, QUICK, Clawmend, at_once, clawmends, command, until

TOP = Path(__file__).resolve().parents[2]


class Town:
    """A state dir and two services on it, with one audit database or with one each."""

    def __init__(self, folder: Path, services: list[Clawmend], settings: list[dict[str, str]]) -> None:
        self.folder = folder
        self.state = folder / "openclaw"
        self.services = services
        self.settings = settings

    def attempts(self, keys: list[str]) -> list[Attempt]:
        """Of every audit, the oldest first."""
        found: list[Attempt] = []
        for url in dict.fromkeys(each["CLAWMEND_DATABASE_URL"] for each in self.settings):
            audit = AuditLog(url)
            found += [a for a in audit.page(10_000)[0] if a.session_key in keys]
            audit.dispose()
        return sorted(found, key=lambda attempt: attempt.id)


class Sessions:
    """Sessions of one agent, whose turns have ended `ago` seconds ago though their rows say running."""

    def __init__(self, town: Town, agent: str, count: int, *, ago: float, by_person: bool = False) -> None:
        """`by_person`: subagents, which no scheduler settles."""
        self.town = town
        crowd = Crowd(town.state, SystemClock().now())
        names = [f"{agent}-{number}" for number in range(count)]
        self.keys = [crowd.ended(agent, n, ago=ago, kind="subagent:" if by_person else "") for n in names]
        crowd.settled(agent, f"{agent}-settled")
        crowd.write()
        self.store = crowd.store(agent)
        self.before = self.store.read_bytes()

    def rows(self) -> dict[str, dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = json.loads(self.store.read_bytes())
        return {key: rows[key] for key in self.keys}

    def all_settled(self) -> bool:
        return all(row["status"] == "failed" for row in self.rows().values())

    def all_seen_stuck(self) -> bool:
        """By both services."""
        return all(s.verdicts(self.keys) == {"stuck"} for s in self.town.services)

    def attempts(self) -> list[Attempt]:
        return self.town.attempts(self.keys)

    def assert_nothing_else_moved(self) -> None:
        """With the last settlement of each row taken back, every byte is what it was; and no file was left."""
        last = {a.session_key: a for a in self.attempts() if a.outcome == "applied"}
        data = self.store.read_bytes()
        for attempt in last.values():
            data = unsplice(data, edit_of(attempt)) if attempt.kind == "settle" else data
        assert hashlib.sha256(data).digest() == hashlib.sha256(self.before).digest()
        assert [p.name for p in self.store.parent.iterdir() if p.name.startswith(".")] == []

    def assert_settled_once(self) -> None:
        """Each session by one attempt; every other attempt says why it did nothing."""
        assert self.all_settled()
        applied = [a for a in self.attempts() if a.outcome == "applied"]
        assert Counter(a.session_key for a in applied) == dict.fromkeys(self.keys, 1)
        others = [a for a in self.attempts() if a.outcome != "applied"]
        assert {(a.outcome in ("superseded", "refused"), bool(a.outcome_reason)) for a in others} <= {(True, True)}
        self.assert_nothing_else_moved()


@pytest.fixture(scope="module", params=["one-audit", "an-audit-each"])
def town(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    (folder / "openclaw" / "agents").mkdir(parents=True)
    audits = ("audit", "audit") if request.param == "one-audit" else ("audit-0", "audit-1")
    settings = [
        {
            "CLAWMEND_GATEWAY": "off",
            "CLAWMEND_STATE_DIR": str(folder / "openclaw"),
            "CLAWMEND_DATABASE_URL": f"sqlite:///{folder / audit}/audit.db",
        }
        for audit in audits
    ]
    with clawmends(folder, *settings) as services:
        town = Town(folder, services, settings)
        yield town
        for service in services:
            assert "Traceback" not in service.said
            assert " ERROR " not in service.said
            assert "agent:" not in service.said, "a log names no session key"


def test_sessions_that_fall_due_at_once_are_settled_once(town: Town, soak: bool) -> None:
    crowds = [Sessions(town, agent, 40 if soak else 5, ago=0) for agent in ("due-a", "due-b")]
    for sessions in crowds:
        until(sessions.all_settled, "every session is settled")
        applied = [a.id for a in sessions.attempts() if a.outcome == "applied"]
        until(lambda ids=applied: town_looked_twice(town, ids), "the look after 5 s")  # type: ignore[misc]
        sessions.assert_settled_once()
        for attempt in sessions.attempts():
            moments = [datetime.fromisoformat(look["at"]).timestamp() * 1000 for look in attempt.looks]
            assert [m >= (attempt.decided_at or 0) + 4_999 for m in moments[1:]] == [True] * len(moments[1:]), (
                "a look was taken twice"
            )


def town_looked_twice(town: Town, ids: list[str]) -> bool:
    found: list[Any] = []
    for service in town.services:
        answers = [service.http.get(f"/repairs/{each}") for each in ids]
        found += [answer.json() for answer in answers if answer.status_code == 200]
    return all(len(repair["looks"]) >= 2 for repair in found)


def test_of_those_who_ask_for_one_session_at_once_one_is_served_and_the_others_are_told_that_it_is_settled(
    town: Town, soak: bool
) -> None:
    sessions = Sessions(town, "asked", 20 if soak else 4, ago=3_600, by_person=True)
    until(sessions.all_seen_stuck, "both see them stuck")
    for key in sessions.keys:
        asks = [lambda s=s, key=key: s.http.post(f"/sessions/{key}/repair") for s in town.services for _ in (1, 2)]
        answers: list[httpx.Response] = at_once(*asks)
        assert sorted(a.status_code for a in answers) == [200, 409, 409, 409]
        assert {a.json()["type"] for a in answers if a.status_code == 409} == {"/problems/not_stuck"}
    sessions.assert_settled_once()


def test_a_settlement_and_its_undo_at_once_end_in_one_or_the_other(town: Town, soak: bool) -> None:
    sessions = Sessions(town, "undone", 20 if soak else 4, ago=3_600, by_person=True)
    until(sessions.all_seen_stuck, "both see them stuck")
    one, other = town.services
    for key in sessions.keys:
        repair = one.http.post(f"/sessions/{key}/repair").json()["id"]

        def settle(service: Clawmend, key: str = key) -> httpx.Response:
            return service.http.post(f"/sessions/{key}/repair")

        def undo(repair: str = repair) -> httpx.Response:
            return one.http.post(f"/repairs/{repair}/undo")

        settled, settled_too, undone, undone_too = at_once(lambda: settle(one), lambda: settle(other), undo, undo)
        assert sorted([undone.status_code, undone_too.status_code]) == [200, 409]
        assert sorted([settled.status_code, settled_too.status_code]) in ([200, 409], [409, 409])
        refused = [a.json()["type"] for a in (settled, settled_too, undone, undone_too) if a.status_code != 200]
        assert set(refused) <= {"/problems/not_stuck", "/problems/cannot_undo"}
        kinds = [a.kind for a in town.attempts([key]) if a.outcome == "applied"]
        assert kinds in (["settle", "undo"], ["settle", "undo", "settle"])
        assert sessions.rows()[key]["status"] == ("running" if kinds[-1] == "undo" else "failed")
    sessions.assert_nothing_else_moved()


def test_commands_beside_the_services_settle_a_session_once(town: Town, soak: bool) -> None:
    sessions = Sessions(town, "commanded", 6 if soak else 2, ago=0)
    home = town.folder / "home"
    hands = [command(home, {**QUICK, **town.settings[0]}, "repair", key, "--apply") for key in sessions.keys]
    said = [hand.communicate(timeout=PATIENCE)[0] for hand in hands]
    until(sessions.all_settled, "every session is settled")
    for hand, words in zip(hands, said, strict=True):
        assert hand.returncode in (0, 2), words
        assert words.startswith("applied: " if hand.returncode == 0 else "clawmend: not settled: "), words
    until(lambda: all(a.outcome for a in sessions.attempts()), "each attempt has its outcome")
    sessions.assert_settled_once()


MIGRATES = """
import sys
import alembic.command
from app.audit.log import AuditLog

print("ready", flush=True)
for url in sys.stdin:
    try:
        AuditLog(url.strip()).migrate()
        print("migrated", flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


def test_whoever_comes_first_makes_the_audit_database_and_nobody_fails(tmp_path: Path, soak: bool) -> None:
    """Services, and commands beside them, that are started for the first time at the same instant."""
    hands = [
        subprocess.Popen([sys.executable, "-c", MIGRATES], cwd=TOP, stdin=-1, stdout=-1, text=True, bufsize=1)
        for _ in range(3)
    ]
    try:
        assert [hand.stdout and hand.stdout.readline() for hand in hands] == ["ready\n"] * 3
        for number in range(200 if soak else 20):
            url = f"sqlite:///{tmp_path / str(number) / 'audit.db'}"
            for hand in hands:
                assert hand.stdin
                hand.stdin.write(f"{url}\n")
            assert [hand.stdout and hand.stdout.readline() for hand in hands] == ["migrated\n"] * 3
            audit = AuditLog(url)
            assert audit.page(1) == ([], None)
            audit.dispose()
    finally:
        for hand in hands:
            hand.communicate(timeout=PATIENCE)
