"""What the API says of a session whose row lives in a database."""

from __future__ import annotations

from app.openclaw.paths import DATABASE_NAME
from tests.api.conftest import Serve
from tests.databases import LOCKED_OUT, recorded
from tests.world import World


def test_the_api_shows_it_and_answers_a_repair_with_409(world: World, serve: Serve) -> None:
    recorded(world)
    server = serve()
    (item,) = server.http.get("/sessions/stuck").json()["items"]
    assert (item["session_key"], item["verdict"], item["due_at"]) == (LOCKED_OUT, "stuck", None)
    assert "does not write" in item["unwritable"]
    (trail,) = item["evidence"]["trajectories"]
    assert trail["path"].endswith(DATABASE_NAME)
    answer = server.http.post(f"/sessions/{item['session_id']}/repair", json={"reason": "a test"})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/store_unfit")
    assert server.http.get("/repairs").json()["items"] == []
