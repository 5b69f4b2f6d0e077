"""Frames of the gateway's protocol, as bytes: what is a reply, what an event, and what is nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.openclaw.gateway_frames import Event, Reply, SessionRow, read_frame, request, session_row


def frame(**fields: Any) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"type": "res", "id": "1", "ok": True, "payload": {"a": 1}}, Reply("1", {"a": 1})),
        ({"type": "res", "id": "1", "ok": True}, Reply("1", {})),
        ({"type": "res", "id": "1", "ok": True, "payload": [1]}, Reply("1", {})),
        ({"type": "res", "id": "1", "ok": False, "error": {"code": "X", "message": "m"}}, Reply("1", None, "X", "m")),
        (
            {"type": "res", "id": "1", "ok": False, "error": {"code": "X", "message": "m", "details": {"code": "Y"}}},
            Reply("1", None, "Y", "m"),
        ),
        ({"type": "res", "id": "1", "ok": False, "error": {"code": 7, "details": []}}, Reply("1", None, "ERROR", "")),
        ({"type": "res", "id": "1", "ok": False, "error": "no"}, Reply("1", None, "ERROR", "")),
        ({"type": "res", "id": "1", "ok": "true", "payload": {}}, Reply("1", None, "ERROR", "")),
        ({"type": "res", "id": "1"}, Reply("1", None, "ERROR", "")),
        ({"type": "res", "id": 1, "ok": True}, None),
        ({"type": "res", "ok": True}, None),
        ({"type": "req", "id": "1", "method": "x"}, None),
        ({"type": "event", "event": "sessions.changed", "payload": {"a": 1}}, Event("sessions.changed", {"a": 1})),
        ({"event": "shutdown", "type": "event"}, Event("shutdown", {})),
        ({"type": "event", "event": "connect.challenge", "payload": 7}, Event("connect.challenge", {})),
        ({"type": "event", "event": "chat", "payload": {}}, None),
        ({"payload": {}, "event": "chat", "type": "event"}, None),
        ({"type": "event", "event": None}, None),
        ({}, None),
    ],
)
def test_a_frame_is_a_reply_an_event_that_is_listened_to_or_nothing(
    given: dict[str, Any], read: Reply | Event | None
) -> None:
    assert read_frame(frame(**given)) == read


@pytest.mark.parametrize(
    "data", [b"", b"{", b"null", b"[]", b"7", b"\xff\xfe", b"[" * 100_000, b'{"type":"res","id":"1"', b"NaN"]
)
def test_what_is_no_object_is_no_frame(data: bytes) -> None:
    assert read_frame(data) is None


def test_an_event_that_nobody_waits_for_is_not_even_parsed() -> None:
    """A chat event may have 25 MiB; only its name is read."""
    assert read_frame(b'{"type":"event","event":"chat" and no JSON behind it') is None
    twice = b'{"type":"event","event":"%b","event":"sessions.changed","payload":{}}'
    assert read_frame(twice % b"chat") is None
    assert read_frame(twice % b"shutdown") == Event("sessions.changed", {})


def test_half_an_emoji_in_a_frame_does_not_cost_the_frame() -> None:
    read = read_frame(b'{"type":"res","id":"1","ok":true,"payload":{"label":"\\ud83d"}}')
    assert isinstance(read, Reply)
    assert read.payload == {"label": "\ud83d"}


def test_a_request_is_one_line_of_ASCII() -> None:
    text = request("7", "sessions.patch", {"key": "agent:main:🦞\n"})
    assert text.isascii()
    assert "\n" not in text
    assert json.loads(text) == {
        "type": "req", "id": "7", "method": "sessions.patch", "params": {"key": "agent:main:🦞\n"}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "row"),
    [
        (
            {"key": "k", "sessionId": "s", "status": "running", "startedAt": 1, "endedAt": 2, "hasActiveRun": True},
            SessionRow("k", "s", "running", 1, 2, True),
        ),
        ({"sessionKey": "k", "hasActiveRun": False}, SessionRow("k", None, None, None, None, False)),
        ({"activeRunIds": []}, SessionRow("", None, None, None, None, None, ())),
        ({"activeRunIds": ["a", "b"]}, SessionRow("", None, None, None, None, None, ("a", "b"))),
        ({"activeRunIds": ["a", 1]}, SessionRow("", None, None, None, None, None)),
        ({"activeRunIds": {}}, SessionRow("", None, None, None, None, None)),
        (
            {"key": 1, "sessionId": 2, "status": 3, "startedAt": "4", "endedAt": True, "hasActiveRun": 0},
            SessionRow("", None, None, None, None, None),
        ),
        ({}, SessionRow("", None, None, None, None, None)),
        (None, None),
        ([], None),
        ("k", None),
    ],
)
def test_a_session_is_read_field_by_field_and_nonsense_is_left_out(value: object, row: SessionRow | None) -> None:
    assert session_row(value) == row
