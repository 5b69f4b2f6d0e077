"""`Idempotency-Key`: a request that is sent again is answered as before, and nothing is done twice."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.api.idempotency import key_in
from app.audit.tokens import add_token
from app.domain.caller import Scope
from tests.api.conftest import Serve, Served, add_row, write_rows
from tests.world import STUCK_KEY, STUCK_SESSION_ID, World, tree_unchanged

PATH = f"/sessions/{STUCK_SESSION_ID}/repair"
KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"


@pytest.fixture
def server(world: World, serve: Serve) -> Served:
    world.stuck()
    return serve(auto_repair=False)


def post(server: Served, path: str = PATH, key: str = KEY, **wish: Any) -> httpx.Response:
    return server.http.post(path, json=wish, headers={"idempotency-key": key})


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")


def assert_replayed(again: httpx.Response, first: httpx.Response) -> None:
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    both = [{k: v for k, v in a.headers.items() if k not in ("date", "idempotency-replayed")} for a in (first, again)]
    assert both[0] == both[1]


def as_a_crash_leaves_it(world: World) -> None:
    """The service was killed before it could write its answer down."""
    with sqlite3.connect(world.folder / "own" / "audit.db") as database:
        changed = database.execute("UPDATE keyed_requests SET status = NULL, headers = NULL, body = NULL")
        assert changed.rowcount == 1
    database.close()


def attempts(server: Served) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = server.http.get("/repairs").json()["items"]
    return items


def test_a_repair_that_is_sent_again_is_answered_as_before_and_not_done_again(world: World, server: Served) -> None:
    first = post(server, reason="the user waits")
    assert first.json()["outcome"] == "applied"
    world.clock.advance(60)
    server.look()
    with tree_unchanged(world.state):
        for key in (KEY, f'"{KEY}"'):
            assert_replayed(post(server, reason="the user waits", key=key), first)
    assert len(attempts(server)) == 1


def test_an_undo_and_a_dry_run_are_answered_as_before_too(world: World, server: Served) -> None:
    dry = post(server, dry_run=True, key="a")
    made = server.repair(STUCK_SESSION_ID).json()
    undone = post(server, f"/repairs/{made['id']}/undo", key="b")
    assert (dry.status_code, undone.json()["outcome"]) == (200, "applied")
    with tree_unchanged(world.state):
        assert_replayed(post(server, dry_run=True, key="a"), dry)
        assert_replayed(post(server, f"/repairs/{made['id']}/undo", key="b"), undone)
    assert len(attempts(server)) == 2


def test_a_refusal_is_answered_as_before_though_it_would_be_granted_now(world: World, serve: Serve) -> None:
    """Who wants another try takes another key."""
    world.stuck(ended_ago=5)
    server = serve(auto_repair=False)
    first = post(server)
    assert problem(first) == (409, "not_stuck")
    world.clock.advance(3_600)
    server.look()
    assert_replayed(post(server), first)
    assert post(server, key="another").json()["outcome"] == "applied"


@pytest.mark.parametrize(
    "send",
    [
        lambda server: post(server, reason="another"),
        lambda server: post(server, "/sessions/another/repair"),
        lambda server: server.http.post(PATH, json={}, headers={"idempotency-key": KEY, "if-match": "*"}),
        lambda server: server.http.post(f"{PATH}?a", json={}, headers={"idempotency-key": KEY}),
    ],
)
def test_the_same_key_with_another_request_is_422_and_nothing_is_done(
    world: World, server: Served, send: Callable[[Served], httpx.Response]
) -> None:
    assert post(server, dry_run=False).status_code == 200
    made = attempts(server)[0]["id"]
    assert server.http.post(f"/repairs/{made}/undo").status_code == 200
    with tree_unchanged(world.state):
        assert problem(send(server)) == (422, "key_reused")


def test_two_services_on_one_audit_answer_alike(world: World, serve: Serve) -> None:
    world.stuck()
    one, other = serve(auto_repair=False), serve(auto_repair=False)
    first = post(one)
    assert_replayed(post(other), first)
    assert len(attempts(other)) == 1


def test_the_same_request_while_it_is_under_way_is_409_with_when_to_ask_again(
    world: World, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a store that is not quiet; meanwhile it is sent again, to both services."""
    world.stuck()
    one, other = serve(auto_repair=False), serve(auto_repair=False)
    busy = world.sessions() / ".fs-safe-replace.1.x.tmp"
    busy.write_bytes(b"")
    meanwhile: list[httpx.Response] = []
    sleep = world.clock.sleep

    def while_it_waits(seconds: float) -> None:
        if not meanwhile:
            meanwhile.extend(post(server) for server in (one, other))
            busy.unlink()
        sleep(seconds)

    monkeypatch.setattr(world.clock, "sleep", while_it_waits)
    first = post(one)
    assert first.json()["outcome"] == "applied"
    for again in meanwhile:
        assert problem(again) == (409, "in_progress")
        assert int(again.headers["retry-after"]) > 0
    assert_replayed(post(other), first)
    assert len(attempts(one)) == 1


