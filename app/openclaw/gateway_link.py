"""One connection to a gateway: the handshake, requests and their replies, the events that are listened to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

from app.openclaw.gateway_access import Access
from app.openclaw.gateway_frames import LARGEST, PROTOCOL, Event, Reply, connect_params, read_frame, request

HANDSHAKE_SECONDS = 5.0
"""The gateway itself gives up a handshake after 15 s."""
_CODES = {"PROTOCOL_MISMATCH": "other_protocol", "UNAVAILABLE": "starting"}


class LinkFailed(Exception):
    """There is no connection, or it broke; `code` is one of docs/gateway.md."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Refused(Exception):
    """The gateway answered a request with an error; `code` is the gateway's own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Link:
    """Made by `open_link`. Used on one event loop."""

    def __init__(self, socket: ClientConnection, hear: Callable[[Event], None]) -> None:
        self._socket = socket
        self._hear = hear
        self._ids = count(1)
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._challenged = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        self._broke = "it was closed here"
        self.version = ""
        """OpenClaw's, from its hello."""

    async def call(self, method: str, params: dict[str, Any], timeout: float) -> dict[str, Any]:  # noqa: ASYNC109
        """The reply's payload. Raises LinkFailed (`closed`, `not_answering`) and Refused."""
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
            raise LinkFailed("closed", _closed(error)) from None
        finally:
            self._waiting.pop(request_id, None)
        if reply.payload is None:
            raise Refused(reply.code, reply.message)
        return reply.payload

    async def wait_closed(self) -> str:
        """Until the connection breaks; gives why."""
        await asyncio.wait({self._reader})
        return self._broke

    async def close(self) -> None:
        self._reader.cancel()
        await self._socket.close()

    async def greet(self, access: Access, scope: str) -> None:
        """The handshake. Raises LinkFailed."""
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await self._challenged.wait()
            hello = await self.call("connect", connect_params(access, scope), HANDSHAKE_SECONDS)
        except TimeoutError:
            raise LinkFailed("not_a_gateway", "it accepts connections and says nothing") from None
        except Refused as error:
            code = "wrong_token" if error.code.startswith("AUTH_") else _CODES.get(error.code, "refused")
            raise LinkFailed(code, str(error)) from None
        if hello.get("protocol") != PROTOCOL:
            raise LinkFailed("other_protocol", f"it speaks protocol {hello.get('protocol')!r:.20}, we speak {PROTOCOL}")
        granted = hello.get("auth")
        if not isinstance(granted, dict) or scope not in (granted.get("scopes") or ()):
            raise LinkFailed("missing_scope", f"it does not grant {scope}")
        server = hello.get("server")
        self.version = str(server.get("version"))[:40] if isinstance(server, dict) else ""

    async def _read(self) -> None:
        try:
            while True:
                frame = read_frame(await self._socket.recv(decode=False))
                if isinstance(frame, Reply):
                    waiting = self._waiting.get(frame.id)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(frame)
                elif frame is not None and frame.name == "connect.challenge":
                    self._challenged.set()
                elif frame is not None:
                    self._hear(frame)
        except websockets.ConnectionClosed as error:
            self._broke = _closed(error)
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(LinkFailed("closed", self._broke))


async def open_link(access: Access, scope: str, hear: Callable[[Event], None] = lambda _: None) -> Link:
    """Connect and shake hands; `hear` is called for each event. Raises LinkFailed."""
    try:
        socket = await websockets.connect(
            access.url,
            open_timeout=HANDSHAKE_SECONDS,
            close_timeout=1.0,
            max_size=LARGEST,
            compression=None,
            proxy=None,
            user_agent_header=None,
        )
    except TimeoutError:
        raise LinkFailed("not_a_gateway", "it accepts connections and says nothing") from None
    except ConnectionRefusedError:
        raise LinkFailed("no_gateway", "nobody listens there") from None
    except (OSError, websockets.InvalidHandshake, websockets.InvalidURI, EOFError) as error:
        raise LinkFailed("not_a_gateway", f"it is no gateway: {str(error)[:120]}") from None
    link = Link(socket, hear)
    try:
        await link.greet(access, scope)
    except BaseException:
        await link.close()
        raise
    return link


def _closed(error: websockets.ConnectionClosed) -> str:
    said = error.rcvd
    return f"the gateway closed the connection ({said.code} {said.reason[:80]})" if said else "the connection broke off"
