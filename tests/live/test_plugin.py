"""The companion plugin in real gateways, put there by `clawmend plugin install`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live.client import Client, Refused
from tests.live.gateway import TOP, Gateway
from tests.live.model_server import model_server
from tests.live.scene import clawmend, cron

KEYS = 20
METHODS = {"clawmend.live", "clawmend.settle", "clawmend.undo"}
_PATIENCE = 300.0
_COMMAND_SECONDS = 600.0
"""For one of OpenClaw's commands: twenty on a machine that is not busy, nine times that on one that is."""


@dataclass
class Inside:
    """A gateway with the plugin, and a person at it."""

    gateway: Gateway
    person: Client
    folder: Path
    said: str
    """What `clawmend plugin install` and `status` said."""

    def row(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = self.gateway.store().get(key, {})
        return found

    def active(self, key: str) -> bool | None:
        asked = {"agentId": "main", "sessions": [{"key": key, "sessionId": self.row(key).get("sessionId")}]}
        said: bool | None = self.person.call("clawmend.live", asked)["active"][0]
        return said

    def turn(self, key: str, words: str = "hello") -> dict[str, Any]:
        """One turn to its end; gives its row."""
        self.person.send(key, words)
        wait_until(lambda: self.row(key).get("status") in ("done", "failed") and self.active(key) is False)
        return self.row(key)

    def stuck(self, key: str) -> dict[str, Any]:
        """A row that says `running` behind its end: the bug where the version has it, else a writer's stale version."""
        if self.gateway.version == "2026.5.18":
            self.person.send(key, "ERROR 400")
            wait_until(lambda: self.row(key).get("status") == "running" and self.active(key) is False)
        else:
            self.put(**{key: still_running(self.turn(key))})
        return self.row(key)

    def put(self, **rows: dict[str, Any]) -> None:
        """Rows into the store, as another process would write them."""
        path = self.gateway.state / "agents" / "main" / "sessions" / "sessions.json"
        beside = path.with_suffix(".by-a-test")
        beside.write_text(json.dumps({**self.gateway.store(), **rows}, indent=2, ensure_ascii=False))
        beside.chmod(0o600)
        beside.rename(path)

    def settle(self, key: str, /, **over: Any) -> dict[str, Any]:
        return self.person.call("clawmend.settle", {**expected(key, self.row(key)), **_END, **over})


_END = {"status": "failed", "endedAt": 1_795_000_000_000}


def expected(key: str, row: dict[str, Any]) -> dict[str, Any]:
    which = {"expectedSessionId": row["sessionId"], "expectedStartedAt": row["startedAt"]}
    return {"key": key, "agentId": "main", **which}


def still_running(row: dict[str, Any]) -> dict[str, Any]:
    return {**{n: v for n, v in row.items() if n not in ("endedAt", "runtimeMs")}, "status": "running"}


def wait_until(there: Callable[[], object]) -> None:
    until = time.monotonic() + _PATIENCE
    while not there():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.1)


def plugin(gateway: Gateway, folder: Path, what: str) -> str:
    """`clawmend plugin`, as the gateway's user would run it."""
    program = TOP / ".gateways" / gateway.version / "node_modules" / ".bin" / "openclaw"
    env = {**gateway.environment, "PYTHONPATH": str(TOP), "CLAWMEND_DATABASE_URL": f"sqlite:///{folder}/audit.db"}
    command = [sys.executable, "-m", "app.cli", "plugin", what, "--openclaw", str(program)]
    done = subprocess.run(
        command, env=env, cwd=folder, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
    )
    assert done.returncode == 0, done
    return done.stdout


