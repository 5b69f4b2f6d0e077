"""What is asked for over and over is answered before the routes: as they answer it, and never what was before."""

from __future__ import annotations

import httpx
import pytest

from tests.api.conftest import FAILED, Serve, Served, add_row
from tests.world import World

NOT_THE_SAME = {"date"}
LISTS = ["/sessions", "/sessions/stuck", "/sessions/stuck?include=ending&limit=1"]


@pytest.fixture
def served(world: World, serve: Serve) -> Served:
    for number, name in enumerate("ab"):
        events = (("session.ended", 900 - 100 * number, FAILED),)
        add_row(world, f"agent:main:{name}", name, started_ago=1_000, events=events)
    return serve(auto_repair=False)


def told(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    return answer.status_code, answer.content, {n: v for n, v in answer.headers.items() if n not in NOT_THE_SAME}


@pytest.mark.parametrize("path", LISTS)
def test_a_list_that_is_asked_for_again_is_answered_as_the_first_time(served: Served, path: str) -> None:
    first, again = served.http.get(path), served.http.get(path)
    assert told(first) == told(again)
    assert first.status_code == 200
    head = served.http.head(path)
    assert (head.status_code, head.headers["etag"]) == (200, first.headers["etag"])
    known = served.http.get(path, headers={"if-none-match": first.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")


def test_other_words_are_another_list(served: Served) -> None:
    counted = {path: len(served.http.get(path).json()["items"]) for path in (*LISTS, *LISTS)}
    assert [*counted.values()] == [2, 2, 1]
    assert served.http.get("/sessions/stuck?limit=0").status_code == 422
    assert served.http.get("/sessions/stuck?limit=0").status_code == 422


@pytest.mark.parametrize("path", LISTS)
def test_who_has_it_and_who_has_it_not_are_told_apart_though_the_same_answers_are_given_to_all(
    served: Served, path: str
) -> None:
    whole = served.http.get(path)
    had = {"if-none-match": whole.headers["etag"]}
    for _ in range(2):
        known = served.http.get(path, headers=had)
        assert (known.status_code, known.content) == (304, b"")
        assert {n: known.headers.get(n) for n in ("etag", "cache-control", "x-stuck-count")} == {
            n: whole.headers.get(n) for n in ("etag", "cache-control", "x-stuck-count")
        }
        assert told(served.http.get(path)) == told(whole)


@pytest.mark.parametrize("path", LISTS)
def test_behind_a_pass_a_list_is_told_anew(served: Served, world: World, path: str) -> None:
    before = served.http.get(path).json()
    world.edit_row("agent:main:a", status="done", abortedLastRun=False)
    served.look()
    after = served.http.get(path).json()
    assert after["scan"]["number"] > before["scan"]["number"]
    assert after["items"] != before["items"]


@pytest.mark.parametrize("path", LISTS)
def test_who_shows_no_token_gets_no_list_that_another_has_asked_for(served: Served, path: str) -> None:
    assert served.http.get(path).status_code == 200
    assert served.bare.get(path).status_code == 401


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/sessions", "/sessions/stuck"])
def test_a_method_that_does_not_fit_is_refused_as_ever(served: Served, path: str) -> None:
    answer = served.http.put(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
