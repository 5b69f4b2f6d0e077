"""`POST /sessions/{id}/repair`: the same repair, asked by name; and nonsense that is never a 500."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from typing import Any

import pytest

from tests.api.conftest import FAILED, Serve, Served, add_row, write_rows
from tests.world import STUCK_ENDED_AT, STUCK_KEY, STUCK_SESSION_ID, STUCK_STARTED_AT, World, tree_unchanged

RUNTIME = STUCK_ENDED_AT - STUCK_STARTED_AT
PATH = f"/sessions/{STUCK_SESSION_ID}/repair"


@pytest.fixture
def server(world: World, serve: Serve) -> Served:
    world.stuck()
    return serve(auto_repair=False)


def problem(answer: Any) -> tuple[int, str]:
    """Status and type of an error, its shape checked (RFC 9457)."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert {"type", "title", "status", "detail"} <= set(body)
    assert body["status"] == answer.status_code
    return answer.status_code, body["type"].removeprefix("/problems/")


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(world: World, server: Served) -> None:
    with tree_unchanged(world.state):
        answer = server.repair(STUCK_SESSION_ID, dry_run=True)
    assert answer.status_code == 200
    plan = answer.json()
    assert (plan["dry_run"], plan["outcome"], plan["after"]["status"]) == (True, None, "failed")
    assert server.http.get("/repairs").json()["items"] == []


def test_a_repair_answers_with_its_record_and_changes_no_other_byte(world: World, serve: Serve) -> None:
    ended_at = world.stuck()
    server = serve(auto_repair=False)
    before = world.store().read_bytes()
    answer = server.repair(STUCK_SESSION_ID, reason="the user asked")

    assert answer.status_code == 200
    record = answer.json()
    told = {name: record[name] for name in ("outcome", "trigger", "reason", "session_key", "session_id", "verdict")}
    assert told == {
        "outcome": "applied",
        "trigger": "api",
        "reason": "the user asked",
        "session_key": STUCK_KEY,
        "session_id": STUCK_SESSION_ID,
        "verdict": "stuck",
    }
    assert record["before"] == {"status": "running", "endedAt": None, "runtimeMs": None, "abortedLastRun": False}
    assert record["after"] == {"status": "failed", "endedAt": ended_at, "runtimeMs": RUNTIME, "abortedLastRun": False}
    started = f'"startedAt": {ended_at - RUNTIME}'
    settled = f'"status": "failed",\n    {started},\n    "endedAt": {ended_at},\n    "runtimeMs": {RUNTIME}'
    running = f'"status": "running",\n    {started}'
    assert world.store().read_bytes() == before.replace(running.encode(), settled.encode())
    assert server.http.get(f"/repairs/{record['id']}").json()["outcome"] == "applied"
    assert server.http.get("/sessions/stuck").json()["count"] == 0, "the answer comes after a pass has seen it"


@pytest.mark.parametrize("verdict", ["working", "ending", "orphaned", "silent", "never_started", "waiting", "settled"])
def test_a_session_that_is_not_stuck_is_409_with_the_evidence(world: World, each: Served, verdict: str) -> None:
    with tree_unchanged(world.state):
        answer = each.repair(f"id-{verdict}")
    assert problem(answer) == (409, "not_stuck")
    session = answer.json()["session"]
    assert (session["session_id"], session["verdict"]) == (f"id-{verdict}", verdict)
    assert session["evidence"]["row"]["status"] == ("failed" if verdict == "settled" else "running")


@pytest.mark.parametrize("status", ["done", "failed", "timeout", "killed"])
@pytest.mark.parametrize("verdict", ["orphaned", "silent", "never_started", "ending"])
def test_a_person_may_settle_what_cannot_be_proven(world: World, each: Served, verdict: str, status: str) -> None:
    answer = each.repair(f"id-{verdict}", force=True, target_status=status, reason="seen to be dead")
    assert (answer.status_code, answer.json()["outcome"], answer.json()["forced"]) == (200, "applied", True)
    row = world.row(f"agent:main:{verdict}")
    assert (row["status"], row["abortedLastRun"]) == (status, status == "killed")
    assert row["runtimeMs"] == row["endedAt"] - row["startedAt"] >= 0


@pytest.mark.parametrize("verdict", ["settled", "unprovable", "working", "waiting", "recovering"])
def test_force_settles_nothing_else(world: World, each: Served, verdict: str) -> None:
    with tree_unchanged(world.state):
        answer = each.repair(f"id-{verdict}", force=True, target_status="done")
    assert problem(answer) == (409, "not_stuck")


@pytest.mark.parametrize("wish", [{"force": True}, {"target_status": "done"}, {"force": True, "target_status": "gone"}])
def test_force_and_the_status_go_together(world: World, server: Served, wish: dict[str, Any]) -> None:
    with tree_unchanged(world.state):
        assert problem(server.repair(STUCK_SESSION_ID, **wish)) == (422, "invalid")


def test_a_turn_that_began_since_the_last_pass_is_not_settled(world: World, server: Served) -> None:
    now = world.clock.now()
    world.append(world.event("session.started", now - 1_000))
    with tree_unchanged(world.state):
        assert problem(server.repair(STUCK_SESSION_ID)) == (409, "not_stuck")


@pytest.mark.parametrize(("data", "expected"), [(b"{", "store_unfit"), (b"{}", "not_stuck"), (b"[]", "store_unfit")])
def test_force_needs_a_row_and_a_store_that_parses(world: World, server: Served, data: bytes, expected: str) -> None:
    world.write_store(data)
    with tree_unchanged(world.state):
        assert problem(server.repair(STUCK_SESSION_ID, force=True, target_status="done")) == (409, expected)


