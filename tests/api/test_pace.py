"""How many repairs one caller may ask for, and what is said to who asks for more."""

from __future__ import annotations

from app.audit.tokens import add_token
from app.domain.caller import Scope
from tests.api.conftest import SELDOM, Serve, Served
from tests.world import STUCK_SESSION_ID, World

PATH = f"/sessions/{STUCK_SESSION_ID}/repair"


def limited(world: World, serve: Serve, **settings: object) -> tuple[Served, dict[str, str]]:
    """Two repairs per minute; and what another caller shows."""
    world.stuck()
    reconciler = world.reconciler(auto_repair=False, repairs_per_minute=2, **SELDOM)
    shown, _ = add_token(reconciler.audit, "other", Scope.REPAIR, now=world.clock.now(), by="anna")
    return serve(reconciler), {"authorization": f"Bearer {shown}"}


def test_who_asks_for_more_is_told_when_to_come_back_and_gets_it_then(world: World, serve: Serve) -> None:
    server, _ = limited(world, serve)
    done = server.repair(STUCK_SESSION_ID)
    undone = server.http.post(f"/repairs/{done.json()['id']}/undo")
    assert (done.status_code, undone.status_code) == (200, 200)

    refused = server.repair(STUCK_SESSION_ID)
    assert refused.status_code == 429
    assert refused.json()["type"] == "/problems/too_many"
    wait = int(refused.headers["retry-after"])
    assert 1 <= wait <= 30
    assert f"{wait} s" in refused.json()["detail"]
    assert world.row()["status"] == "running", "a refused one changes nothing"

    world.clock.advance(wait)
    assert server.repair(STUCK_SESSION_ID).json()["outcome"] == "applied"


def test_each_caller_is_counted_alone(world: World, serve: Serve) -> None:
    server, other = limited(world, serve)
    done = server.repair(STUCK_SESSION_ID).json()
    assert server.http.post(f"/repairs/{done['id']}/undo").status_code == 200
    assert server.repair(STUCK_SESSION_ID).status_code == 429
    assert server.bare.post(PATH, headers=other).status_code == 200


def test_dry_runs_and_what_is_not_understood_do_not_count(world: World, serve: Serve) -> None:
    server, _ = limited(world, serve)
    for _ in range(5):
        assert server.repair(STUCK_SESSION_ID, dry_run=True).status_code == 200
        assert server.repair(STUCK_SESSION_ID, force=True).status_code == 422
        assert server.repair("no-such-session").status_code == 404
    assert server.repair(STUCK_SESSION_ID).status_code == 200


def test_an_undo_is_counted_as_a_repair_is(world: World, serve: Serve) -> None:
    server, _ = limited(world, serve)
    done = server.repair(STUCK_SESSION_ID).json()
    undo = f"/repairs/{done['id']}/undo"
    assert server.http.post(undo, json={"dry_run": True}).status_code == 200
    assert [server.http.post(undo).status_code for _ in range(2)] == [200, 429]
