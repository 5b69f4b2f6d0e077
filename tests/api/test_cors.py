"""Pages of other origins: only those that were named."""

from __future__ import annotations

import pytest

from tests.api.conftest import Serve
from tests.world import World

DASH = "https://dash.example"


def test_a_page_of_a_named_origin_may_ask_with_the_token_and_read_the_headers_it_needs(
    world: World, serve: Serve
) -> None:
    world.stuck()
    served = serve(auto_repair=False, cors_origins=(DASH,))
    asked = {"origin": DASH, "access-control-request-method": "GET"}
    asked["access-control-request-headers"] = "authorization,if-none-match,last-event-id,if-match,idempotency-key"
    before = served.bare.options("/sessions/stuck", headers=asked)
    assert before.status_code == 200, "a browser asks without the token"
    assert before.headers["access-control-allow-origin"] == DASH
    assert "access-control-allow-credentials" not in before.headers

    answer = served.http.get("/sessions/stuck", headers={"origin": DASH})
    assert answer.headers["access-control-allow-origin"] == DASH
    exposed = set(answer.headers["access-control-expose-headers"].lower().replace(" ", "").split(","))
    assert exposed >= {"etag", "x-stuck-count", "idempotency-replayed", "retry-after"}


def test_the_refusal_of_the_gate_can_be_read_by_a_named_origin_too(world: World, serve: Serve) -> None:
    world.stuck()
    refused = serve(auto_repair=False, cors_origins=(DASH,)).bare.get("/sessions/stuck", headers={"origin": DASH})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, DASH)


@pytest.mark.parametrize("named", [(), (DASH,)])
def test_no_other_origin_is_let_in(world: World, serve: Serve, named: tuple[str, ...]) -> None:
    world.stuck()
    served = serve(auto_repair=False, cors_origins=named)
    for origin in ("https://evil.example", "http://dash.example", f"{DASH}.evil.example", "null"):
        asked = {"origin": origin, "access-control-request-method": "POST"}
        before = served.bare.options("/sessions/x/repair", headers=asked)
        assert before.status_code in (400, 401)
        assert "access-control-allow-origin" not in before.headers
        assert "access-control-allow-origin" not in served.http.get("/sessions", headers={"origin": origin}).headers


@pytest.mark.parametrize("path", ["/health", "/sessions/stuck"])
def test_what_a_named_origin_was_told_is_not_in_the_answer_to_another(world: World, serve: Serve, path: str) -> None:
    """The same answer is given to many: what is put on it for one stays with that one."""
    world.stuck()
    served = serve(auto_repair=False, cors_origins=(DASH,))
    before = {*served.http.get(path).headers}
    for _ in range(2):
        assert served.http.get(path, headers={"origin": DASH}).headers["access-control-allow-origin"] == DASH
        assert {*served.http.get(path).headers} == before
