"""What is asked for over and over, answered before the routes: to find and to call one costs more than such an answer.

The routes give the very same answers; whatever a shortcut does not take goes on to them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

Shortcut: TypeAlias = Callable[[Request], Awaitable[Response | None]]
"""None: it is the route's to answer."""


class Shortcuts:
    """Behind the gate: it knows who asks."""

    def __init__(self, app: ASGIApp, *, by_path: Mapping[str, Shortcut]) -> None:
        self._app = app
        self._by_path = by_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            shortcut = self._by_path.get(scope["path"])
            response = await shortcut(Request(scope)) if shortcut is not None else None
            if response is not None:
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)