def test_a_store_that_is_busy_is_no_answer_to_keep(world: World, server: Served) -> None:
    fd = os.open(world.sessions(), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert problem(post(server)) == (423, "store_busy")
    finally:
        os.close(fd)
    assert post(server).json()["outcome"] == "applied"


def test_too_many_is_no_answer_to_keep(world: World, serve: Serve) -> None:
    world.stuck()
    server = serve(auto_repair=False, repairs_per_minute=1)
    assert server.repair("nobody").status_code == 404
    made = server.repair(STUCK_SESSION_ID).json()
    undo = f"/repairs/{made['id']}/undo"
    assert problem(post(server, undo)) == (429, "too_many")
    world.clock.advance(60)
    assert post(server, undo).json()["outcome"] == "applied"


def test_nothing_is_done_under_a_key_that_cannot_be_written_down(world: World, server: Served) -> None:
    database = world.folder / "own" / "audit.db"
    database.rename(database.with_name("away"))
    with tree_unchanged(world.state):
        assert problem(post(server)) == (503, "audit_unavailable")
    database.with_name("away").rename(database)
    assert post(server).json()["outcome"] == "applied"


def test_a_repair_whose_answer_was_lost_with_its_service_is_answered_with_what_it_did(
    world: World, server: Served, serve: Serve
) -> None:
    first = post(server, reason="the user waits").json()
    as_a_crash_leaves_it(world)
    after = serve(auto_repair=False)
    assert problem(post(after, reason="the user waits")) == (409, "in_progress"), "nobody knows yet that it was killed"
    world.clock.advance(30)
    with tree_unchanged(world.state):
        again = post(after, reason="the user waits")
    assert (again.status_code, again.json()["id"], again.json()["outcome"]) == (200, first["id"], "applied")
    assert len(attempts(after)) == 1
    assert_replayed(post(after, reason="the user waits"), again)


def test_an_undo_whose_answer_was_lost_with_its_service_is_answered_with_what_it_did(
    world: World, server: Served
) -> None:
    made = server.repair(STUCK_SESSION_ID).json()
    undo = f"/repairs/{made['id']}/undo"
    first = post(server, undo).json()
    as_a_crash_leaves_it(world)
    world.clock.advance(30)
    with tree_unchanged(world.state):
        assert post(server, undo).json()["id"] == first["id"]


def test_what_was_done_is_told_though_it_has_been_taken_back_since_and_is_not_done_again(
    world: World, server: Served
) -> None:
    first = post(server).json()
    assert server.http.post(f"/repairs/{first['id']}/undo").status_code == 200
    as_a_crash_leaves_it(world)
    world.clock.advance(30)
    assert post(server).json()["id"] == first["id"]
    assert world.row()["status"] == "running"


def test_a_request_that_had_not_come_to_anything_when_its_service_was_killed_is_carried_out(
    world: World, server: Served
) -> None:
    """What the same caller did before it, to the same session and for the same reason, is not taken for its doing."""
    earlier = server.repair(STUCK_SESSION_ID).json()
    assert server.http.post(f"/repairs/{earlier['id']}/undo").status_code == 200
    world.clock.advance(1)
    rows = world.rows()
    add_row(world, "agent:main:child", "child", started_ago=5, spawnedBy=STUCK_KEY)
    assert problem(post(server)) == (409, "not_stuck")
    as_a_crash_leaves_it(world)
    write_rows(world, rows)
    world.clock.advance(3_600)
    server.look()
    done = post(server).json()
    assert (done["outcome"], done["id"] != earlier["id"]) == ("applied", True)


def test_keys_are_each_callers_own(world: World, serve: Serve) -> None:
    world.stuck()
    reconciler = world.reconciler(auto_repair=False, scan_interval_seconds=3_600)
    shown = {
        scope: add_token(reconciler.audit, scope, scope, now=world.clock.now(), by="anna")[0]
        for scope in (Scope.READ, Scope.REPAIR)
    }
    server = serve(reconciler)

    def as_who(scope: Scope) -> httpx.Response:
        headers = {"idempotency-key": KEY, "authorization": f"Bearer {shown[scope]}"}
        return server.bare.post(PATH, json={"dry_run": True, "reason": f"{scope} asks"}, headers=headers)

    assert post(server, dry_run=True).status_code == 200
    assert as_who(Scope.REPAIR).json()["actor"] == "repair", "another body under the same key, of another caller"
    assert problem(as_who(Scope.READ)) == (403, "forbidden")


def test_an_answer_is_kept_for_a_day(world: World, server: Served) -> None:
    first = post(server)
    world.clock.advance(86_399)
    assert_replayed(post(server), first)
    world.clock.advance(1)
    assert problem(post(server, "/sessions/nobody/repair")) == (404, "not_found")


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("abc", "abc"),
        ('"abc"', "abc"),
        (r'"a\"b\\c d"', r'a"b\c d'),
        ("x" * 255, "x" * 255),
        ('"' + "x" * 255 + '"', "x" * 255),
        ("x" * 256, None),
        ('"' + "x" * 256 + '"', None),
        ("", None),
        ('""', None),
        ("a b", None),
        ("a,b", None),
        ('a"b', None),
        ('"abc', None),
        (r'"a\b"', None),
        ("é", None),
        ('"é"', None),
        ("\x7f", None),
    ],
)
def test_a_key_is_a_word_of_visible_ascii_or_a_string_of_structured_fields(given: str, key: str | None) -> None:
    assert key_in([given]) == key


def test_a_key_that_is_none_is_400_and_nothing_is_done(world: World, server: Served) -> None:
    with tree_unchanged(world.state):
        for given in (b"", b"x" * 256, "é".encode(), b"a, b"):
            answer = server.http.post(PATH, headers=[(b"idempotency-key", given)])
            assert problem(answer) == (400, "bad_request")
        two = [(b"idempotency-key", b"a"), (b"idempotency-key", b"b")]
        assert problem(server.http.post(PATH, headers=two)) == (400, "bad_request")


def test_a_body_that_grows_too_large_is_413_under_a_key_too(world: World, server: Served) -> None:
    with tree_unchanged(world.state):
        answer = server.http.post(PATH, content=iter([b"x" * 60_000] * 2), headers={"idempotency-key": KEY})
    assert problem(answer) == (413, "too_large")


def test_a_key_means_nothing_to_who_only_looks(server: Served) -> None:
    for _ in range(2):
        answer = server.http.get("/sessions", headers={"idempotency-key": KEY})
        assert (answer.status_code, "idempotency-replayed" in answer.headers) == (200, False)
