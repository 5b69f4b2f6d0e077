"""The only grammar of `sessions.json` (spec 2026.5.18, section 2): from its bytes to rows."""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from app.domain.json_text import PIECE, Member, NotJson, Span, document, document_in, names_of, opens_object, text_of
from app.domain.model import RUNNING, Row
from app.openclaw.marks import SLICE, mark_of

_SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,254}\Z")
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


@dataclass(frozen=True, slots=True)
class Piece:
    """What was read of one stretch of a store: from right behind a member, or the beginning, to right behind another,
    or the end.
    """

    size: int
    """Bytes."""
    mark: int
    """Of these bytes."""
    names: tuple[str, ...]
    rows: tuple[Row, ...]


def read_rows(data: bytes) -> tuple[Row, ...]:
    """Every row of a store. Raises StoreProblem: `empty`, `not_json`, `not_an_object`, `not_utf8`, `duplicate_keys`."""
    return rows_of(read_pieces(data))


def rows_of(pieces: Iterable[Piece]) -> tuple[Row, ...]:
    return tuple(chain.from_iterable(each.rows for each in pieces))


def read_pieces(data: bytes, size: int = PIECE) -> tuple[Piece, ...]:
    """The same in pieces of about `size` bytes. Raises StoreProblem."""
    try:
        pieces = pieces_in(data, size)
    except NotJson as error:
        raise _problem_of(data, error) from None
    return named_once(pieces)


def named_once(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """These pieces of one store. Raises StoreProblem: `duplicate_keys`."""
    names = [name for each in pieces for name in each.names]
    if len(set(names)) != len(names):
        raise StoreProblem("duplicate_keys", "the store names a session twice")
    return pieces


def pieces_in(data: bytes, size: int = PIECE, *, begins: bool = True, ends: bool = True) -> tuple[Piece, ...]:
    """What a store says, or a stretch of it (see `document_in`). Raises NotJson."""
    return tuple(_pieces(data, size, begins, ends))


def spans_in(data: bytes, pieces: tuple[Piece, ...], keys: Collection[str]) -> dict[str, Span]:
    """Where the rows of `keys`, as far as they are there, stand in `data`, of which these are the `pieces`: only those
    that name one of them are gone through once more. Raises NotJson where they are the pieces of something else.
    """
    found: dict[str, Span] = {}
    end = 0
    for piece in pieces:
        start, end = end, end + piece.size
        if set(keys).isdisjoint(piece.names):
            continue
        for _, member, behind in document_in(data[start:end], begins=start == 0, ends=piece is pieces[-1]):
            if member.name in keys:
                value_end = start + behind
                found[member.name] = Span(value_end - (member.value_end - member.value_start), value_end)
    return found


def _pieces(data: bytes, size: int, begins: bool, ends: bool) -> Iterator[Piece]:
    start = 0
    names: list[str] = []
    rows: list[Row] = []
    for text, member, behind in document_in(data, size, begins=begins, ends=ends):
        names.append(member.name)
        rows.append(_row(text, member))
        if behind - start >= size:
            yield _piece(data[start:behind], names, rows)
            start, names, rows = behind, [], []
    if start < len(data):
        yield _piece(data[start:], names, rows)


def _piece(data: bytes, names: list[str], rows: list[Row]) -> Piece:
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise NotJson(f"not UTF-8: {error.reason}") from None
    mark = mark_of(data[at : at + SLICE] for at in range(0, len(data), SLICE))
    return Piece(len(data), mark, tuple(names), tuple(rows))


def _problem_of(data: bytes, error: NotJson) -> StoreProblem:
    """What is wrong with a store that is no JSON object, and where."""
    if not data or data.isspace():
        return StoreProblem("empty", f"the store is empty ({len(data)} bytes)")
    if data.startswith(codecs.BOM_UTF8):
        return StoreProblem("not_json", "the store begins with a byte order mark, which OpenClaw does not accept")
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(data), PIECE):
            decoder.decode(data[at : at + PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as undecodable:
        return StoreProblem("not_utf8", f"the store is not UTF-8: {undecodable.reason}")
    if not opens_object(data):
        return StoreProblem("not_an_object", "the store is not a JSON object of sessions")
    text = data.decode("latin-1")
    try:
        for member in document(text):  # which tells the place
            _row(text, member)
    except NotJson as placed:
        error = placed
    return StoreProblem("not_json", f"the store does not parse: {error}")


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
    names = names_of(text, member.value_start, member.value_end)
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
    return word if word.isascii() else word.encode("utf-8", "replace").decode("utf-8")


def _strings(value: object) -> tuple[str, ...]:
    return tuple(_clean(v) for v in value if isinstance(v, str)) if isinstance(value, list) else ()
