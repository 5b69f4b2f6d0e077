"""The versions that a store may have in a run, to the byte, and a word for each."""

from __future__ import annotations

import json
from typing import Any

from tests.world import STUCK_KEY, STUCK_SESSION_ID

OLD = "old"
NEW = "new"
"""As we make it of the old one."""
GATEWAY = "gateway's"
"""As a gateway makes it of the old one."""
BOTH = "gateway's + ours"
SECOND = "gateway's second"
"""As a gateway makes it that reads and writes while our exchange is under way, on top of its own first."""
ALL = "gateway's second + ours"
ON_OURS = "gateway's second, on ours"
"""The same, when it has read ours and not its own first one: the one thing that a lease is held against."""

TWO = "two stuck"
"""With another stuck session beside the first."""
TWO_NEW = "two settled"
FIRST_NEW = "two stuck, the first settled"
OTHER_NEW = "two stuck, the other settled"

OTHER_KEY = "agent:main:other-stuck"
OTHER_SESSION_ID = "0b0e5a4e-0000-4000-8000-000000000002"

SETTLED = {
    **dict.fromkeys((NEW, BOTH, ALL, ON_OURS, FIRST_NEW), frozenset({STUCK_KEY})),
    OTHER_NEW: frozenset({OTHER_KEY}),
    TWO_NEW: frozenset({STUCK_KEY, OTHER_KEY}),
}
"""By a version's word, the sessions that we have settled in it."""
WITH_OURS = tuple(SETTLED)
WITH_THE_GATEWAYS = (GATEWAY, BOTH, SECOND, ALL)

_COUNT, _COUNTED = b'"count": 1', b'"count": 2'
_SEEN, _SEES = b'"seen" :0', b'"seen" :1'
_OTHERS = (
    b',\n  "agent:main:other" : {"sessionId":"o", "status":"done","label":"caf\\u00e9 \\ud83d \\/",'
    b' "big":123456789012345678901234567890, "e":1E+2,"z":-0, ' + _COUNT + b"," + _SEEN + b"},"
    b'\n\t"agent:main:\xe2\x82\xac": {"sessionId": "e", "sessionId2": [1.0, 1.50]}\n}\n'
)
"""Rows in a spelling that no JSON writer gives back: every byte of them must stay."""


def versions(row: dict[str, Any], ended_at: int) -> dict[bytes, str]:
    """Of a store with the stuck `row`, whose turn ended at `ended_at`, and two rows more."""
    settled = {
        **row,
        "abortedLastRun": False,
        "status": "failed",
        "endedAt": ended_at,
        "runtimeMs": ended_at - row["startedAt"],
    }
    old, new = (_store({STUCK_KEY: each}) for each in (row, settled))
    pairs = {TWO: (row, row), TWO_NEW: (settled, settled), FIRST_NEW: (settled, row), OTHER_NEW: (row, settled)}
    return {
        **{_store({STUCK_KEY: a, OTHER_KEY: of_the_other(b)}): word for word, (a, b) in pairs.items()},
        old: OLD,
        new: NEW,
        counted(old): GATEWAY,
        counted(new): BOTH,
        seen(counted(old)): SECOND,
        seen(counted(new)): ALL,
        seen(new): ON_OURS,
    }


def counted(data: bytes) -> bytes:
    """What the gateway makes of `data` by its first write."""
    return data.replace(_COUNT, _COUNTED)


def seen(data: bytes) -> bytes:
    """What it makes of it by the second."""
    return data.replace(_SEEN, _SEES)


def of_the_other(row: dict[str, Any]) -> dict[str, Any]:
    """The same row of another session."""
    told: dict[str, Any] = json.loads(json.dumps(row).replace(STUCK_SESSION_ID, OTHER_SESSION_ID))
    return told


def _store(rows: dict[str, dict[str, Any]]) -> bytes:
    return json.dumps(rows, indent=2, ensure_ascii=False).encode().removesuffix(b"\n}") + _OTHERS
