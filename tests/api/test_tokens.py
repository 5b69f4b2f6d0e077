"""Named tokens at the API: what each scope opens, whose name the audit gets, and that a revoked one is out."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from app.audit.log import AuditLog
from app.audit.tokens import add_token, all_tokens, revoke_token
from app.domain.caller import Scope
from app.reconcile.reconciler import Reconciler
from tests.api.conftest import TOKEN, Serve, Served, one_of_each, wait_until
from tests.api.test_auth import every_call, store_bytes
from tests.command import Clawmend
from tests.world import STUCK_SESSION_ID, World

DAY = 86_400_000


@pytest.fixture
def reconciler(world: World, serve: Serve) -> Reconciler:
    return world.reconciler(auto_repair=False, scan_interval_seconds=3_600)


@pytest.fixture
def audit(reconciler: Reconciler) -> AuditLog:
    return reconciler.audit


def a_token(world: World, audit: AuditLog, name: str, scope: Scope, expires_in: int | None = None) -> dict[str, str]:
    """Made on the command line, as it were; the headers of who shows it."""
    now = world.clock.now()
    expires_at = None if expires_in is None else now + expires_in
    shown, _ = add_token(audit, name, scope, now=now, by="anna", expires_at=expires_at)
    return {"authorization": f"Bearer {shown}"}


def post(server: Served, path: str, headers: dict[str, str], **wish: Any) -> httpx.Response:
    return server.bare.post(path, headers=headers, json=wish)


@pytest.mark.parametrize(
    ("scope", "settles", "forces"), [(Scope.READ, 403, 403), (Scope.REPAIR, 200, 403), (Scope.ADMIN, 200, 200)]
)
def test_each_scope_opens_its_calls_and_those_of_the_lower_ones(
    world: World, serve: Serve, reconciler: Reconciler, scope: Scope, settles: int, forces: int
) -> None:
    one_of_each(world)
    holder = a_token(world, reconciler.audit, "holder", scope)
    server = serve(reconciler)
    for path in ("/sessions", "/sessions/stuck", "/sessions/id-stuck", "/repairs", "/openapi.json"):
        assert server.bare.get(path, headers=holder).status_code == 200, path
    with server.bare.stream("GET", "/events", headers=holder) as events:
        assert events.status_code == 200

    settled = post(server, "/sessions/id-stuck/repair", holder)
    forced = post(server, "/sessions/id-silent/repair", holder, force=True, target_status="killed")
    assert (settled.status_code, forced.status_code) == (settles, forces)
    done = [a for a in (settled, forced) if a.status_code == 200]
    assert [a.json()["actor"] for a in done] == ["holder"] * len(done)
    assert [a["actor"] for a in server.http.get("/repairs").json()["items"]] == ["holder"] * len(done)
    for refused in (a for a in (settled, forced) if a.status_code == 403):
        assert refused.json()["type"] == "/problems/forbidden"
    assert forced.status_code == 200 or forced.json()["scope"] == "admin" or scope is Scope.READ


def test_who_may_only_read_is_refused_by_every_call_that_is_not_a_reading_one(
    world: World, serve: Serve, reconciler: Reconciler
) -> None:
    world.stuck()
    holder = a_token(world, reconciler.audit, "rita", Scope.READ)
    server = serve(reconciler)
    before = store_bytes(server)
    calls = ((method, path) for _, method, path in every_call(server) if not path.startswith("/console/"))
    changing = [(method, path) for method, path in calls if method not in ("GET", "HEAD")]
    assert len(changing) >= 3, "a repair, its undo, the closing of the breaker"
    for method, path in changing:
        answer = server.bare.request(method, path, headers=holder, json={})
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden"), (method, path)
        assert answer.json()["scope"] in ("repair", "admin")
    assert store_bytes(server) == before


def test_an_undo_demands_repair_and_names_who_has_asked_for_it(
    world: World, serve: Serve, reconciler: Reconciler
) -> None:
    world.stuck()
    looks_on = a_token(world, reconciler.audit, "rita", Scope.READ)
    mends = a_token(world, reconciler.audit, "rob", Scope.REPAIR)
    server = serve(reconciler)
    done = server.repair(STUCK_SESSION_ID).json()
    assert post(server, f"/repairs/{done['id']}/undo", looks_on).json()["scope"] == "repair"
    assert post(server, f"/repairs/{done['id']}/undo", mends).json()["actor"] == "rob"
    assert [a["actor"] for a in server.http.get("/repairs").json()["items"]] == ["rob", "api"]


def test_a_token_that_is_revoked_by_another_process_is_out_within_seconds(
    world: World, serve: Serve, reconciler: Reconciler
) -> None:
    world.recording("success-done")
    server = serve(reconciler)
    run = Clawmend(world)
    holder = {"authorization": f"Bearer {run('token', 'add', 'ci').stdout.strip()}"}
    wait_until(lambda: server.bare.get("/sessions", headers=holder).status_code == 200, "the new token is taken")
    assert run("token", "revoke", "ci").returncode == 0
    wait_until(lambda: server.bare.get("/sessions", headers=holder).status_code == 401, "the revoked token is refused")
    assert server.http.get("/sessions").status_code == 200


def test_a_token_expires_at_its_moment_whenever_the_table_was_read(
    world: World, serve: Serve, reconciler: Reconciler
) -> None:
    world.recording("success-done")
    holder = a_token(world, reconciler.audit, "ci", Scope.READ, expires_in=DAY)
    server = serve(reconciler)
    assert server.bare.get("/sessions", headers=holder).status_code == 200
    world.clock.advance(DAY / 1000)
    assert server.bare.get("/sessions", headers=holder).status_code == 401


def test_what_the_audit_keeps_of_a_token_opens_nothing(world: World, serve: Serve, reconciler: Reconciler) -> None:
    world.recording("success-done")
    holder = a_token(world, reconciler.audit, "ci", Scope.ADMIN)
    server = serve(reconciler)
    (token,) = all_tokens(reconciler.audit)
    shown = holder["authorization"].removeprefix("Bearer ")
    for given in (token.sha256, token.id, token.name, shown[:-1], shown + "x", shown.removeprefix("clawmend_")):
        answer = server.bare.get("/sessions", headers={"authorization": f"Bearer {given}"})
        assert answer.status_code == 401, given


def test_the_last_use_is_told_to_five_minutes_and_not_written_at_each_call(
    world: World, serve: Serve, reconciler: Reconciler
) -> None:
    world.recording("success-done")
    audit = reconciler.audit
    used = a_token(world, audit, "used", Scope.READ)
    a_token(world, audit, "idle", Scope.READ)
    server = serve(reconciler)

    def last_used() -> dict[str, int | None]:
        return {t.name: t.last_used_at for t in all_tokens(audit) if t.name != "newer"}

    first = world.clock.now()
    server.bare.get("/sessions", headers=used)
    wait_until(lambda: last_used() == {"used": first, "idle": None}, "the first use is written down")
    world.clock.advance(299)
    server.bare.get("/sessions", headers=used)
    newer = a_token(world, audit, "newer", Scope.READ)
    wait_until(lambda: server.bare.get("/sessions", headers=newer).status_code == 200, "the table was read again")
    assert last_used()["used"] == first
    world.clock.advance(1)
    again = world.clock.now()
    server.bare.get("/sessions", headers=used)
    wait_until(lambda: last_used()["used"] == again, "the later use is written down")


def test_while_the_audit_is_gone_the_tokens_are_those_that_were_read_before(
    world: World, serve: Serve, reconciler: Reconciler
) -> None:
    world.recording("success-done")
    holder = a_token(world, reconciler.audit, "ci", Scope.READ)
    server = serve(reconciler)
    database = world.folder / "own" / "audit.db"
    database.rename(database.with_name("away"))
    server.look()
    assert server.bare.get("/health").status_code == 503
    assert server.bare.get("/sessions", headers=holder).status_code == 200
    database.with_name("away").rename(database)


def test_a_revoked_token_is_out_though_the_last_use_of_another_cannot_be_written_down(
    world: World, serve: Serve, reconciler: Reconciler
) -> None:
    world.recording("success-done")
    holder, other = (a_token(world, reconciler.audit, name, Scope.READ) for name in ("ci", "other"))
    with reconciler.audit.write() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER no_room BEFORE UPDATE OF last_used_at ON access_tokens "
            "BEGIN SELECT RAISE(ABORT, 'no room'); END"
        )
    server = serve(reconciler)
    assert server.bare.get("/sessions", headers=holder).status_code == 200
    revoke_token(reconciler.audit, "ci", now=world.clock.now(), by="anna")

    def answers() -> list[int]:
        return [server.bare.get("/sessions", headers=shown).status_code for shown in (other, holder)]

    wait_until(lambda: answers() == [200, 401], "the revoked token is refused, and the other is not")


def test_a_token_is_in_no_answer_and_in_no_line_of_the_log(
    world: World, serve: Serve, reconciler: Reconciler, caplog: pytest.LogCaptureFixture
) -> None:
    world.stuck()
    caplog.set_level("DEBUG")
    holder = a_token(world, reconciler.audit, "ci", Scope.READ)
    server = serve(reconciler)
    answers = [post(server, f"/sessions/{STUCK_SESSION_ID}/repair", holder), server.http.get("/repairs")]
    answers += [server.bare.get("/sessions", headers={"authorization": holder["authorization"] + "x"})]
    secret = holder["authorization"].removeprefix("Bearer ")
    for answer in answers:
        assert secret not in answer.text
    assert secret not in caplog.text
    assert TOKEN not in caplog.text
