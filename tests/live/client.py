"""What a person's client does: sends, subscribes, lists; over the gateway's WebSocket, all scopes."""

from __future__ import annotations

import json
import threading
import time
import uuid
from contextlib import ExitStack
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.live.gateway import TOKEN, Gateway

_SCOPES = ["operator.read", "operator.write", "operator.admin", "operator.pairing"]


class Refused(Exception):
    """The gateway answered with an error."""


class Client:
    """One connection. `events` holds all that was heard: (epoch seconds, name, payload)."""

    def __init__(self, gateway: Gateway) -> None:
        self.events: list[tuple[float, str, dict[str, Any]]] = []
        self._replies: dict[str, dict[str, Any]] = {}
        self._news = threading.Condition()
        self._open = ExitStack()
        self._socket = self._open.enter_context(
            connect(
                f"ws://127.0.0.1:{gateway.port}", max_size=64 << 20, compression=None, proxy=None, ping_interval=None
            )
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._wait(lambda: any(name == "connect.challenge" for _, name, _ in self.events), 60)
        client = {"id": "gateway-client", "version": "0", "platform": "linux", "mode": "backend"}
        auth = {"token": TOKEN}
        base = {"minProtocol": 4, "maxProtocol": 4, "client": client, "role": "operator", "scopes": _SCOPES}
        hello = self.call("connect", {**base, "caps": [], "commands": [], "permissions": {}, "auth": auth})
        self.methods: list[str] = hello["features"]["methods"]

    def call(self, method: str, params: dict[str, Any], patience: float = 180.0) -> dict[str, Any]:
        """The reply's payload; a gateway that is still starting is asked again. Raises Refused."""
        until = time.monotonic() + patience
        while not (reply := self._ask(method, params, patience)).get("ok"):
            if reply["error"].get("retryable") is not True or time.monotonic() > until:
                raise Refused(f"{method}: {reply['error']}")
            time.sleep(0.2)
        return dict(reply["payload"])

    def _ask(self, method: str, params: dict[str, Any], patience: float) -> dict[str, Any]:
        name = str(uuid.uuid4())
        self._socket.send(json.dumps({"type": "req", "id": name, "method": method, "params": params}))
        self._wait(lambda: name in self._replies, patience)
        return self._replies.pop(name)

    def send(self, key: str, message: str) -> str:
        """chat.send; gives the run's id."""
        run = str(uuid.uuid4())
        self.call("chat.send", {"sessionKey": key, "message": message, "idempotencyKey": run})
        return run

    def run_agent(self, key: str, message: str) -> None:
        """The `agent` call: a turn whose answer is delivered to nobody."""
        self.call("agent", {"sessionKey": key, "message": message, "idempotencyKey": str(uuid.uuid4())})

    def listed(self) -> dict[str, dict[str, Any]]:
        rows = self.call("sessions.list", {"limit": 500})["sessions"]
        return {row["key"]: row for row in rows}

    def changes(self, key: str) -> list[tuple[float, dict[str, Any]]]:
        """Every `sessions.changed` of one session that was heard."""
        return [(at, p) for at, name, p in self.events if name == "sessions.changed" and p.get("sessionKey") == key]

    def close(self) -> None:
        self._open.close()

    def _read(self) -> None:
        try:
            for raw in self._socket:
                frame = json.loads(raw)
                with self._news:
                    if frame["type"] == "res":
                        self._replies[frame["id"]] = frame
                    else:
                        self.events.append((time.time(), frame["event"], frame.get("payload") or {}))
                    self._news.notify_all()
        except (ConnectionClosed, OSError):  # a gateway that is killed
            return

    def _wait(self, there: Any, patience: float) -> None:
        with self._news:
            assert self._news.wait_for(there, patience), f"nothing came within {patience} s"
