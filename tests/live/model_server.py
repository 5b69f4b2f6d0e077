"""A model server that does what the prompt says: the one thing beside a real gateway that is not real.

The last directive in the user's messages since the last finished answer counts:

    ERROR code [seconds]   an HTTP error, so many seconds later
    EMPTY                  an answer without text
    SLOW seconds           an answer that trickles in
    HANG                   no answer, ever
    WORK rounds            so many rounds of a slow answer (8 s) and a tool (7 s), then an answer
    hello                  an answer at once, whatever was said before
    (anything else)        the same
"""

from __future__ import annotations

import json
import re
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_DIRECTIVE = re.compile(r"\b(ERROR|EMPTY|SLOW|HANG|WORK|hello)\b ?(\d*) ?(\d*)")
_WORK_TALK, _WORK_TOOL = 8.0, 7
_STEP = 0.25


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""

    def do_GET(self) -> None:
        self._json(200, {"object": "list", "data": [{"id": "fake-1", "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        what, number, delay, tools_done = _asked(body["messages"])
        with suppress(ConnectionError):
            if what == "ERROR":
                self._wait(delay)
                self._json(number, {"error": {"message": f"asked for {number}", "type": "server_error"}})
            elif what == "HANG":
                self._wait(3_600)
            elif body.get("stream"):
                self._stream(what, number, tools_done)
            else:
                self._json(200, {**_BASE, "choices": [{"index": 0, "message": _SAID, "finish_reason": "stop"}]})

    def _stream(self, what: str, number: int, tools_done: int) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        self._delta({"role": "assistant", "content": ""})
        working = what == "WORK" and tools_done < number
        talk = number if what == "SLOW" else _WORK_TALK if working else 0.0
        until = time.monotonic() + talk
        while time.monotonic() < until:
            self._delta({"content": "word "})
            self._wait(_STEP)
        if working:
            arguments = json.dumps({"command": f"sleep {_WORK_TOOL}"})
            call = {"index": 0, "id": f"call_{tools_done}", "type": "function"}
            self._delta({"tool_calls": [{**call, "function": {"name": "exec", "arguments": arguments}}]})
            self._delta({}, "tool_calls")
        else:
            if what != "EMPTY":
                self._delta({"content": "an answer"})
            self._delta({}, "stop")
        self.wfile.write(b"data: [DONE]\n\n")

    def _delta(self, delta: dict[str, Any], end: str | None = None) -> None:
        chunk = {**_BASE, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.flush()

    def _wait(self, seconds: float) -> None:
        """As long as the gateway stays. Raises ConnectionError when it goes."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        if readable:
            raise ConnectionResetError

    def _json(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


_BASE = {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": "fake-1"}
_SAID = {"role": "assistant", "content": "an answer"}


def _asked(messages: list[dict[str, Any]]) -> tuple[str, int, int, int]:
    """The directive, its two numbers, and how many tools have answered since the last finished answer."""
    found: list[tuple[str, str, str]] = []
    tools = 0
    for message in reversed(messages):
        role = message["role"]
        if role == "tool":
            tools += 1
        elif role == "user" and not found:  # from 2026.9 on a message of the gateway's own stands behind the person's
            content = message["content"]
            said = content if isinstance(content, str) else " ".join(p.get("text", "") for p in content)
            found = _DIRECTIVE.findall(said)
        elif role == "assistant" and not message.get("tool_calls"):
            break
    word, first, second = found[-1] if found else ("", "", "")
    return word, int(first or 0), int(second or 0), tools


@contextmanager
def model_server() -> Iterator[int]:
    """Gives its port, on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
