"""One connection to a gateway: the handshake, requests and their replies, the events that are listened to."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable
from itertools import count
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect

from app.openclaw.gateway_access import Access
from app.openclaw.gateway_frames import LARGEST, PROTOCOL, Event, Reply, connect_params, read_frame, request
from app.openclaw.gateway_tls import trust
from app.openclaw.parse import word

HANDSHAKE_SECONDS = 5.0
"""The gateway itself gives up a handshake after 15 s."""
_CODES = {"PROTOCOL_MISMATCH": "other_protocol", "UNAVAILABLE": "starting"}


class LinkFailed(Exception):
    """There is no connection, or it broke; `code` is one of docs/explanation/gateway.md."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Refused(Exception):
    """The gateway answered a request with an error; `code` is the gateway's own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message[:200]}")
        self.code = code
        self.missing_scope = "missing scope" in message or code == "FORBIDDEN"


class Link:
    """Made by `open_link`. Used on one event loop."""

    def __init__(self, socket: ClientConnection, access: Access, hear: Callable[[Event], None]) -> None:
        self._socket = socket
        self.access = access
        self._hear = hear
        self._ids = count(1)
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._challenged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._broke = LinkFailed("closed", "it was closed here")
        self._reader = asyncio.create_task(self._read())
        self.version = ""
        """OpenClaw's, from its hello."""
        self.methods: frozenset[str] = frozenset()
        """What can be called, from its hello; plugins add theirs."""
        self.too_small_for: set[str] = set()
        """Methods that turned out to need more than the scope of this link."""

    async def call(self, method: str, params: dict[str, Any], timeout: float) -> dict[str, Any]:  # noqa: ASYNC109
        """The reply's payload. Raises LinkFailed (`closed`, `not_answering`) and Refused."""
        if self._reader.done():
            raise self._broke
        request_id = str(next(self._ids))
        waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = waiting
        try:
            async with asyncio.timeout(timeout):
                await self._socket.send(request(request_id, method, params))
                reply = await waiting
        except TimeoutError:
            raise LinkFailed("not_answering", f"no answer to {method} within {timeout:g} s") from None
        except websockets.ConnectionClosed as error:
            raise self._closed(error) from None
        finally:
            self._waiting.pop(request_id, None)
            waiting.cancel()
        if reply.payload is None:
            raise Refused(self._hidden(reply.code), self._hidden(reply.message))
        return reply.payload

    async def wait_closed(self) -> str:
        """Until the connection breaks; gives why."""
        await asyncio.wait({self._reader})
        return self._broke.detail

    def drop(self) -> None:
        """Read no more from it: whoever waits is told at once, and `wait_closed` comes back."""
        self._reader.cancel()

    async def close(self) -> None:
        self.drop()
        try:
            await self._socket.close()
        finally:
            self._socket.transport.abort()  # also where nobody has the time for a farewell

    async def greet(self, scope: str) -> None:
        """The handshake. Raises LinkFailed."""
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await self._challenged
            hello = await self.call("connect", connect_params(self.access, scope), HANDSHAKE_SECONDS)
        except TimeoutError:
            raise LinkFailed("not_a_gateway", "it accepts connections and says nothing") from None
        except Refused as error:
            code = "wrong_token" if error.code.startswith("AUTH_") else _CODES.get(error.code, "refused")
            raise LinkFailed(code, str(error)) from None
        if hello.get("protocol") != PROTOCOL:
            raise LinkFailed("other_protocol", f"it speaks protocol {hello.get('protocol')!r:.20}, we speak {PROTOCOL}")
        granted = hello.get("auth")
        scopes = granted.get("scopes") if isinstance(granted, dict) else None
        if not isinstance(scopes, list) or scope not in scopes:
            raise LinkFailed("missing_scope", f"it does not grant {scope}")
        server = hello.get("server")
        version = word(server.get("version")) if isinstance(server, dict) else None
        self.version = self._hidden(version or "")[:40]
        features = hello.get("features")
        methods = features.get("methods") if isinstance(features, dict) else None
        self.methods = frozenset(m for m in methods if isinstance(m, str)) if isinstance(methods, list) else frozenset()

    async def _read(self) -> None:
        try:
            while True:
                frame = read_frame(await self._socket.recv(decode=False))
                if isinstance(frame, Reply):
                    waiting = self._waiting.get(frame.id)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(frame)
                elif frame is not None and frame.name == "connect.challenge":
                    if not self._challenged.done():
                        self._challenged.set_result(None)
                elif frame is not None:
                    self._hear(frame)
        except websockets.ConnectionClosed as error:
            self._broke = self._closed(error)
        finally:
            pending: list[asyncio.Future[Any]] = [self._challenged, *self._waiting.values()]
            for future in pending:
                if not future.done():
                    future.set_exception(self._broke)
                    future.exception()  # nobody may be waiting any more

    def _closed(self, error: websockets.ConnectionClosed) -> LinkFailed:
        said = error.rcvd
        if said is None:
            return LinkFailed("closed", "the connection broke off")
        code = "starting" if said.code == websockets.CloseCode.TRY_AGAIN_LATER else "closed"
        return LinkFailed(code, f"the gateway closed the connection ({said.code} {self._hidden(said.reason)[:80]})")

    def _hidden(self, text: str) -> str:
        """`text` from the gateway without what we log in with, should it say that back to us: it may be logged."""
        for secret in (self.access.token, self.access.password):
            text = text.replace(secret, "…") if secret else text
        return text


class _Connect(connect):
    """Follows no redirect: that would take the token to wherever the listener says."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def open_link(access: Access, scope: str, hear: Callable[[Event], None] = lambda _: None) -> Link:
    """Connect and shake hands; `hear` is called for each event. Raises LinkFailed."""
    try:
        socket = await _Connect(
            access.url,
            open_timeout=HANDSHAKE_SECONDS,
            close_timeout=1.0,
            max_size=LARGEST,
            compression=None,
            proxy=None,
            user_agent_header=None,
            ssl=trust(access),
        )
    except ssl.SSLCertVerificationError as error:
        raise LinkFailed(
            "certificate", f"it shows a certificate that is not the gateway's: {error.verify_message}"
        ) from None
    except TimeoutError:
        raise LinkFailed("not_a_gateway", "it accepts connections and says nothing") from None
    except (OSError, websockets.InvalidHandshake, websockets.InvalidURI, EOFError) as error:
        if isinstance(error, OSError) and f"Errno {errno.ECONNREFUSED}]" in str(error):  # of a name's every address
            raise LinkFailed("no_gateway", "nobody listens there") from None
        raise LinkFailed("not_a_gateway", f"it is no gateway: {str(error)[:120]}") from None
    link = Link(socket, access, hear)
    try:
        await link.greet(scope)
    except BaseException:
        await link.close()
        raise
    return link
