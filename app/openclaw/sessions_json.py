"""The only grammar of `sessions.json` (spec 2026.5.18, section 2): from its bytes to rows."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from app.domain.json_text import Member, NotJson, document, document_in, members, text_of
from app.domain.model import RUNNING, Row

_SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,254}\Z")
_OBJECT = re.compile(rb"[ \t\r\n]*\{")
_CHUNK = 1 << 20
_RECOVERY = (
    "abortedLastRun",
    "restartRecoveryRuns",
    "subagentRecovery",
    "mainRestartRecovery",
    "pendingFinalDelivery",
    "pendingDeliveryNotice",
)


class StoreProblem(Exception):
    """A store that cannot be judged. `code` is one of docs/reference/errors.md; `detail` is for a person."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def read_rows(data: bytes) -> tuple[Row, ...]:
    """Every row of a store. Raises StoreProblem: `empty`, `not_json`, `not_an_object`, `not_utf8`, `duplicate_keys`."""
    _check(data)
    with suppress(NotJson):
        return _rows(document_in(data))
    text = data.decode("latin-1")  # which tells where it is wrong
    try:
        return _rows((text, member) for member in document(text))
    except NotJson as error:
        raise StoreProblem("not_json", f"the store does not parse: {error}") from None


def _rows(found: Iterable[tuple[str, Member]]) -> tuple[Row, ...]:
    rows: list[Row] = []
    seen: set[str] = set()
    for text, member in found:
        if member.name in seen:
            raise StoreProblem("duplicate_keys", "the store names a session twice")
        seen.add(member.name)
        rows.append(_row(text, member))
    return tuple(rows)


def _check(data: bytes) -> None:
    if not data or data.isspace():
        raise StoreProblem("empty", f"the store is empty ({len(data)} bytes)")
    if data.startswith(codecs.BOM_UTF8):
        raise StoreProblem("not_json", "the store begins with a byte order mark, which OpenClaw does not accept")
    if not all(data[at : at + _CHUNK].isascii() for at in range(0, len(data), _CHUNK)):
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            for at in range(0, len(data), _CHUNK):
                decoder.decode(data[at : at + _CHUNK])
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise StoreProblem("not_utf8", f"the store is not UTF-8: {error.reason}") from None
    if not _OBJECT.match(data):
        raise StoreProblem("not_an_object", "the store is not a JSON object of sessions")


def _row(text: str, member: Member) -> Row:
    key, value = member.name, member.value
    shown = _clean(key)
    if shown != key:
        return Row(shown, problem="its session key is not valid Unicode")
    if not isinstance(value, dict):
        return Row(key, problem="its row is not an object")
    status = _word(value, "status")
    undecoded = status is not None and not status.isascii()
    if (status in (RUNNING, None) or undecoded) and not text[member.value_start : member.value_end].isascii():
        value = text_of(text, member.value_start, member.value_end)
        status = _word(value, "status")
    row = row_of(key, value)
    return row if status != RUNNING else replace(row, problem=_problem(text, member, valid=row.session_id is not None))


def row_of(key: str, value: dict[str, Any]) -> Row:
    """The row that `value` says, whose text may have been in a store or in a database."""
    session_id = value.get("sessionId")
    valid = isinstance(session_id, str) and _SESSION_ID.match(session_id) is not None
    return Row(
        key=key,
        session_id=session_id if valid else None,
        status=_word(value, "status"),
        started_at=_ms(value, "startedAt"),
        ended_at=_ms(value, "endedAt"),
        runtime_ms=_ms(value, "runtimeMs"),
        aborted_last_run=_flag(value, "abortedLastRun"),
        updated_at=_ms(value, "updatedAt"),
        session_file=_word(value, "sessionFile"),
        family=tuple(i for i in _strings(value.get("usageFamilySessionIds")) if i != session_id),
        parents=tuple(p for p in (_word(value, "spawnedBy"), _word(value, "parentSessionKey")) if p),
        recovery=_recovery(value),
        guards=tuple(_clean(n) for n in value if n.startswith("restartRecovery") and n not in _RECOVERY and value[n]),
    )


def _problem(text: str, member: Member, *, valid: bool) -> str | None:
    """Why a running row cannot be judged; None when it can."""
    if not valid:
        return "its row has no valid sessionId"
    names = [m.name for m in members(text, member.value_start)]
    if len(set(names)) != len(names):
        return "its row names a field twice"
    return None


def _recovery(value: dict[str, Any]) -> tuple[str, ...]:
    """Fields by which OpenClaw marks a row that its own restart recovery, or a delivery, still owns (section 7)."""
    return tuple(n for n in _RECOVERY if value.get(n))


def _ms(value: dict[str, Any], name: str) -> int | None:
    """Epoch milliseconds, or None where the field holds anything else."""
    number = value.get(name)
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    if not abs(number) < 2**53:
        return 2**53
    return int(number)


def _flag(value: dict[str, Any], name: str) -> bool | None:
    flag = value.get(name)
    return flag if isinstance(flag, bool) else None


def _word(value: dict[str, Any], name: str) -> str | None:
    word = value.get(name)
    return _clean(word) if isinstance(word, str) else None


def _clean(word: str) -> str:
    """Without the lone surrogates that no UTF-8 can carry on."""
    return word.encode("utf-8", "replace").decode("utf-8")


def _strings(value: object) -> tuple[str, ...]:
    return tuple(_clean(v) for v in value if isinstance(v, str)) if isinstance(value, list) else ()
