"""Who has logged in from a browser: a cookie that stands for the token that was shown (docs/decisions/0019)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response

from app.api.callers import WayIn, caller_of
from app.clock import Clock
from app.domain.caller import NOBODY, Caller

LIFE_SECONDS = 12 * 3_600
_MOST = 1_000
"""As many logins are known at a time; the oldest makes room."""
_PAGE = "/"
_BELOW = "/console/"


@dataclass(frozen=True, slots=True)
class _Login:
    token: str = field(repr=False)
    """Asked again with every request: a token that is revoked ends its logins."""
    until: float
    """By the monotonic clock."""


class Logins:
    """The way in for the paths of the console, by its cookie, and for no others. Lives on the event loop; a start of
    Clawmend ends all logins.
    """

    def __init__(self, clock: Clock, ways: tuple[WayIn, ...]) -> None:
        """`ways`: those by which a token is shown."""
        self._clock = clock
        self._ways = ways
        self._logins: OrderedDict[bytes, _Login] = OrderedDict()
        self._key = secrets.token_bytes(32)

    def __call__(self, connection: HTTPConnection) -> Caller | None:
        path = connection.scope["path"]
        login = self._login(connection) if path == _PAGE or path.startswith(_BELOW) else None
        return self._who(login.token) if login else None

    def open(self, connection: HTTPConnection, token: str, response: Response) -> bool:
        """Log in with `token`: `response` gets the cookie. False when the token is not known."""
        if self._who(token) is None:
            return False
        self.close(connection)
        secret = secrets.token_urlsafe(32)
        self._logins[_digest(secret)] = _Login(token, self._clock.monotonic() + LIFE_SECONDS)
        if len(self._logins) > _MOST:
            self._logins.popitem(last=False)
        secure = (origin_of(connection) or "").startswith("https://")
        name = _cookie_name(connection, secure=secure)
        response.set_cookie(name, secret, LIFE_SECONDS, path="/", secure=secure, httponly=True, samesite="strict")
        return True

    def close(self, connection: HTTPConnection) -> None:
        """Log out; without a login, nothing."""
        secret = _secret(connection)
        if secret:
            self._logins.pop(_digest(secret), None)

    def forget_in(self, connection: HTTPConnection, response: Response) -> None:
        """Have the browser throw its cookie away."""
        for secure in (True, False):
            name = _cookie_name(connection, secure=secure)
            if name in connection.cookies:
                response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="strict")

    def proof(self, connection: HTTPConnection) -> str:
        """What a form of this login carries, and a page of another origin cannot know."""
        secret = _secret(connection) if self._login(connection) else ""
        return hmac.new(self._key, secret.encode(), "sha256").hexdigest()

    def proven(self, connection: HTTPConnection, given: str) -> bool:
        return hmac.compare_digest(self.proof(connection).encode(), given.encode())

    def _login(self, connection: HTTPConnection) -> _Login | None:
        secret = _secret(connection)
        login = self._logins.get(_digest(secret)) if secret else None
        if login is not None and login.until <= self._clock.monotonic():
            del self._logins[_digest(secret)]
            return None
        return login

    def _who(self, token: str) -> Caller | None:
        """Who asks with `token`, as if a request had shown it."""
        try:
            shown = [(b"authorization", b"Bearer " + token.encode("latin-1"))]
        except UnicodeEncodeError:
            return None
        caller = caller_of(HTTPConnection({"type": "http", "headers": shown}), self._ways)
        return caller if caller is not NOBODY else None


def origin_of(connection: HTTPConnection) -> str | None:
    """The origin of the page that sent this, if it is one that was served from here; None when it is not, or not said.

    Scheme and host are the browser's word, so they are right behind a proxy that ends TLS too.
    """
    origin = connection.headers.get("origin", "").lower()
    parts = urlsplit(origin)
    own = parts.scheme in ("http", "https") and parts.netloc == connection.headers.get("host", "").lower()
    return origin if own else None


def _cookie_name(connection: HTTPConnection, *, secure: bool) -> str:
    """With the port: a browser sends a cookie to every port of its host."""
    port = (connection.scope.get("server") or ("", 0))[1]
    return f"{'__Host-' if secure else ''}clawmend_{port}"


def _secret(connection: HTTPConnection) -> str:
    cookies = connection.cookies
    return cookies.get(_cookie_name(connection, secure=True)) or cookies.get(_cookie_name(connection, secure=False), "")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
