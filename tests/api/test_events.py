"""Server-sent events: what a page that stays open is told."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import fastapi.routing
import httpx
import pytest

from app.api import events
from tests.api.conftest import Serve, Served, wait_until
from tests.world import STUCK_KEY, STUCK_SESSION_ID, World


class Follower:
    """Reads /events in a thread; `got` has `(kind, id, data)` of each."""

    def __init__(self, served: Served, last_id: str | None = None) -> None:
        self.got: list[tuple[str, str, dict[str, Any]]] = []
        self.comments = 0
        headers = {**served.http.headers, **({"last-event-id": last_id} if last_id else {})}
        self._client = httpx.Client(base_url=served.http.base_url, headers=headers, timeout=30, trust_env=False)
        self._stream = self._client.stream("GET", "/events")
        self.answer = self._stream.__enter__()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        event: dict[str, str] = {}
        try:
            for line in self.answer.iter_lines():
                if not line and "data" in event:
                    self.got.append((event["event"], event["id"], json.loads(event["data"])))
                    event = {}
                elif line.startswith(":"):
                    self.comments += 1
                elif line:
                    name, _, value = line.partition(": ")
                    event[name] = value
        except (httpx.HTTPError, RuntimeError):
            pass  # the test has closed it

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.got]

    def wait_for(self, kind: str, count: int = 1) -> dict[str, Any]:
        wait_until(lambda: self.kinds().count(kind) >= count, f"{count} {kind}")
        return [data for got, _, data in self.got if got == kind][count - 1]

    def close(self) -> None:
        with suppress(OSError):  # the service has gone first
            self.answer.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._client.close()


@contextmanager
def following(served: Served, last_id: str | None = None) -> Iterator[Follower]:
    wait_until(lambda: served.app.state.events._report is served.reconciler.report, "the last pass is told")
    follower = Follower(served, last_id)
    try:
        yield follower
    finally:
        follower.close()


def test_each_pass_is_told_and_nothing_else_while_nothing_changes(world: World, serve: Serve) -> None:
    world.stuck()
    served = serve(auto_repair=False)
    with following(served) as follower:
        served.look()
        told = follower.wait_for("pass")
        assert follower.answer.headers["content-type"].startswith("text/event-stream")
        assert (told["stuck"], told["number"]) == (1, served.reconciler.report.number)
        served.look()
        follower.wait_for("pass", 2)
        assert follower.kinds() == ["pass", "pass"]


def test_a_session_whose_verdict_changes_is_told_with_what_it_was(world: World, serve: Serve) -> None:
    world.stuck(ended_ago=5)
    served = serve(auto_repair=False)
    with following(served) as follower:
        world.clock.advance(3_600)
        served.look()
        told = follower.wait_for("finding")
    assert (told["session_key"], told["was"], told["verdict"]) == (STUCK_KEY, "ending", "stuck")
    assert "evidence" not in told


def test_a_session_that_comes_running_or_goes_away_is_told(world: World, serve: Serve) -> None:
    world.stuck()
    served = serve(auto_repair=False)
    rows = world.rows()
    with following(served) as follower:
        row = {**rows[STUCK_KEY], "sessionId": "new", "startedAt": world.clock.now(), "sessionFile": None}
        world.write_store(json.dumps({**rows, "agent:main:new": row}).encode())
        served.look()
        told = follower.wait_for("finding")
        assert (told["session_key"], told["was"]) == ("agent:main:new", None)

        world.write_store(json.dumps({key: value for key, value in rows.items() if key != STUCK_KEY}).encode())
        served.look()
        gone = [follower.wait_for("finding", n) for n in (2, 3)]
    assert {(told["session_key"], told["verdict"]) for told in gone} == {("agent:main:new", None), (STUCK_KEY, None)}


def test_a_repair_is_told_and_again_when_it_is_looked_at(world: World, serve: Serve) -> None:
    world.stuck()
    served = serve(auto_repair=False)
    with following(served) as follower:
        made = served.repair(STUCK_SESSION_ID).json()
        told = follower.wait_for("repair")
        assert (told["id"], told["outcome"], told["looks"], told["evidence"]) == (made["id"], "applied", [], None)
        settled = follower.wait_for("finding")
        assert (settled["was"], settled["verdict"]) == ("stuck", "settled")

        world.clock.advance(2)
        served.look()
        assert len(follower.wait_for("repair", 2)["looks"]) == 1


def test_what_was_repaired_before_the_start_is_no_news(world: World, serve: Serve) -> None:
    world.stuck()
    assert serve(auto_repair=False).repair(STUCK_SESSION_ID).status_code == 200
    served = serve(auto_repair=False)
    with following(served) as follower:
        served.look()
        follower.wait_for("pass")
        assert "repair" not in follower.kinds()


def test_who_comes_back_is_told_what_it_has_missed(world: World, serve: Serve) -> None:
    world.stuck()
    served = serve(auto_repair=False)
    with following(served) as follower:
        served.look()
        follower.wait_for("pass")
        last = follower.got[-1][1]
    assert served.repair(STUCK_SESSION_ID).status_code == 200
    with following(served, last) as follower:
        assert follower.wait_for("repair")["outcome"] == "applied"
        follower.wait_for("pass")
        assert follower.kinds()[:3] == ["finding", "repair", "pass"]


@pytest.mark.parametrize("last", ["0-1", "nonsense", "0-", "-", "0-99999999999999999999999"])
def test_an_id_of_another_life_is_answered_by_a_reset(world: World, serve: Serve, last: str) -> None:
    world.stuck()
    served = serve(auto_repair=False)
    with following(served, last) as follower:
        assert follower.wait_for("reset") == {}
        served.look()
        follower.wait_for("pass")
        assert follower.kinds() == ["reset", "pass"]


def test_an_id_that_is_yet_to_come_is_answered_by_a_reset(world: World, serve: Serve) -> None:
    world.stuck()
    served = serve(auto_repair=False)
    with following(served) as follower:
        served.look()
        follower.wait_for("pass")
        life, _, number = follower.got[-1][1].partition("-")
    with following(served, f"{life}-{int(number) + 1}") as follower:
        follower.wait_for("reset")


def test_who_has_missed_more_than_is_kept_is_told_to_ask_again(
    world: World, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_KEPT", 3)
    world.stuck()
    served = serve(auto_repair=False)
    with following(served) as follower:
        served.look()
        follower.wait_for("pass")
        last = follower.got[-1][1]
    for _ in range(4):
        served.look()
    missed = int(last.partition("-")[2]) + 4
    wait_until(lambda: served.app.state.events._number >= missed, "the passes are told")
    with following(served, last) as follower:
        follower.wait_for("reset")
        served.look()
        follower.wait_for("pass")
        assert follower.kinds() == ["reset", "pass"]


def test_a_page_that_stays_open_does_not_hold_up_the_end_of_the_service(world: World, serve: Serve) -> None:
    world.stuck()
    served = serve(auto_repair=False)
    with following(served) as follower:
        served.look()
        follower.wait_for("pass")
        began = time.monotonic()
        served.stop()
        assert time.monotonic() - began < 4, "uvicorn waits 5 s for who does not go"


def test_a_comment_keeps_the_connection_open_while_nothing_happens(
    world: World, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fastapi.routing._PING_INTERVAL == 15, "docs/reference/api.md says how often"
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.05)
    world.stuck()
    with following(serve(auto_repair=False)) as follower:
        wait_until(lambda: follower.comments >= 3, "three comments")
        assert follower.got == [], "no page takes a comment for an event"


def test_nobody_without_the_token_is_told_anything(world: World, serve: Serve) -> None:
    world.stuck()
    assert serve(auto_repair=False).bare.get("/events").status_code == 401


def test_the_audit_that_does_not_answer_costs_no_event_but_its_own(world: World, serve: Serve) -> None:
    world.stuck()
    served = serve(auto_repair=False)
    database = world.folder / "own" / "audit.db"
    with following(served) as follower:
        database.rename(database.with_name("away"))
        served.look()
        follower.wait_for("pass")
        database.with_name("away").rename(database)
        served.look()
        follower.wait_for("pass", 2)
