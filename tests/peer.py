"""A gateway on the wire, as a test wants it: protocol 4 on a loopback port of its own, its rows from a store on disk.

Each method's answer can be replaced (`on`); `asked` has every request with the scope of its connection.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

TOKEN = "the-gateways-own-token"
FIELDS = ("status", "endedAt", "runtimeMs", "abortedLastRun")


class Asked(NamedTuple):
    scopes: tuple[str, ...]
    method: str
    params: dict[str, Any]
    connection: int
    """Which connection it came on, counted from 1."""


class Refuse(Exception):
    """Raised by an answer: the gateway refuses."""

    def __init__(self, code: str, message: str = "", *, exact: str | None = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, **({"details": {"code": exact}} if exact else {})}


class Silence(Exception):
    """Raised by an answer: none ever comes."""


class Hangup(Exception):
    """Raised by an answer: the connection is closed instead."""

    def __init__(self, code: int = 1012, reason: str = "service restart") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


Answer = Callable[[dict[str, Any]], dict[str, Any]]


class Peer:
    """Started by being made; `stop` closes every connection and the port."""

    def __init__(
        self, store: Path | None = None, *, port: int = 0, token: str | None = TOKEN, tls: ssl.SSLContext | None = None
    ) -> None:
        self.store = store
        self._tls = tls
        self.token = token
        self.protocol = 4
        self.grants: Callable[[list[str]], Any] = list
        self.active: set[str] = set()
        """Keys with a run that the gateway registers."""
        self.counts: dict[str, Any] = {"queueSize": 0, "pendingReplies": 0, "embeddedRuns": 1, "totalActive": 1}
        self.ready = 200
        self.on: dict[str, Answer] = {
            "sessions.subscribe": lambda _: {"subscribed": True},
            "sessions.list": self.list_sessions,
            "sessions.patch": self.patch_session,
            "gateway.restart.preflight": lambda _: {"safe": True, "counts": self.counts},
        }
        self.admin_only = {"sessions.patch"}
        """Methods that the scope of reading is not enough for."""
        self.before: Callable[[Any, str, dict[str, Any]], None] = lambda _c, _m, _f: None
        """Called with the connection, the method and the request before it is answered."""
        self.greet: Callable[[ServerConnection], None] = self.challenge
        self.asked: list[Asked] = []
        self.connections = 0
        self._open: list[ServerConnection] = []
        self._lock = threading.Lock()
        self._server = serve(
            self._talk, "127.0.0.1", port, process_request=self._http, compression=None, ping_interval=None, ssl=tls
        )
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{'ws' if self._tls is None else 'wss'}://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        return len(self._open)

    def methods(self) -> list[str]:
        """What was asked, without the handshakes."""
        return [a.method for a in self.asked if a.method not in ("connect", "sessions.subscribe")]

    def say(self, event: str, **payload: Any) -> None:
        """An event to everybody who is connected."""
        for connection in list(self._open):
            with suppress(ConnectionClosed):
                connection.send(json.dumps({"type": "event", "event": event, "payload": payload}))

    def hang_up(self, code: int = 1012) -> None:
        for connection in list(self._open):
            connection.close(code)

    def stop(self) -> None:
        closer = threading.Thread(target=self._server.shutdown, kwargs={"close_connections": False}, daemon=True)
        closer.start()
        for _ in range(100):  # one may just be coming in
            for connection in list(self._open):
                with suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_RDWR)
            closer.join(0.1)
            if not closer.is_alive():
                break
        assert not closer.is_alive(), "a connection does not end"
        self._thread.join(10)

    # --- the answers of a gateway that is well ---

    def challenge(self, connection: ServerConnection) -> None:
        connection.send('{"type":"event","event":"connect.challenge","payload":{"nonce":"n","ts":1}}')

    def list_sessions(self, params: dict[str, Any]) -> dict[str, Any]:
        assert self.store is not None
        rows = json.loads(self.store.read_bytes())
        found = [{"key": k, **row, "hasActiveRun": k in self.active} for k, row in rows.items()]
        wanted = params.get("search")
        return {"path": str(self.store), "sessions": [r for r in found if wanted in (None, r.get("sessionId"))]}

    def patch_session(self, params: dict[str, Any]) -> dict[str, Any]:
        assert self.store is not None
        rows = json.loads(self.store.read_bytes())
        assert params["key"] in rows, "this call would have made a row"
        return {"ok": True, "path": str(self.store), "key": params["key"], "entry": rows[params["key"]]}

    # --- with the companion plugin in it ---

    def load_plugin(self) -> None:
        self.on |= {
            "clawmend.live": self.live,
            "clawmend.settle": self.settle_row,
            "clawmend.undo": self.undo_row,
        }
        self.admin_only |= {"clawmend.settle", "clawmend.undo"}

    def live(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"store": str(self.store), "active": [s["key"] in self.active for s in params["sessions"]]}

    def settle_row(self, params: dict[str, Any]) -> dict[str, Any]:
        ended, status = params["endedAt"], params["status"]
        runtime = max(0, ended - params["expectedStartedAt"])
        after = {"status": status, "endedAt": ended, "runtimeMs": runtime, "abortedLastRun": status == "killed"}
        return self._change_row(params, after)

    def undo_row(self, params: dict[str, Any]) -> dict[str, Any]:
        return self._change_row(params, {f["name"]: f.get("before") for f in params["fields"]})

    def _change_row(self, params: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
        """As the gateway would: the whole store rewritten, renamed in place; a field that becomes None goes."""
        assert self.store is not None
        rows = json.loads(self.store.read_bytes())
        row = rows[params["key"]]
        assert (row["sessionId"], row["startedAt"]) == (params["expectedSessionId"], params["expectedStartedAt"])
        before = {name: row[name] for name in FIELDS if name in row}
        row.update(fields)
        rows[params["key"]] = {name: value for name, value in row.items() if value is not None}
        beside = self.store.with_name("new")
        beside.write_text(json.dumps(rows, indent=2, ensure_ascii=False))
        beside.chmod(0o600)
        beside.rename(self.store)
        after = {name: rows[params["key"]][name] for name in FIELDS if name in rows[params["key"]]}
        told = {"sessions": True, "chat": "runId" in params}
        return {"applied": True, "reason": None, "before": before, "after": after, "told": told}

    # --- the wire ---

    def _http(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/readyz":
            return connection.respond(self.ready, "{}")
        return None

    def _talk(self, connection: ServerConnection) -> None:
        with self._lock:
            self.connections += 1
            number = self.connections
            self._open.append(connection)
        with suppress(ConnectionClosed, OSError):
            self.greet(connection)
            scopes: tuple[str, ...] = ()
            for text in connection:
                frame = json.loads(text)
                method, params = frame["method"], frame["params"]
                if method == "connect":
                    scopes = tuple(params["scopes"])
                self.asked.append(Asked(scopes, method, params, number))
                self.before(connection, method, frame)
                self._answer(connection, frame, method, params, scopes)
        with suppress(ValueError):
            self._open.remove(connection)

    def _answer(
        self, connection: ServerConnection, frame: dict[str, Any], method: str, params: dict[str, Any], scopes: Any
    ) -> None:
        reply: dict[str, Any] = {"type": "res", "id": frame["id"]}
        try:
            if method in self.on:
                if method in self.admin_only and "operator.admin" not in scopes:
                    raise Refuse("INVALID_REQUEST", "missing scope: operator.admin")
                reply |= {"ok": True, "payload": self.on[method](params)}
            else:
                assert method == "connect", f"nobody wrote an answer to {method}"
                reply |= {"ok": True, "payload": self._hello(params)}
        except Silence:
            return
        except Hangup as end:
            connection.close(end.code, end.reason)
            return
        except Refuse as refused:
            reply |= {"ok": False, "error": refused.error}
        connection.send(json.dumps(reply))
        if method == "connect" and not reply["ok"]:
            connection.close(1008)

    def _hello(self, params: dict[str, Any]) -> dict[str, Any]:
        if not params["minProtocol"] <= self.protocol <= params["maxProtocol"]:
            raise Refuse("INVALID_REQUEST", "protocol mismatch", exact="PROTOCOL_MISMATCH")
        if self.token is not None and params["auth"].get("token") != self.token:
            raise Refuse("INVALID_REQUEST", "unauthorized", exact="AUTH_TOKEN_MISMATCH")
        return {
            "type": "hello-ok",
            "protocol": self.protocol,
            "server": {"version": "2026.5.18", "connId": "c"},
            "features": {"methods": [*self.on], "events": []},
            "auth": {"role": "operator", "scopes": self.grants(params["scopes"])},
        }


@contextmanager
def listening(answer: Callable[[socket.socket], None] = lambda _: None) -> Iterator[int]:
    """A port that takes connections and does with each what `answer` says; they stay open until the end."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve_them() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                held.append(connection)
                with suppress(OSError):
                    answer(connection)

        thread = threading.Thread(target=serve_them, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        for connection in held:
            connection.close()
