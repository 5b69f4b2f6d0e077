"""Sessions over HTTP: the lists, one by its id, its repair."""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from tests.api.conftest import FAILED, Serve, Served, add_row
from tests.world import ABSENT, STUCK_ENDED_AT, STUCK_KEY, STUCK_SESSION_ID, STUCK_STARTED_AT, World

ITEM = {
    "session_key", "session_id", "agent_id", "state_dir", "verdict", "reason", "target_status", "started_at",
    "ended_at", "stuck_for_seconds", "due_at", "evidence",
}  # fmt: skip
RUNTIME = STUCK_ENDED_AT - STUCK_STARTED_AT


def moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def verdicts(served: Served, include: str = "") -> list[str]:
    answer = served.http.get("/sessions/stuck", params={"include": include})
    assert answer.status_code == 200
    return [item["verdict"] for item in answer.json()["items"]]


def test_a_stuck_session_is_shown_as_the_dashboard_was_promised(world: World, serve: Serve) -> None:
    ended_at = world.stuck(ended_ago=3_600)
    answer = serve().http.get("/sessions/stuck")

    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"count", "items", "next", "scan"}
    (item,) = body["items"]
    assert body["count"] == 1
    assert set(item) >= ITEM
    assert {name: item[name] for name in ITEM - {"reason", "evidence"}} == {
        "session_key": STUCK_KEY,
        "session_id": STUCK_SESSION_ID,
        "agent_id": "main",
        "state_dir": str(world.state),
        "verdict": "stuck",
        "target_status": "failed",
        "started_at": moment(ended_at - RUNTIME),
        "ended_at": moment(ended_at),
        "stuck_for_seconds": 3_600.0,
        "due_at": moment(world.clock.wall + 120_000),  # its window, watched from now on
    }
    assert "error" in item["reason"]
    (trajectory,) = item["evidence"]["trajectories"]
    assert (trajectory["end"]["ts"], trajectory["end"]["status"]) == (moment(ended_at), "error")
    assert trajectory["last_events"][-1]["type"] == "session.ended"


def test_the_oldest_comes_first(world: World, serve: Serve) -> None:
    for name, ago in (("b", 500), ("a", 900), ("d", 200), ("c", 400)):
        add_row(world, f"agent:main:{name}", name, started_ago=1_000, events=(("session.ended", ago, FAILED),))
    items = serve(auto_repair=False).http.get("/sessions/stuck").json()["items"]
    assert [item["session_id"] for item in items] == ["a", "b", "c", "d"]


def test_two_services_in_one_process_do_not_answer_for_each_other(world: World, serve: Serve) -> None:
    world.stuck()
    first = serve(auto_repair=False)
    assert first.http.get("/sessions/stuck").json()["count"] == 1
    (world.folder / "other").mkdir()
    second = serve(auto_repair=False, state_dir=(str(world.folder / "other"),))
    assert second.http.get("/sessions/stuck").json()["count"] == 0


@pytest.mark.parametrize("word", ["ending", "orphaned", "silent", "never_started", "unprovable"])
def test_include_adds_what_is_asked_for(each: Served, word: str) -> None:
    assert sorted(verdicts(each, word)) == sorted(["stuck", word])


def test_include_takes_several_words_and_nothing_more_than_stuck_without_one(each: Served) -> None:
    assert verdicts(each) == ["stuck"]
    everything = verdicts(each, "ending, orphaned,silent,never_started,unprovable")
    assert everything == ["orphaned", "silent", "unprovable", "stuck", "never_started", "ending"], "the oldest first"


@pytest.mark.parametrize("word", ["settled", "working", "everything", "stuck,nonsense", "\udcff", "a" * 300])
def test_an_unknown_word_in_include_is_422(each: Served, word: str) -> None:
    answer = each.http.get("/sessions/stuck?include=" + quote(word, errors="surrogateescape"))
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid")


def test_every_row_is_listed_with_its_verdict(world: World, each: Served) -> None:
    world.write_store(b"[]", agent="beta")
    each.look()
    body = each.http.get("/sessions").json()

    found = {item["session_key"]: item["verdict"] for item in body["items"]}
    child = found.pop("agent:main:child")
    assert found == {key: key.removeprefix("agent:main:") for key in found}
    assert (len(found), child, body["count"]) == (10, "working", 11)
    (problem,) = body["problems"]
    assert problem["store"] == str(world.store("beta"))
    assert (problem["state_dir"], problem["code"]) == (str(world.state), "not_an_object")


@pytest.mark.parametrize(
    "key",
    ["agent:main:telegram:group:-100", "agent:main:a/b/repair", "agent:main:100% sure?#1", "agent:main:žába 🐸",
     "agent:main:../up", "stuck/repair"],
)  # fmt: skip
def test_a_session_is_found_by_its_id_and_by_its_percent_encoded_key(world: World, serve: Serve, key: str) -> None:
    add_row(world, key, "its-id", started_ago=1_000, events=(("session.ended", 900, FAILED),))
    server = serve(auto_repair=False)
    for name in ("its-id", quote(key, safe="")):
        found = server.http.get(f"/sessions/{name}")
        assert (found.status_code, found.json().get("session_key")) == (200, key)
        assert found.json()["evidence"]["trajectories"], "one session comes with all its evidence"
        planned = server.repair(name, dry_run=True)
        assert (planned.status_code, planned.json().get("session_key")) == (200, key)


def test_an_id_that_nobody_has_is_404(each: Served) -> None:
    for answer in (each.http.get("/sessions/nobody"), each.repair("nobody")):
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not_found")


def test_an_id_that_two_rows_answer_to_is_409_and_both_are_named(world: World, serve: Serve) -> None:
    for key in ("agent:main:one", "agent:main:two"):
        add_row(world, key, "shared-id", started_ago=1_000)
    before = world.store().read_bytes()
    server = serve()
    for answer in (
        server.http.get("/sessions/shared-id"),
        server.repair("shared-id", force=True, target_status="done"),
    ):
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/ambiguous")
        assert {c["session_key"] for c in answer.json()["candidates"]} == {"agent:main:one", "agent:main:two"}
    assert world.store().read_bytes() == before
    assert server.http.get("/sessions/agent:main:one").status_code == 200


def test_the_service_itself_settles_a_stuck_session_and_says_so(world: World, serve: Serve) -> None:
    ended_at = world.stuck()
    server = serve()
    world.clock.advance(121)
    server.look()

    assert server.http.get("/sessions/stuck").json()["count"] == 0
    row = server.http.get(f"/sessions/{STUCK_SESSION_ID}").json()
    assert (row["verdict"], row["status"], row["ended_at"]) == ("settled", "failed", moment(ended_at))
    (repair,) = server.http.get("/repairs").json()["items"]
    assert (repair["outcome"], repair["trigger"]) == ("applied", "scheduler")


def test_orphans_need_a_gateway_that_is_known_to_be_gone(world: World, serve: Serve) -> None:
    world.recording("sigterm-orphans")
    world.gateway = ABSENT
    server = serve()
    assert set(verdicts(server, "orphaned")) == {"orphaned"}


def test_the_folder_is_free_again_after_every_answer(world: World, serve: Serve) -> None:
    world.stuck()
    server = serve(auto_repair=False)
    server.repair(STUCK_SESSION_ID, dry_run=True)
    fd = os.open(world.sessions(), os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
