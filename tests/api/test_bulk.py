"""`POST /sessions/repair`: many sessions by one request, each proven by itself."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, event

from app.audit.tokens import add_token
from app.domain.caller import Scope
from tests.api.conftest import FAILED, Serve, Served, add_row, one_of_each, write_rows
from tests.world import World, tree_unchanged

PATH = "/sessions/repair"


def five(world: World) -> None:
    """Stuck ones `a` (the oldest) to `e`; `b` and `d` are of the agent work, in a store of its own."""
    for number, name in enumerate("abcde"):
        agent = "work" if name in "bd" else "main"
        ended = (("session.ended", 900 - 100 * number, FAILED),)
        add_row(world, f"agent:{agent}:{name}", name, started_ago=1_000, events=ended)
    rows = world.rows()
    of_work = {key: rows.pop(key) for key in ("agent:work:b", "agent:work:d")}
    world.write_store(json.dumps(of_work).encode(), "work")
    for name in "bd":
        world.trajectory(name).rename(world.trajectory(name, "work"))
    write_rows(world, rows)


@pytest.fixture
def server(world: World, serve: Serve) -> Served:
    five(world)
    return serve(auto_repair=False)


def bulk(server: Served, **wish: Any) -> httpx.Response:
    return server.http.post(PATH, json=wish)


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["session_id"] for item in items]


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")


def code(item: dict[str, Any]) -> str:
    """The outcome of its attempt, or what was in the way."""
    outcome: str = item["repair"]["outcome"] if item["repair"] else item["problem"]["type"].removeprefix("/problems/")
    return outcome


def running(world: World) -> list[str]:
    rows = {**world.rows(), **world.rows("work")}
    return sorted(row["sessionId"] for row in rows.values() if row["status"] == "running")


@contextmanager
def when_the_plan_is_written(number: int, happens: Any) -> Iterator[None]:
    """Once, when the plan of attempt `number` (from 1) stands in the audit."""
    seen: list[str] = []

    def after(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("UPDATE") and "new_sha256" in statement:
            seen.append(statement)
            if len(seen) == number:
                happens()

    event.listen(Engine, "after_cursor_execute", after)
    try:
        yield
    finally:
        event.remove(Engine, "after_cursor_execute", after)
    assert len(seen) >= number


@pytest.mark.parametrize("wish", [None, {}, {"dry_run": True, "max": 10}])
def test_without_a_word_it_only_says_what_it_would_do(world: World, server: Served, wish: Any) -> None:
    with tree_unchanged(world.state):
        answer = server.http.post(PATH) if wish is None else bulk(server, **wish)
    body = answer.json()
    assert (answer.status_code, body["dry_run"], body["summary"]) == (200, True, {"planned": 5})
    assert ids(body["items"]) == ["a", "b", "c", "d", "e"]
    assert {item["repair"]["after"]["status"] for item in body["items"]} == {"failed"}
    assert {item["repair"]["id"] for item in body["items"]} == {None}
    assert server.http.get("/repairs").json()["items"] == []


def test_so_many_are_settled_as_were_asked_for_the_oldest_first(world: World, server: Served) -> None:
    body = bulk(server, dry_run=False, max=3, reason="the disk was full").json()
    assert (ids(body["items"]), body["summary"], body["more"]) == (["a", "b", "c"], {"applied": 3}, 2)
    assert (body["stopped"], body["not_tried"], body["left_out"]) == (None, [], [])
    assert running(world) == ["d", "e"]
    made = {item["id"]: item for item in server.http.get("/repairs").json()["items"]}
    assert {item["repair"]["id"] for item in body["items"]} == set(made)
    assert {(a["reason"], a["actor"], a["trigger"], a["forced"]) for a in made.values()} == {
        ("the disk was full", "api", "api", False)
    }
    assert server.http.get("/sessions/stuck").json()["count"] == 2, "the answer comes after a pass has seen it"


@pytest.mark.parametrize(
    ("wish", "taken", "more"),
    [
        ({"agent": "work"}, ["b", "d"], 0),
        ({"min_age": 700}, ["a", "b", "c"], 0),
        ({"min_age": 700, "agent": "main", "max": 1}, ["a"], 1),
        ({"agent": "nobody"}, [], 0),
        ({"verdict": ["ending"]}, [], 0),
    ],
    ids=str,
)
def test_filters_leave_what_was_asked_for(
    world: World, server: Served, wish: dict[str, Any], taken: list[str], more: int
) -> None:
    body = bulk(server, dry_run=False, **wish).json()
    assert (ids(body["items"]), body["more"]) == (taken, more)
    assert running(world) == [name for name in "abcde" if name not in taken]


def test_one_that_may_not_be_settled_stops_no_other(world: World, server: Served) -> None:
    """What has happened since the last pass: a turn has begun in one, another is gone."""
    now = world.clock.now()
    world.append(world.event("session.started", now - 1_000, sessionId="a", sessionKey="agent:main:a"), session_id="a")
    rows = world.rows("work")
    rows.pop("agent:work:b")
    world.write_store(json.dumps(rows).encode(), "work")
    body = bulk(server, dry_run=False).json()
    assert [code(item) for item in body["items"]] == ["not_stuck", "not_stuck", "applied", "applied", "applied"]
    assert body["summary"] == {"not_stuck": 2, "applied": 3}
    assert "gone" in body["items"][1]["problem"]["detail"]
    assert running(world) == ["a"]


def test_nothing_but_what_is_proven_is_settled(world: World, serve: Serve) -> None:
    one_of_each(world)
    server = serve(auto_repair=False)
    body = bulk(server, dry_run=False, verdict=["stuck", "ending"]).json()
    assert {item["session_id"]: code(item) for item in body["items"]} == {
        "id-stuck": "applied",
        "id-ending": "not_stuck",
    }


@pytest.mark.parametrize(
    "wish",
    [
        {"verdict": ["orphaned"]},
        {"verdict": []},
        {"verdict": "stuck"},
        {"force": True, "target_status": "done"},
        {"max": 0},
        {"max": 501},
        {"min_age": -1},
        {"reason": ""},
    ],
    ids=str,
)
def test_what_cannot_be_understood_or_would_overrule_the_evidence_is_refused(
    world: World, server: Served, wish: dict[str, Any]
) -> None:
    with tree_unchanged(world.state):
        assert problem(bulk(server, dry_run=False, **wish)) == (422, "invalid")


def test_a_condition_on_one_session_is_refused_and_not_ignored(world: World, server: Served) -> None:
    with tree_unchanged(world.state):
        answer = server.http.post(PATH, json={"dry_run": False}, headers={"if-match": "*"})
    assert problem(answer) == (400, "bad_request")


def test_what_somebody_has_taken_back_and_a_subagents_row_are_left_to_be_named(world: World, serve: Serve) -> None:
    five(world)
    ended = (("session.ended", 950, FAILED),)
    add_row(world, "agent:main:subagent:s", "s", started_ago=1_000, events=ended)
    server = serve(auto_repair=False)
    made = server.repair("c").json()
    undone = server.http.post(f"/repairs/{made['id']}/undo").json()
    world.clock.advance(5)
    body = bulk(server, dry_run=False, max=3).json()
    assert (ids(body["items"]), ids(body["left_out"]), body["more"]) == (["a", "b", "d"], ["s", "c"], 1)
    assert undone["id"] in body["left_out"][1]["why"]
    assert running(world) == ["c", "e", "s"]


def test_a_subagents_row_is_taken_up_where_a_setting_lets_the_scheduler_do_it(world: World, serve: Serve) -> None:
    ended = (("session.ended", 950, FAILED),)
    add_row(world, "agent:main:subagent:s", "s", started_ago=1_000, events=ended)
    body = bulk(serve(auto_repair=False, settle_subagents=True), dry_run=False).json()
    assert (ids(body["items"]), body["summary"]) == (["s"], {"applied": 1})


def test_a_busy_store_is_waited_for_once_and_keeps_no_other_from_being_settled(world: World, server: Served) -> None:
    waited = world.clock.monotonic()
    fd = os.open(world.sessions(), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        body = bulk(server, dry_run=False).json()
    finally:
        os.close(fd)
    assert {item["session_id"]: code(item) for item in body["items"]} == {
        "a": "store_busy",
        "b": "applied",
        "c": "store_busy",
        "d": "applied",
        "e": "store_busy",
    }
    patience = server.reconciler.settings.store_patience_seconds
    assert patience <= world.clock.monotonic() - waited < 2 * patience
    assert bulk(server, dry_run=False).json()["summary"] == {"applied": 3}


def test_the_audit_that_goes_away_in_the_middle_ends_it_and_what_was_done_is_told(world: World, server: Served) -> None:
    database = world.folder / "own" / "audit.db"
    with when_the_plan_is_written(2, lambda: database.rename(database.with_name("away"))):
        answer = bulk(server, dry_run=False)
    body = answer.json()
    assert (answer.status_code, [code(item) for item in body["items"]]) == (200, ["applied", "audit_unavailable"])
    assert body["stopped"]["type"] == "/problems/audit_unavailable"
    assert ids(body["not_tried"]) == ["c", "d", "e"]
    assert set(running(world)) >= {"c", "d", "e"}


def test_it_is_503_where_nothing_at_all_could_be_done(world: World, server: Served) -> None:
    (world.folder / "own" / "audit.db").unlink()
    with tree_unchanged(world.state):
        assert problem(bulk(server, dry_run=False)) == (503, "audit_unavailable")


def test_each_session_counts_against_the_pace_and_the_rest_is_told(world: World, serve: Serve) -> None:
    five(world)
    server = serve(auto_repair=False, repairs_per_minute=2)
    for _ in range(3):
        assert bulk(server).json()["summary"] == {"planned": 5}, "a dry run does not count"
    answer = bulk(server, dry_run=False)
    body = answer.json()
    assert (answer.status_code, ids(body["items"]), ids(body["not_tried"])) == (200, ["a", "b"], ["c", "d", "e"])
    assert body["stopped"]["type"] == "/problems/too_many"
    wait = int(answer.headers["retry-after"])
    refused = bulk(server, dry_run=False)
    assert (problem(refused), ids(refused.json()["not_tried"])) == ((429, "too_many"), ["c", "d", "e"])
    world.clock.advance(wait)
    assert ids(bulk(server, dry_run=False).json()["items"]) == ["c"]


def test_while_it_waits_others_are_answered(world: World, server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.sessions() / ".fs-safe-replace.1.x.tmp").write_bytes(b"")
    answered: list[int] = []
    sleep = world.clock.sleep

    def meanwhile(seconds: float) -> None:
        if not answered:
            answered.append(server.http.get("/sessions/stuck").status_code)
        sleep(seconds)

    monkeypatch.setattr(world.clock, "sleep", meanwhile)
    body = bulk(server, dry_run=False, agent="main").json()
    assert (answered, body["summary"]) == ([200], {"store_busy": 3})


def test_sent_again_with_its_key_it_is_not_done_again(world: World, server: Served) -> None:
    headers = {"idempotency-key": "tonight"}
    first = server.http.post(PATH, json={"dry_run": False, "max": 2}, headers=headers)
    again = server.http.post(PATH, json={"dry_run": False, "max": 2}, headers=headers)
    assert (again.headers["idempotency-replayed"], again.content) == ("true", first.content)
    assert running(world) == ["c", "d", "e"]


def test_who_may_only_look_may_not_even_ask_for_a_plan(world: World, serve: Serve) -> None:
    five(world)
    reconciler = world.reconciler(auto_repair=False, scan_interval_seconds=3_600)
    shown, _ = add_token(reconciler.audit, "rita", Scope.READ, now=world.clock.now(), by="anna")
    answer = serve(reconciler).bare.post(PATH, json={}, headers={"authorization": f"Bearer {shown}"})
    assert problem(answer) == (403, "forbidden")
