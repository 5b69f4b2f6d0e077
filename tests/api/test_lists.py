"""What a dashboard polls: tags that say whether anything changed, filters, pages."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.api.conftest import FAILED, Serve, Served, add_row
from tests.world import STUCK_KEY, World

LISTS = ["/sessions", "/sessions/stuck"]


def tag(served: Served, path: str, **params: Any) -> str:
    answer = served.http.get(path, params=params)
    assert answer.status_code == 200
    return answer.headers["etag"]


def five(world: World, serve: Serve) -> Served:
    """Stuck ones `a` (the oldest) to `d` of two agents, and `e`, which is settled."""
    for number, name in enumerate("abcd"):
        ended = (("session.ended", 900 - 100 * number, FAILED),)
        agent = "main" if name in "ac" else "work"
        add_row(world, f"agent:{agent}:{name}", name, started_ago=1_000, events=ended)
    add_row(world, "agent:main:e", "e", started_ago=20, status="done")
    rows = world.rows()
    for key in ("agent:work:b", "agent:work:d"):
        moved = rows.pop(key)
        world.write_store(json.dumps({**world_rows(world, "work"), key: moved}).encode(), "work")
        world.trajectory(moved["sessionId"]).rename(world.trajectory(moved["sessionId"], "work"))
    world.write_store(json.dumps(rows).encode())
    return serve(auto_repair=False)


def world_rows(world: World, agent: str) -> dict[str, Any]:
    return world.rows(agent) if world.store(agent).exists() else {}


def ids(served: Served, path: str, **params: Any) -> list[str]:
    answer = served.http.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return [item["session_id"] for item in answer.json()["items"]]


@pytest.mark.parametrize("path", LISTS)
def test_the_tag_stays_while_only_the_clock_goes_on(world: World, serve: Serve, path: str) -> None:
    world.stuck()
    served = serve(auto_repair=False)
    before = tag(served, path)
    world.clock.advance(7)
    served.look()
    assert tag(served, path) == before
    answer = served.http.get(path, headers={"if-none-match": before})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", before)
    assert served.http.get(path).json()["scan"]["number"] == served.reconciler.report.number


@pytest.mark.parametrize("path", LISTS)
def test_the_tag_changes_when_a_session_is_settled(world: World, serve: Serve, path: str) -> None:
    world.stuck()
    served = serve(auto_repair=False)
    before = tag(served, path)
    assert served.repair(STUCK_KEY.replace(":", "%3A")).status_code == 200
    after = served.http.get(path, headers={"if-none-match": before})
    assert (after.status_code, after.headers["etag"] != before) == (200, True)


def test_the_tag_of_the_stuck_ones_changes_when_one_falls_due(world: World, serve: Serve) -> None:
    """Its `due_at` is content, and so is an undo that holds it."""
    world.stuck()
    served = serve(auto_repair=False)
    before = tag(served, "/sessions/stuck")
    made = served.repair(STUCK_KEY.replace(":", "%3A")).json()
    assert served.http.post(f"/repairs/{made['id']}/undo").status_code == 200
    assert tag(served, "/sessions/stuck") != before


def test_a_store_that_cannot_be_read_changes_the_tag_of_the_whole_list(world: World, serve: Serve) -> None:
    world.stuck()
    served = serve(auto_repair=False)
    before = tag(served, "/sessions")
    world.write_store(b"{", agent="broken")
    served.look()
    assert tag(served, "/sessions") != before


@pytest.mark.parametrize("had", ['"no such"', "", 'W/"0"'])
def test_who_has_something_else_gets_the_list(world: World, serve: Serve, had: str) -> None:
    world.stuck()
    answer = serve(auto_repair=False).http.get("/sessions/stuck", headers={"if-none-match": had})
    assert (answer.status_code, answer.json()["count"]) == (200, 1)


@pytest.mark.parametrize("had", ["*", '"other", {weak}', "{weak}", "{strong}", '{strong}, "other"'])
def test_who_has_it_among_others_gets_304(world: World, serve: Serve, had: str) -> None:
    world.stuck()
    served = serve(auto_repair=False)
    weak = tag(served, "/sessions/stuck")
    had = had.format(weak=weak, strong=weak.removeprefix("W/"))
    assert served.http.get("/sessions/stuck", headers={"if-none-match": had}).status_code == 304


def test_who_has_it_may_say_so_in_one_of_several_headers(world: World, serve: Serve) -> None:
    world.stuck()
    served = serve(auto_repair=False)
    had = [("if-none-match", given) for given in ('"other"', tag(served, "/sessions/stuck"))]
    for headers in (had, had[::-1]):
        assert served.http.get("/sessions/stuck", headers=headers).status_code == 304
    assert served.http.get("/sessions/stuck", headers=had[:1]).status_code == 200


@pytest.mark.parametrize("path", LISTS)
def test_head_gives_the_headers_of_get_and_no_body(world: World, serve: Serve, path: str) -> None:
    served = five(world, serve)
    head, get = served.http.head(path), served.http.get(path)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", get.headers["etag"])
    assert head.headers["content-length"] == str(len(get.content))
    assert head.headers.get("x-stuck-count") == ("4" if path.endswith("stuck") else None)


def test_the_count_of_the_stuck_ones_does_not_depend_on_the_filter(world: World, serve: Serve) -> None:
    answer = five(world, serve).http.get("/sessions/stuck", params={"agent": "work", "limit": 1, "include": "ending"})
    assert (answer.headers["x-stuck-count"], answer.json()["count"], len(answer.json()["items"])) == ("4", 2, 1)


def test_filters_leave_what_was_asked_for(world: World, serve: Serve) -> None:
    served = five(world, serve)
    assert ids(served, "/sessions/stuck", agent="work") == ["b", "d"]
    assert ids(served, "/sessions/stuck", min_age=800) == ["a", "b"]
    assert ids(served, "/sessions/stuck", min_age=700, agent="main") == ["a", "c"]
    assert ids(served, "/sessions", verdict="stuck", agent="main") == ["a", "c"]
    assert ids(served, "/sessions", verdict="working,settled") == ["e"]
    assert ids(served, "/sessions", agent="nobody") == []


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
def test_the_pages_together_are_the_list(world: World, serve: Serve, path: str, size: int) -> None:
    served = five(world, serve)
    whole, seen, cursor = ids(served, path), [], None
    while True:
        body = served.http.get(path, params={"limit": size, **({"cursor": cursor} if cursor else {})}).json()
        assert body["count"] == len(whole)
        assert 0 < len(body["items"]) <= size
        seen += [item["session_id"] for item in body["items"]]
        cursor = body["next"]
        if cursor is None:
            break
    assert seen == whole


def test_the_next_page_comes_though_the_last_one_of_the_page_before_is_gone(world: World, serve: Serve) -> None:
    served = five(world, serve)
    first = served.http.get("/sessions/stuck", params={"limit": 2}).json()
    assert [item["session_id"] for item in first["items"]] == ["a", "b"]
    assert served.repair("b").status_code == 200
    assert ids(served, "/sessions/stuck", cursor=first["next"]) == ["c", "d"]


@pytest.mark.parametrize(
    "params",
    [
        {"cursor": "nonsense"},
        {"cursor": base64.urlsafe_b64encode(json.dumps(["a", 1, 2]).encode()).decode()},
        {"cursor": base64.urlsafe_b64encode(b"[[[[").decode()},
        {"cursor": "é"},
        {"limit": 0},
        {"limit": "many"},
        {"min_age": -1},
        {"min_age": "nan"},
        {"verdict": "stuk"},
        {"agents": "main"},
    ],
)
def test_what_cannot_be_understood_is_refused_and_not_ignored(
    world: World, serve: Serve, params: dict[str, Any]
) -> None:
    world.stuck()
    answer = serve(auto_repair=False).http.get("/sessions", params=params)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid")


def test_asking_again_and_again_for_other_things_costs_a_bounded_memory(world: World, serve: Serve) -> None:
    served = five(world, serve)
    for age in range(100):
        assert served.http.get("/sessions", params={"min_age": age}).status_code == 200
    lists = served.app.state.lists
    assert len(lists._made) <= 32
    assert len(lists._said[1]) <= 32


@pytest.mark.parametrize("path", LISTS)
def test_the_tag_stays_though_the_two_clocks_are_not_read_in_one_instant(world: World, serve: Serve, path: str) -> None:
    """`due_at` is reckoned by both: what parts their readings is no news."""
    world.stuck()
    served = serve(auto_repair=False)
    before = tag(served, path)
    for parted in (0.002, -0.003, 0.001):
        world.clock.advance(5)
        world.clock.jump(parted)
        served.look()
        assert tag(served, path) == before


def test_the_tag_changes_when_the_clock_is_set_since_it_falls_due_at_another_time(world: World, serve: Serve) -> None:
    world.stuck()
    served = serve(auto_repair=False)
    before = tag(served, "/sessions/stuck")
    world.clock.jump(60)
    served.look()
    assert tag(served, "/sessions/stuck") != before


def test_the_tag_changes_when_somebody_else_comes_to_work_though_nothing_falls_due_by_itself(
    world: World, serve: Serve
) -> None:
    ended = (("session.ended", 900, {"status": "success"}),)
    add_row(world, "agent:main:subagent:a", "a", started_ago=1_000, events=ended)
    served = serve(auto_repair=False)
    (item,) = served.http.get("/sessions/stuck").json()["items"]
    assert (item["due_at"], item["evidence"]["calm_seconds"]) == (None, 0)
    before = tag(served, "/sessions/stuck")
    add_row(world, "agent:main:b", "b", started_ago=5, events=(("session.started", 5),))
    served.look()
    (item,) = served.http.get("/sessions/stuck").json()["items"]
    assert item["evidence"]["calm_seconds"] is None
    assert tag(served, "/sessions/stuck") != before


def test_the_tag_of_the_whole_list_changes_with_what_a_session_was_last_heard_of(world: World, serve: Serve) -> None:
    """Its verdict stays; its `reason` names the last event."""
    add_row(world, "agent:main:a", "a", started_ago=60, events=(("session.started", 60),))
    served = serve(auto_repair=False)
    before = tag(served, "/sessions")
    world.append(world.event("prompt.submitted", world.clock.now(), sessionId="a"), session_id="a")
    served.look()
    assert "prompt.submitted" in served.http.get("/sessions").json()["items"][0]["reason"]
    assert tag(served, "/sessions") != before
