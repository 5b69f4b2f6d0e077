"""The audit table over HTTP, and the undo of a repair."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.api.conftest import FAILED, Serve, Served, add_row, on_the_machines_clock, wait_until
from tests.world import STUCK_ENDED_AT, STUCK_KEY, STUCK_SESSION_ID, World, tree_unchanged

RECORD = {"session_key", "session_id", "outcome", "trigger", "actor", "reason", "before", "after", "evidence"}


@pytest.fixture
def server(world: World, serve: Serve) -> Served:
    world.stuck()
    return serve(auto_repair=False)


def repaired(world: World, served: Served) -> dict[str, Any]:
    answer = served.repair(STUCK_SESSION_ID, reason="first")
    assert (answer.status_code, answer.json()["outcome"]) == (200, "applied")
    world.clock.advance(5)
    record: dict[str, Any] = answer.json()
    return record


def problem(answer: Any) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")


def test_pages_give_every_repair_once_the_newest_first(world: World, serve: Serve) -> None:
    for name in "abcde":
        add_row(world, f"agent:main:{name}", name, started_ago=1_000, events=(("session.ended", 900, FAILED),))
    server = serve(auto_repair=False)
    for name in "abcde":
        world.clock.advance(5)
        assert server.repair(name).json()["outcome"] == "applied"

    pages, cursor = [], None
    while True:
        page = server.http.get("/repairs", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        assert set(page) == {"items", "next"}
        pages.append([item["session_id"] for item in page["items"]])
        cursor = page["next"]
        if cursor is None:
            break
    assert pages == [["e", "d"], ["c", "b"], ["a"]]
    exact = server.http.get("/repairs", params={"limit": 5}).json()
    assert (len(exact["items"]), exact["next"]) == (5, None), "no cursor to an empty page"


def test_each_repair_carries_who_why_what_and_the_evidence(world: World, server: Served) -> None:
    record = repaired(world, server)
    (item,) = server.http.get("/repairs").json()["items"]
    assert set(item) >= RECORD
    assert UUID(item["id"]).version == 7
    assert (item["reason"], item["before"]["status"], item["after"]["status"]) == ("first", "running", "failed")
    assert item["evidence"]["trajectories"][0]["end"]["status"] == "error"
    one = server.http.get(f"/repairs/{record['id']}")
    assert (one.status_code, one.json()) == (200, item)


def test_a_repair_that_nobody_made_is_404(server: Served) -> None:
    nobody = uuid4()
    assert problem(server.http.get(f"/repairs/{nobody}")) == (404, "not_found")
    assert problem(server.http.post(f"/repairs/{nobody}/undo")) == (404, "not_found")


@pytest.mark.parametrize("query", ["cursor=x", "cursor=", "limit=0", "limit=501", "limit=-1", "limit=x"])
def test_a_cursor_or_limit_that_is_none_is_422(server: Served, query: str) -> None:
    assert problem(server.http.get(f"/repairs?{query}")) == (422, "invalid")


def test_undo_gives_the_store_back_byte_for_byte_and_holds_the_session(world: World, server: Served) -> None:
    before = world.store().read_bytes()
    record = repaired(world, server)
    assert world.store().read_bytes() != before

    undone = server.http.post(f"/repairs/{record['id']}/undo", json={"reason": "it was not finished"})
    assert undone.status_code == 200
    body = undone.json()
    assert (body["outcome"], body["kind"], body["undo_of"]) == ("applied", "undo", record["id"])
    assert (body["reason"], body["before"], body["after"]) == ("it was not finished", record["after"], record["before"])
    assert world.store().read_bytes() == before
    (item,) = server.http.get("/sessions/stuck").json()["items"]
    assert (item["held_by"], item["due_at"]) == (body["id"], None)


def test_undo_as_a_dry_run_writes_nothing(world: World, server: Served) -> None:
    record = repaired(world, server)
    with tree_unchanged(world.state):
        answer = server.http.post(f"/repairs/{record['id']}/undo", json={"dry_run": True})
    assert (answer.status_code, answer.json()["dry_run"]) == (200, True)
    assert len(server.http.get("/repairs").json()["items"]) == 1


def test_a_second_undo_is_409_and_so_is_the_undo_of_an_undo(world: World, server: Served) -> None:
    record = repaired(world, server)
    undone = server.http.post(f"/repairs/{record['id']}/undo").json()
    world.clock.advance(5)
    with tree_unchanged(world.state):
        for attempt in (record, undone):
            assert problem(server.http.post(f"/repairs/{attempt['id']}/undo")) == (409, "cannot_undo")


@pytest.mark.parametrize(
    "change",
    [{"status": "done"}, {"startedAt": 1_795_400_000_000}, {"sessionId": "another"}, {"endedAt": None}],
    ids=str,
)
def test_undo_is_409_once_the_row_has_moved_on(world: World, server: Served, change: dict[str, Any]) -> None:
    record = repaired(world, server)
    world.edit_row(**change)
    with tree_unchanged(world.state):
        assert problem(server.http.post(f"/repairs/{record['id']}/undo")) == (409, "cannot_undo")


def test_undo_is_409_once_the_row_is_gone(world: World, server: Served) -> None:
    record = repaired(world, server)
    world.write_store(b"{}")
    with tree_unchanged(world.state):
        assert problem(server.http.post(f"/repairs/{record['id']}/undo")) == (409, "cannot_undo")


def test_undo_keeps_what_the_gateway_wrote_to_other_fields_since(world: World, server: Served) -> None:
    record = repaired(world, server)
    world.edit_row(compactionCount=7)
    assert server.http.post(f"/repairs/{record['id']}/undo").status_code == 200
    row = world.row()
    assert (row["compactionCount"], row["status"], row.get("endedAt")) == (7, "running", None)


def test_an_undone_session_is_held_though_the_wall_clock_was_set_back_meanwhile(world: World, serve: Serve) -> None:
    world.stuck()
    server = serve()
    record = repaired(world, server)
    world.clock.jump(-60)
    undone = server.http.post(f"/repairs/{record['id']}/undo").json()
    assert undone["outcome"] == "applied"
    for _ in range(3):
        world.clock.advance(130)
        server.look()
    assert world.row()["status"] == "running"
    assert server.http.get(f"/sessions/{STUCK_SESSION_ID}").json()["held_by"] == undone["id"]
    assert [i["id"] for i in server.http.get("/repairs").json()["items"]] == [undone["id"], record["id"]]


def test_a_person_may_settle_a_held_session_again_and_only_the_newest_repair_can_be_undone(
    world: World, server: Served
) -> None:
    before = world.store().read_bytes()
    first = repaired(world, server)
    server.http.post(f"/repairs/{first['id']}/undo")
    world.clock.advance(5)
    second = repaired(world, server)
    assert world.row()["status"] == "failed"
    with tree_unchanged(world.state):
        assert problem(server.http.post(f"/repairs/{first['id']}/undo")) == (409, "cannot_undo")
    assert server.http.post(f"/repairs/{second['id']}/undo").status_code == 200
    assert world.store().read_bytes() == before


def test_a_running_service_settles_a_session_soon_after_it_falls_due(world: World, serve: Serve) -> None:
    """The whole service on the machine's clock: no held time, no pass asked for, no row touched by a test."""
    ended_at = world.stuck(ended_ago=0.5)
    windows = {"stale_after_seconds": 1, "error_quiet_seconds": 1.5, "store_quiet_seconds": 0.1}
    server = serve(on_the_machines_clock(world, scan_interval_seconds=5, watch_files=True, **windows))

    wait_until(lambda: bool(server.http.get("/repairs").json()["items"]), "the repair", 15)
    wait_until(lambda: server.http.get("/repairs").json()["items"][0]["outcome"] is not None, "its outcome")
    (item,) = server.http.get("/repairs").json()["items"]
    assert (item["outcome"], item["trigger"], item["session_key"]) == ("applied", "scheduler", STUCK_KEY)
    assert item["after"]["endedAt"] == ended_at == world.row()["endedAt"]
    assert STUCK_ENDED_AT not in item["after"].values()
