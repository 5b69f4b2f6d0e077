"""`If-Match` on what changes a session, `If-None-Match` on what shows one."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.conftest import Serve, Served
from tests.integration.test_repair_asked import after_the_intent
from tests.world import STUCK_SESSION_ID, World, running_since, tree_unchanged

PATH = f"/sessions/{STUCK_SESSION_ID}"


@pytest.fixture
def server(world: World, serve: Serve) -> Served:
    world.stuck()
    return serve(auto_repair=False)


def repair(server: Served, if_match: str, **wish: Any) -> httpx.Response:
    return server.http.post(f"{PATH}/repair", json=wish, headers={"if-match": if_match})


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")


def another_end(world: World) -> None:
    """Something has happened to the session: it is to be watched anew."""
    world.append(world.event("session.ended", world.clock.now() - 600_000, {"status": "error"}))


def restart(world: World) -> None:
    """The session is as stuck as before, but what is known of its gateway is another thing."""
    world.gateway = running_since(world.clock.now())


def test_a_session_has_the_same_fingerprint_wherever_it_is_shown(server: Served) -> None:
    shown = server.http.get(PATH)
    fingerprint = shown.json()["fingerprint"]
    assert shown.headers["etag"].startswith(f'"{fingerprint}.')
    for path in ("/sessions", "/sessions/stuck"):
        (item,) = server.http.get(path).json()["items"]
        assert item["fingerprint"] == fingerprint


def test_a_session_that_was_seen_is_304_while_only_the_clock_goes_on(world: World, server: Served) -> None:
    tag = server.http.get(PATH).headers["etag"]
    world.clock.advance(60)
    server.look()
    for method in ("GET", "HEAD"):
        again = server.http.request(method, PATH, headers={"if-none-match": f'"other", {tag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    another_end(world)
    server.look()
    assert server.http.get(PATH, headers={"if-none-match": tag}).status_code == 200


def test_what_keeps_the_scheduler_away_changes_the_tag_and_not_the_fingerprint(world: World, server: Served) -> None:
    before = server.http.get(PATH)
    made = server.repair(STUCK_SESSION_ID).json()
    assert server.http.post(f"/repairs/{made['id']}/undo").status_code == 200
    after = server.http.get(PATH, headers={"if-none-match": before.headers["etag"]})
    assert (after.status_code, after.json()["held_by"] is None) == (200, False)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("given", ["{etag}", '"{fingerprint}"', '"other", "{fingerprint}"', "*"])
def test_what_is_still_as_it_was_seen_is_settled(world: World, server: Served, given: str, dry_run: bool) -> None:
    seen = server.http.get(PATH)
    answer = repair(server, given.format(etag=seen.headers["etag"], **seen.json()), dry_run=dry_run)
    assert (answer.status_code, answer.json()["outcome"]) == (200, None if dry_run else "applied")
    assert world.row()["status"] == ("running" if dry_run else "failed")


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("given", ['"0123"', "W/{etag}", '""'])
def test_what_was_not_seen_so_is_412_and_nothing_is_written(
    world: World, server: Served, given: str, dry_run: bool
) -> None:
    given = given.format(etag=server.http.get(PATH).headers["etag"])
    with tree_unchanged(world.state):
        answer = repair(server, given, dry_run=dry_run)
    assert problem(answer) == (412, "precondition_failed")
    assert answer.json()["session"]["fingerprint"] == server.http.get(PATH).json()["fingerprint"]
    assert server.http.get("/repairs").json()["items"] == []


def test_it_is_compared_with_what_stands_on_disk_and_not_with_the_last_pass(world: World, server: Served) -> None:
    tag = server.http.get(PATH).headers["etag"]
    restart(world)
    with tree_unchanged(world.state):
        assert problem(repair(server, tag)) == (412, "precondition_failed")
    assert server.repair(STUCK_SESSION_ID).json()["outcome"] == "applied", "without a condition it is settled"


@pytest.mark.parametrize("happens", [restart, another_end, lambda world: world.edit_row(status="done")])
def test_it_is_compared_again_on_the_very_bytes_that_are_replaced(world: World, server: Served, happens: Any) -> None:
    """What happens while the store is waited for."""
    tag = server.http.get(PATH).headers["etag"]
    with after_the_intent(lambda: happens(world)):
        answer = repair(server, tag)
    assert problem(answer) == (412, "precondition_failed")
    made = answer.json()["repair"]
    assert (made["outcome"], "endedAt" in world.row()) == ("superseded", False)
    assert server.http.get(f"/repairs/{made['id']}").json()["outcome"] == "superseded"


def test_no_session_that_is_gone_matches_whatever_is_there(world: World, server: Served) -> None:
    world.write_store(b"{}")
    answer = repair(server, "*")
    assert (problem(answer), answer.json()["session"]) == ((412, "precondition_failed"), None)


def test_a_session_that_was_seen_and_is_not_stuck_is_not_settled_by_a_condition(world: World, serve: Serve) -> None:
    world.stuck(ended_ago=5)
    server = serve(auto_repair=False)
    assert problem(repair(server, server.http.get(PATH).headers["etag"])) == (409, "not_stuck")


@pytest.mark.parametrize("given", ["abc", '"abc', '"a" "b"', "*, *", '"a"b', "W/", "", '"\\"" x'])
def test_a_condition_that_cannot_be_read_is_refused(world: World, server: Served, given: str) -> None:
    with tree_unchanged(world.state):
        assert problem(repair(server, given)) == (400, "bad_request")


def test_a_repair_is_taken_back_while_its_outcome_is_the_one_that_was_seen(world: World, server: Served) -> None:
    made = server.repair(STUCK_SESSION_ID).json()
    path = f"/repairs/{made['id']}"
    tag = server.http.get(path).headers["etag"]
    assert server.http.get(path, headers={"if-none-match": tag}).status_code == 304
    world.clock.advance(2)
    server.look()
    assert server.http.get(path, headers={"if-none-match": tag}).status_code == 200, "it has been looked at since"
    for other in ('"other"', tag.replace("applied", "overwritten")):
        with tree_unchanged(world.state):
            answer = server.http.post(f"{path}/undo", headers={"if-match": other})
        assert problem(answer) == (412, "precondition_failed")
    assert server.http.post(f"{path}/undo", headers={"if-match": tag}).json()["outcome"] == "applied"
