"""Who may ask: who they are, the Host header, the size of a body. Pure ASGI, before any route."""

from __future__ import annotations

import os
import secrets
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.callers import WayIn, caller_of
from app.api.logins import origin_of
from app.api.problems import MEDIA_TYPE, problem_body
from app.domain.caller import NOBODY

OPEN_PATHS = ("/", "/console/login", "/health", "/livez", "/metrics", "/readyz")
OPEN_PREFIXES = ("/console/static/", "/problems/")
_CONSOLE = "/console/"
_READING = ("GET", "HEAD", "OPTIONS")
BODY_LIMIT = 64 << 10
_NOTHING_SHOWN = "this call needs a bearer token"
_CHALLENGE = b'Bearer realm="clawmend"'
_WRONG = b', error="invalid_token"'
"""RFC 6750, section 3.1: who shows nothing is not told of an error."""
_LONGEST_HOST = 300
"""More than any name with a port has: what is longer is not remembered either."""
_HOSTS_REMEMBERED = 64


def load_or_make_token(path: Path) -> tuple[str, bool]:
    """The token in `path`, made on first use (0600); True when it was made now. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = not os.path.lexists(path) and _made(path)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, encoding="ascii", errors="replace") as file:
        token = file.read(4096).strip()
    if len(token) < 16 or not token.isascii():
        raise OSError(f"{path} holds no token; delete it to have a new one made") from None
    return token, made


def _made(path: Path) -> bool:
    """Put a new token at `path`, whole from the first instant; False when another has put one there meanwhile."""
    beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        os.link(beside, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(beside)
    return True


class Gate:
    """Refuses foreign hosts (a rebound name), pages of other origins, who is not known, and oversized bodies.

    Routes find who asks in `request.state.caller`: on an open path that may be NOBODY.
    """

    def __init__(
        self, app: ASGIApp, *, ways: tuple[WayIn, ...], allowed_hosts: tuple[str, ...], origins: tuple[str, ...] = ()
    ) -> None:
        """`origins`: of the pages that may do more than read, beside our own."""
        self._app = app
        self._ways = ways
        self._origins = origins
        self._hosts = frozenset({"localhost", *(host.lower() for host in allowed_hosts)})
        self._serves = lru_cache(maxsize=_HOSTS_REMEMBERED)(self._allows)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # there is none; one would need the checks below
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"")
        if len(host) > _LONGEST_HOST or not self._serves(host):
            await _refuse(send, "forbidden_host", "the Host header names a host that is not served here")
            return
        path = scope["path"]
        connection = HTTPConnection(scope)
        if self._is_foreign(connection):
            await _refuse(send, "foreign_origin", "the browser says that a page of another origin asks for it")
            return
        caller = caller_of(connection, self._ways)
        if caller is NOBODY and path not in OPEN_PATHS and not path.startswith(OPEN_PREFIXES):
            shown = b"authorization" in headers
            detail = "the token is not known here: it is wrong, revoked or expired" if shown else _NOTHING_SHOWN
            await _refuse(send, "unauthorized", detail, challenge=_CHALLENGE + (_WRONG if shown else b""))
            return
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > BODY_LIMIT:
            await _refuse(send, "too_large", f"a body may have {BODY_LIMIT} bytes")
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, _bounded(receive), send)

    def _is_foreign(self, connection: HTTPConnection) -> bool:
        """A page of another origin that asks for more than to read: where no token is asked for, its user's browser
        would be let in. The console's forms have a check of their own.
        """
        if connection.scope["method"] in _READING or connection.scope["path"].startswith(_CONSOLE):
            return False
        origin = connection.headers.get("origin", "").lower()
        if not origin:
            return False
        return origin not in self._origins and origin_of(connection) is None

    def _allows(self, shown: bytes) -> bool:
        """An address cannot be rebound, so every address is served; of names only those that were named."""
        host = shown.decode("latin-1")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
        name = name.strip("[]").lower()
        if name in self._hosts:
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True


def _bounded(receive: Receive) -> Receive:
    """Refuse a body that grows beyond the limit without having said so."""
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > BODY_LIMIT:
                raise HTTPException(413, f"a body may have {BODY_LIMIT} bytes")
        return message

    return bounded


async def _refuse(send: Send, code: str, detail: str, *, challenge: bytes = b"") -> None:
    status, body = problem_body(code, detail)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    if challenge:
        headers.append((b"www-authenticate", challenge))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