def test_another_clawmend_at_the_store_is_423_and_afterwards_it_goes_on(world: World, server: Served) -> None:
    fd = os.open(world.sessions(), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with tree_unchanged(world.state):
            assert problem(server.repair(STUCK_SESSION_ID)) == (423, "store_busy")
    finally:
        os.close(fd)
    assert server.repair(STUCK_SESSION_ID).json()["outcome"] == "applied"


def test_a_gateway_that_does_not_stop_writing_is_423_and_the_attempt_is_closed(world: World, server: Served) -> None:
    (world.sessions() / ".fs-safe-replace.1.x.tmp").write_bytes(b"")
    with tree_unchanged(world.state):
        assert problem(server.repair(STUCK_SESSION_ID)) == (423, "store_busy")
    (attempt,) = server.http.get("/repairs").json()["items"]
    assert attempt["outcome"] == "refused"


def test_nothing_is_settled_while_the_audit_database_is_gone(world: World, server: Served) -> None:
    (world.folder / "own" / "audit.db").unlink()
    with tree_unchanged(world.state):
        assert problem(server.repair(STUCK_SESSION_ID)) == (503, "audit_unavailable")


def test_every_error_has_the_one_shape(server: Served) -> None:
    assert problem(server.http.get("/no-such")) == (404, "not_found")
    wrong_method = server.http.delete("/sessions")
    assert problem(wrong_method) == (405, "method_not_allowed")
    assert "GET" in wrong_method.headers["allow"]
    headers = {"content-type": "application/json"}
    assert problem(server.http.post(PATH, content=b"{", headers=headers)) == (400, "bad_request")
    invalid = server.http.post(PATH, json={"dry_run": "perhaps", "colour": "red"})
    assert problem(invalid) == (422, "invalid")
    assert {e["where"] for e in invalid.json()["errors"]} == {"body.dry_run", "body.colour"}


@pytest.mark.parametrize(
    "body",
    [b"[]", b'"x"', b"7", b"{", b"\xff\xfe{}", b"NaN", b'{"reason": "\\ud800"}', b'{"reason": "\xed\xa0\x80"}',
     b'{"\\ud800": 1}', b'{"reason": null}', b'{"reason": ""}', b'{"reason": 5}', b'{"dry_run": 1e999}',
     b'{"force": true, "target_status": "\\udfff"}', b"[" * 60_000, b'{"reason": ' + b"9" * 60_000 + b"}",
     b'{"reason": "' + b"x" * 501 + b'"}', b'{"dry_runn": true}'],
    ids=range(18),
)  # fmt: skip
def test_a_nonsense_body_is_refused_in_words_and_settles_nothing(world: World, server: Served, body: bytes) -> None:
    with tree_unchanged(world.state):
        answer = server.http.post(PATH, content=body, headers={"content-type": "application/json"})
    assert problem(answer) in ((400, "bad_request"), (422, "invalid"))


@pytest.mark.parametrize(
    "path",
    ["/sessions/%ED%A0%80", "/sessions/%FF", "/sessions/%00", "/sessions/" + "x" * 5_000, "/repairs/%ED%A0%80",
     "/repairs/x", "/repairs?cursor=%ED%A0%80", "/repairs?limit=%00", "/repairs?limit=1e9", "/problems/%ED%A0%80"],
)  # fmt: skip
def test_a_nonsense_address_is_refused_in_words(server: Served, path: str) -> None:
    assert problem(server.http.get(path))[0] in (404, 422)


@pytest.mark.parametrize(
    "row",
    [{"sessionId": "\ud83d"}, {"status": "\ud83d"}, {"usageFamilySessionIds": ["\ud83d"]}, {"sessionFile": "\ud83d"},
     {"restartRecovery\ud83d": True}, {"spawnedBy": "\ud83d"}, {"startedAt": 1e300}, {"endedAt": "\ud83d"},
     {"usageFamilySessionIds": [STUCK_SESSION_ID + "\ud83d"]}],
    ids=str,
)  # fmt: skip
def test_half_an_emoji_in_a_row_keeps_no_list_from_being_served(
    world: World, serve: Serve, row: dict[str, Any]
) -> None:
    add_row(world, "agent:main:healthy", "healthy", started_ago=1_000, events=(("session.ended", 900, FAILED),))
    write_rows(world, {**world.rows(), "agent:main:odd": {"sessionId": "odd", "status": "running", **row}})
    assert_everything_answers(serve(auto_repair=False))


@pytest.mark.parametrize("name", ["type", "runId", "sessionKey", "sessionId"])
def test_half_an_emoji_in_a_trajectory_keeps_no_list_from_being_served(world: World, serve: Serve, name: str) -> None:
    ended_at = world.stuck()
    end = world.event("session.ended", ended_at + 1_000, {"status": "error", "terminalError": "\ud83d"})
    world.append({**end, name: "\ud83d"})
    assert_everything_answers(serve(auto_repair=False))


def test_an_agents_folder_whose_name_is_no_text_keeps_no_list_from_being_served(world: World, serve: Serve) -> None:
    world.stuck()
    agents = os.fsencode(world.state / "agents")
    shutil.copytree(agents + b"/main", agents + b"/ma\xefn")
    assert_everything_answers(serve(auto_repair=False))


def assert_everything_answers(server: Served) -> None:
    assert server.bare.get("/health").status_code == 200
    listed = server.http.get("/sessions")
    assert listed.status_code == 200
    assert listed.json()["count"] >= 1
    everything = "ending,orphaned,silent,never_started,unprovable"
    assert server.http.get("/sessions/stuck", params={"include": everything}).status_code == 200
    for item in listed.json()["items"]:
        assert server.http.get(f"/sessions/{item['session_key']}").status_code == 200
        assert server.repair(item["session_key"], dry_run=True).status_code in (200, 409)
        json.dumps(item).encode()
