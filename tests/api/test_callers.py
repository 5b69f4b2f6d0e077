"""Who asks: more than one way to show it, the scope that a call demands, and the name that the audit gets."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.requests import HTTPConnection

from app.api import problems
from app.api.auth import Gate
from app.api.callers import Repairer
from app.api.headers import header_of, list_of
from app.domain.caller import INSTALLATION, Caller, Scope
from tests.api.conftest import Serve
from tests.world import STUCK_SESSION_ID, World

BADGES = {name: Caller(name, scope.all_in_it) for name, scope in (("rita", Scope.READ), ("rob", Scope.REPAIR))}


def by_badge(connection: HTTPConnection) -> Caller | None:
    return BADGES.get(connection.headers.get("x-badge", ""))


def by_key(connection: HTTPConnection) -> Caller | None:
    return INSTALLATION if connection.headers.get("x-key") == "the right one" else None


def behind_the_gate() -> FastAPI:
    """A call that is open, one that demands nothing, and one that demands a scope; two ways in."""
    app = FastAPI()
    problems.install(app)

    @app.get("/health")
    @app.get("/name")
    async def name(request: Request) -> str:
        return str(request.state.caller.name)

    @app.post("/mend")
    async def mend(caller: Repairer) -> str:
        return caller.name

    app.add_middleware(Gate, ways=(by_key, by_badge), allowed_hosts=())
    return app


def ask(method: str, path: str, **headers: str) -> httpx.Response:
    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(behind_the_gate())
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(call())


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"x-key": "the right one"}, "api"),
        ({"x-badge": "rita"}, "rita"),
        ({"x-badge": "rita", "x-key": "a wrong one"}, "rita"),
        ({"x-badge": "rita", "x-key": "the right one"}, "api"),
    ],
)
def test_each_way_in_leads_to_its_caller_and_the_first_that_knows_them_counts(
    headers: dict[str, str], name: str
) -> None:
    assert ask("GET", "/name", **headers).json() == name


def test_who_shows_nothing_is_nobody_where_it_is_open_and_refused_elsewhere() -> None:
    assert ask("GET", "/health").json() == "nobody"
    assert ask("GET", "/health", **{"x-badge": "rob"}).json() == "rob"
    assert ask("GET", "/name").status_code == 401
    assert ask("GET", "/name", **{"x-badge": "nobody"}).status_code == 401


def test_of_several_headers_of_one_name_the_first_counts_and_one_that_is_not_there_is_empty() -> None:
    sent = [(b"x-authorization", b"c"), (b"authorization", "Bearer é".encode("latin-1")), (b"authorization", b"b")]
    connection = HTTPConnection({"type": "http", "headers": sent})
    assert header_of(connection, b"authorization") == "Bearer é"
    assert header_of(connection, b"accept") == ""


def test_a_list_that_is_parted_into_several_headers_is_one_list_and_an_empty_one_is_not_none() -> None:
    sent = [(b"if-match", b' "a"'), (b"x-if-match", b'"b"'), (b"if-match", '"é" '.encode("latin-1")), (b"if-none", b"")]
    connection = HTTPConnection({"type": "http", "headers": sent})
    assert list_of(connection, b"if-match") == '"a", "é"'
    assert list_of(connection, b"if-none") == ""
    assert list_of(connection, b"if-none-match") is None


def test_a_call_that_demands_a_scope_refuses_who_has_it_not_and_names_it() -> None:
    assert ask("POST", "/mend", **{"x-badge": "rob"}).json() == "rob"
    refused = ask("POST", "/mend", **{"x-badge": "rita"})
    problem: dict[str, Any] = refused.json()
    assert (refused.status_code, problem["type"], problem["scope"]) == (403, "/problems/forbidden", "repair")
    assert "repair" in problem["detail"]
    assert "rita" in problem["detail"]
    challenge = refused.headers["www-authenticate"]
    assert challenge == 'Bearer realm="clawmend", error="insufficient_scope", scope="repair"'


def test_the_audit_names_the_caller_of_a_repair_and_of_an_undo(world: World, serve: Serve) -> None:
    world.stuck()
    server = serve(auto_repair=False)
    done = server.repair(STUCK_SESSION_ID).json()
    undone = server.http.post(f"/repairs/{done['id']}/undo").json()
    assert [(a["kind"], a["actor"]) for a in (done, undone)] == [("settle", "api"), ("undo", "api")]
