"""From what a request shows to who asks, and the scope that a call demands of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeAlias

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from app.api.problems import Problem
from app.domain.caller import INSTALLATION, NOBODY, Caller, Scope

WayIn: TypeAlias = Callable[[HTTPConnection], Caller | None]
"""One way to show who asks; None when the request does not take it, or shows what is not known. Answers from memory."""


def caller_of(connection: HTTPConnection, ways: tuple[WayIn, ...]) -> Caller:
    """Who asks, by the first of `ways` that knows them; NOBODY when none does."""
    for way in ways:
        caller = way(connection)
        if caller is not None:
            return caller
    return NOBODY


def everybody(_: HTTPConnection) -> Caller:
    """The way in where CLAWMEND_AUTH is off."""
    return INSTALLATION


def demand(scope: Scope) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency: the caller, who has `scope`. Raises Problem (`forbidden`)."""

    async def caller(request: Request) -> Caller:
        asking: Caller = request.state.caller
        require(asking, scope)
        return asking

    return caller


def require(caller: Caller, scope: Scope) -> None:
    """Raises Problem (`forbidden`) when `caller` has not `scope`."""
    if not caller.may(scope):
        raise Problem(
            "forbidden",
            f"this needs the scope {scope}, which the token of {caller.name} has not",
            headers={"www-authenticate": f'Bearer realm="clawmend", error="insufficient_scope", scope="{scope}"'},
            scope=scope,
        )


Repairer = Annotated[Caller, Depends(demand(Scope.REPAIR))]
