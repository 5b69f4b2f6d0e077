"""What goes wrong, told to a person: the API's own problems (app.api.problems), as HTML."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from inspect import isawaitable
from typing import Any

import orjson
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from app.web.pages import page


class ConsoleRoute(APIRoute):
    """A route whose errors are answered as a part of the page; htmx puts it where the page says what came of an act."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:
                problem = await _problem_of(request, error)
                if problem is None:
                    raise
                return problem

        return told


async def _problem_of(request: Request, error: Exception) -> Response | None:
    """None for what the application does not expect: the server logs it, and says so."""
    handlers: dict[Any, Callable[..., Any]] = request.app.exception_handlers
    kind = next((k for k in type(error).__mro__ if k in handlers and k is not Exception), None)
    if kind is None:
        return None
    answer = handlers[kind](request, error)
    answer = await answer if isawaitable(answer) else answer
    told = orjson.loads(answer.body)
    kept = {k: v for k, v in answer.headers.items() if k in ("retry-after", "www-authenticate")}
    where = {"hx-retarget": ".said", "hx-reswap": "innerHTML"}  # not where the act's own answer would have gone
    return page("_problem.html", answer.status_code, {**kept, **where}, problem=told)