@pytest.fixture(scope="module", params=["2026.5.18", "2026.7.1"])
def inside(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    folder = tmp_path_factory.mktemp("plugin")
    with model_server() as port:
        gateway = Gateway(request.param, folder / "home", port)
        gateway.settle_in()
        said = plugin(gateway, folder, "install")
        gateway.start()
        try:
            person = Client(gateway)
            person.call("sessions.subscribe", {})
            yield Inside(gateway, person, folder, said)
        finally:
            gateway.end()


def test_it_is_installed_and_loaded(inside: Inside) -> None:
    assert inside.said.startswith("installed: version")
    assert set(inside.person.methods) >= METHODS
    if inside.gateway.version == "2026.5.18":  # each of OpenClaw's commands takes seconds
        assert "has loaded it" in plugin(inside.gateway, inside.folder, "status")


def test_a_stuck_row_is_settled_through_it_and_given_back_by_an_undo(inside: Inside) -> None:
    key = "agent:main:stuck"
    before = inside.stuck(key)
    with clawmend(inside.gateway, inside.folder / "service", CLAWMEND_STALE_AFTER_SECONDS="2") as service:
        wait_until(lambda: inside.row(key).get("status") != "running")
        wait_until(lambda: service.get("/repairs")["items"][0]["outcome"])
        (attempt,) = service.get("/repairs")["items"]
        after = inside.row(key)
        undone = httpx.post(f"{service.url}/repairs/{attempt['id']}/undo", trust_env=False, timeout=180).json()
    given_back = inside.row(key)
    assert (attempt["outcome"], attempt["hand"], attempt["told"]["why"]) == ("applied", "plugin", "by the plugin")
    assert attempt["evidence"]["liveness"]["by_plugin"] is True
    changed = {n for n in {*before, *after} if before.get(n) != after.get(n)}
    assert changed - {"updatedAt"} == {"status", "endedAt", "runtimeMs"}
    assert {n: after[n] for n in attempt["after"]} == attempt["after"]
    told = [p for _, p in inside.person.changes(key) if p.get("reason") == "clawmend"]
    assert [p["status"] for p in told] == [after["status"], "running"]
    ends = [p for _, name, p in inside.person.events if name == "chat" and p.get("sessionKey") == key]
    assert ends[-1]["state"] == ("error" if after["status"] == "failed" else "final")
    assert (undone["outcome"], undone["hand"]) == ("applied", "plugin")
    assert {**given_back, "updatedAt": 0} == {**before, "updatedAt": 0}


def test_the_next_turn_in_a_settled_session_ends_well(inside: Inside) -> None:
    key = "agent:main:goes-on"
    inside.stuck(key)
    assert inside.settle(key)["applied"] is True
    started = inside.row(key)["startedAt"]
    inside.person.send(key, "hello")
    wait_until(lambda: inside.row(key).get("startedAt", 0) > started and inside.row(key).get("status") == "done")


def test_what_is_not_as_expected_is_refused_and_the_row_stays_as_it_is(inside: Inside) -> None:
    key = "agent:main:refused"
    row = inside.stuck(key)
    assert inside.settle(key, expectedSessionId="another")["reason"] == "session-id"
    assert inside.settle(key, expectedStartedAt=1)["reason"] == "started-at"
    assert inside.settle(key, key="agent:main:nobody")["reason"] == "missing"
    for wrong in ({"status": "running"}, {"endedAt": "now"}, {"expectedStartedAt": None}, {"agentId": ""}):
        with pytest.raises(Refused, match="INVALID_REQUEST"):
            inside.settle(key, **wrong)
    for owned in (
        {"abortedLastRun": True},
        {"endedAt": 1},
        {"restartRecoveryRuns": [1]},
        {"pendingFinalDelivery": True},
    ):
        inside.put(**{key: {**row, **owned}})
        assert inside.settle(key)["reason"] in ("recovering", "has-ended-at"), owned
        assert inside.row(key) == {**row, **owned}
    assert "agent:main:nobody" not in inside.gateway.store()


def test_a_run_is_active_from_its_beginning_to_its_end_also_one_of_cron_and_nothing_is_settled_then(
    inside: Inside,
) -> None:
    talks, cronned = "agent:main:talks", "agent:main:cronned"
    inside.person.send(talks, "SLOW 3")
    cron(inside.person, cronned, "SLOW 3")
    for key in (talks, cronned):
        wait_until(lambda key=key: inside.row(key).get("status") == "running")
        assert (inside.settle(key)["reason"], inside.active(key)) == ("active-run", True)
    wait_until(lambda: inside.row(talks).get("status") == "done" and inside.active(talks) is False)


def test_twenty_rows_at_once_are_settled_once_each_beside_other_writes_and_turns(inside: Inside) -> None:
    row = still_running(inside.turn("agent:main:model"))
    keys = [f"agent:main:many-{n}" for n in range(KEYS)]
    ids = {key: f"00000000-0000-4000-8000-{n:012d}" for n, key in enumerate(keys)}
    inside.put(**{key: {**row, "sessionId": ids[key], "sessionFile": f"{ids[key]}.jsonl"} for key in keys})
    other = Client(inside.gateway)
    talking = [f"agent:main:beside-{n}" for n in range(4)]
    with ThreadPoolExecutor(KEYS * 3) as pool:
        labels = {key: f"label of {key}" for key in keys}
        turns = [pool.submit(inside.person.send, key, "hello") for key in talking]
        named = [pool.submit(inside.person.call, "sessions.patch", {"key": k, "label": v}) for k, v in labels.items()]
        order = {key: {**expected(key, {**row, "sessionId": ids[key]}), **_END} for key in keys}
        twice = [
            (pool.submit(inside.person.call, "clawmend.settle", o), pool.submit(other.call, "clawmend.settle", o))
            for o in order.values()
        ]
        answers = [sorted([a.result()["applied"], b.result()["applied"]]) for a, b in twice]
        for each in (*turns, *named):
            each.result()
    other.close()
    wait_until(lambda: all(inside.row(key).get("status") == "done" for key in talking))
    store = inside.gateway.store()
    assert answers == [[False, True]] * KEYS
    assert {store[key]["status"] for key in keys} == {"failed"}
    assert {key: store[key]["label"] for key in keys} == labels


def test_after_a_restart_of_the_gateway_it_is_there(inside: Inside) -> None:
    inside.person.close()
    inside.gateway.end()
    inside.gateway.start()
    inside.person = Client(inside.gateway)
    assert set(inside.person.methods) >= METHODS


def test_it_is_taken_away_and_the_next_gateway_is_without_it(inside: Inside) -> None:
    said = plugin(inside.gateway, inside.folder, "remove")
    inside.person.close()
    inside.gateway.end()
    inside.gateway.start()
    inside.person = Client(inside.gateway)
    assert said.startswith("removed")
    assert not (inside.gateway.state / "extensions" / "clawmend").exists()
    assert not METHODS & set(inside.person.methods)
