"""The breaker and what flaps, over HTTP."""

from __future__ import annotations

import pytest

from tests.api.conftest import Serve, Served, add_row
from tests.turns import WINDOW, lost_turn, lost_turns
from tests.world import ABSENT, STUCK_SESSION_ID, World, attempts


@pytest.fixture
def opened(world: World, serve: Serve) -> Served:
    lost_turns(world, range(4))
    served = serve(breaker_repairs=3)
    world.clock.advance(WINDOW)
    served.look()
    return served


def test_an_open_breaker_is_told_everywhere_and_names_nobody(opened: Served) -> None:
    health = opened.bare.get("/health")
    check = health.json()["checks"]["breaker"]
    assert (health.status_code, health.json()["status"]) == (200, "warn")
    assert (check["status"], check["open"], check["waiting"]) == ("warn", True, 4)
    assert check["reason"].startswith("4 sessions fell due within 10 min")
    assert check["since"] is not None
    metrics = opened.bare.get("/metrics").text
    assert "clawmend_breaker_open 1.0" in metrics
    assert "clawmend_breaker_waiting_sessions 4.0" in metrics
    assert "agent:main" not in health.text + metrics
    told = opened.http.get("/breaker").json()
    assert (told["open"], told["reason"], told["waiting"]) == (True, check["reason"], 4)
    assert opened.http.get("/sessions/stuck").json()["count"] == 4


def test_closing_it_settles_what_waits_before_the_answer_comes(opened: Served) -> None:
    answer = opened.http.post("/breaker/close", json={"reason": "the disk was full"})
    closed = answer.json()
    assert answer.status_code == 200
    assert (closed["open"], closed["closed_by"], closed["close_reason"]) == (False, "api", "the disk was full")
    assert opened.http.get("/sessions/stuck").json()["count"] == 0
    assert opened.bare.get("/health").json()["checks"]["breaker"]["status"] == "pass"
    assert opened.http.get("/breaker").json() == closed
    assert len(attempts(opened.reconciler)) == 4


def test_what_is_not_open_is_not_closed(world: World, serve: Serve) -> None:
    world.stuck()
    served = serve()
    assert served.http.get("/breaker").json() == {
        "open": False,
        "opened_at": None,
        "reason": None,
        "waiting": 0,
        "closed_at": None,
        "closed_by": None,
        "close_reason": None,
    }
    answer = served.http.post("/breaker/close", json={"reason": "why not"})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/not_open")


@pytest.mark.parametrize("body", [None, {}, {"reason": ""}, {"reason": "x" * 501}, {"reason": "x", "all": True}])
def test_a_closing_has_a_reason(opened: Served, body: object) -> None:
    assert opened.http.post("/breaker/close", json=body).status_code in (400, 422)
    assert opened.http.get("/breaker").json()["open"]


def test_nobody_without_the_token_sees_or_closes_it(opened: Served) -> None:
    assert opened.bare.get("/breaker").status_code == 401
    assert opened.bare.post("/breaker/close", json={"reason": "x"}).status_code == 401
    assert opened.http.get("/breaker").json()["open"]


def test_a_flapping_session_is_shown_with_the_issue_that_it_has_the_signature_of(world: World, serve: Serve) -> None:
    world.gateway = ABSENT
    key, session_id = "agent:main:cron:job-7", "id-cron"
    ended = ("session.ended", 60, {"status": "error"})
    add_row(world, key, session_id, started_ago=90, events=(ended,))
    served = serve(flapping_settlements=1, auto_repair=False)
    assert served.http.get(f"/sessions/{session_id}").json()["flapping"] is None
    repair = served.repair(session_id).json()
    assert repair["outcome"] == "applied"
    lost_turn(world, key, session_id)
    served.look()
    told = served.http.get(f"/sessions/{session_id}").json()
    assert told["verdict"] == "ending"
    flapping = told["flapping"]
    assert (flapping["times"], flapping["since"]) == (1, repair["opened_at"])
    assert flapping["until"] > flapping["since"]
    assert flapping["issue"]["number"] == 56121
    assert flapping["issue"]["url"] == "https://github.com/openclaw/openclaw/issues/56121"
    health = served.bare.get("/health").json()
    assert (health["checks"]["sessions"]["status"], health["checks"]["sessions"]["flapping"]) == ("warn", 1)
    assert "clawmend_flapping_sessions 1.0" in served.bare.get("/metrics").text


def test_a_flapping_session_whose_cause_nothing_tells_names_no_issue(world: World, serve: Serve) -> None:
    world.gateway = ABSENT
    world.stuck(ended_ago=60)
    served = serve(flapping_settlements=1, auto_repair=False)
    assert served.repair(STUCK_SESSION_ID).status_code == 200
    lost_turn(world)
    served.look()
    flapping = served.http.get(f"/sessions/{STUCK_SESSION_ID}").json()["flapping"]
    assert (flapping["times"], flapping["issue"]) == (1, None)
