"""What the API says of a session whose row lives in a database."""

from __future__ import annotations

from app.openclaw.paths import DATABASE_NAME
from tests.api.conftest import Serve
from tests.databases import LOCKED_OUT, recorded
from tests.stuck_rows import stuck
from tests.world import ABSENT, World


def test_where_nobody_may_write_the_api_says_why_and_answers_a_repair_with_409(world: World, serve: Serve) -> None:
    recorded(world)
    server = serve()
    (item,) = server.http.get("/sessions/stuck").json()["items"]
    assert (item["session_key"], item["verdict"], item["due_at"]) == (LOCKED_OUT, "stuck", None)
    assert "gateway_unsure" in item["unwritable"]
    (trail,) = item["evidence"]["trajectories"]
    assert trail["path"].endswith(DATABASE_NAME)
    answer = server.http.post(f"/sessions/{item['session_id']}/repair", json={"reason": "a test"})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/store_unfit")
    assert server.http.get("/repairs").json()["items"] == []


def test_where_no_gateway_runs_a_repair_over_the_api_settles_it_and_its_undo_gives_it_back(
    world: World, serve: Serve
) -> None:
    row = stuck(world)
    world.gateway = ABSENT
    before = row.node()
    server = serve(auto_repair=False)
    (item,) = server.http.get("/sessions/stuck").json()["items"]
    assert item["unwritable"] is None
    repair = server.repair(item["session_id"], reason="a test").json()
    assert (repair["outcome"], repair["hand"], repair["mode"]) == ("applied", "database", None)
    assert row.database.entry()["status"] == "failed"
    undo = server.http.post(f"/repairs/{repair['id']}/undo", json={"reason": "a test"}).json()
    assert (undo["outcome"], undo["hand"], row.node()) == ("applied", "database", before)
