"""What must hold for any bytes as a store. `check_store` raises AssertionError where something does not."""

from __future__ import annotations

import atexit
import codecs
import math
import os
import re
import shutil
import zlib
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from app.domain.model import Row
from app.domain.splice import CannotSplice, splice, splice_rows, unsplice
from app.openclaw.folder import Folder
from app.openclaw.sessions_file import read_store
from app.openclaw.sessions_json import Piece, StoreProblem, read_pieces, read_rows, rows_of, spans_in
from tests.faults.nonsense.json_parse import DEEP, Parsed, depth, parse, places, stringify, without_fields

FIELDS = frozenset(("status", "endedAt", "runtimeMs", "abortedLastRun"))
RECOVERY = (
    "abortedLastRun",
    "restartRecoveryRuns",
    "subagentRecovery",
    "mainRestartRecovery",
    "pendingFinalDelivery",
    "pendingDeliveryNotice",
)
MOST_ROWS = 3


def check_store(data: bytes) -> None:
    rows = check_rows(data)
    check_on_another_version(data)
    text = data.decode("latin-1")
    try:
        value = parse(text)
    except (ValueError, RecursionError):
        value = None
    store = value if isinstance(value, Parsed) else Parsed()
    keys = [place.name for place in places(text)] if store else []
    for key in [*dict.fromkeys(keys), "agent:main:not-there"][-MOST_ROWS - 1 :]:
        check_splice(data, key, _fields_for(data, key), rows)


def check_rows(data: bytes) -> tuple[Row, ...] | None:
    """read_rows says what JSON.parse would, or why not; nothing else ever comes out of it."""
    try:
        rows = read_rows(data)
    except StoreProblem as problem:
        allowed = _allowed_problems(data)
        assert problem.code in allowed, f"{problem.code} ({problem.detail}), though it should be {allowed or 'read'}"
        return None
    allowed = _allowed_problems(data)
    assert not allowed or _deep(data), f"it was read, though it is {allowed}"
    store = parse(data.decode())
    assert len(rows) == len(store)
    for row, (key, value) in zip(rows, store.items(), strict=True):
        check_row(row, key, value)
    return rows


def check_on_another_version(data: bytes) -> None:
    """What is read on another version says what it says by itself. How the other differs is for the data to choose."""
    if not data or _deep(data):  # where the stack ends depends on who calls
        return
    size, start = 1 + data[-1] % 50, len(data) * data[len(data) // 2] // 256
    other = data[:start] + data[start + data[len(data) // 3] % 40 :]
    for old, new in ((data, other), (other, data)):
        try:
            before = _read(old, (), size)
        except StoreProblem:
            continue
        assert _said(new, before, size) == _said(new, (), size)


@cache
def _folder() -> Folder:
    there = mkdtemp()
    atexit.register(shutil.rmtree, there)
    return Folder(there)


def _read(data: bytes, before: tuple[Piece, ...], size: int) -> tuple[Piece, ...]:
    file = Path(_folder().path, f"store-{os.getpid()}")
    file.write_bytes(data)
    try:
        return read_store(_folder(), file.name, len(data), before, size)[0]
    finally:
        file.unlink()  # to write over it would be to wait for the disk


def _said(data: bytes, before: tuple[Piece, ...], size: int) -> tuple[Row, ...] | str:
    try:
        return rows_of(_read(data, before, size))
    except StoreProblem as problem:
        return f"{problem.code}: {problem.detail}"


def _allowed_problems(data: bytes) -> set[str]:
    """The words for what is wrong with a store; empty where it must be read."""
    if not data.strip():
        return {"empty"}
    if data.startswith(codecs.BOM_UTF8):
        return {"not_json"}
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return {"not_utf8"}
    try:
        store = parse(text)
    except (ValueError, RecursionError):
        if text.lstrip(" \t\r\n").startswith("{"):
            return {"not_json", "duplicate_keys"}
        return {"not_an_object"}
    if not isinstance(store, Parsed):
        return {"not_an_object"}
    return ({"duplicate_keys"} if store.twice else set()) | ({"not_json"} if _deep(data) else set())


def _deep(data: bytes) -> bool:
    return depth(data.decode("latin-1")) > DEEP


def check_row(row: Row, key: str, value: Any) -> None:
    shown = _clean(key)
    assert row.key == shown
    if shown != key or not isinstance(value, Parsed):
        assert (row.problem is not None, row.status, row.session_id) == (True, None, None)
        return
    status = _clean(value.get("status"))
    session_id = value.get("sessionId")
    valid = isinstance(session_id, str) and re.fullmatch("[A-Za-z0-9][A-Za-z0-9._:@-]{0,254}", session_id) is not None
    assert row.status == status
    assert row.session_id == (session_id if valid else None)
    read = (row.started_at, row.ended_at, row.runtime_ms, row.updated_at)
    assert read == tuple(_ms(value.get(name)) for name in ("startedAt", "endedAt", "runtimeMs", "updatedAt"))
    flag = value.get("abortedLastRun")
    assert row.aborted_last_run == (flag if isinstance(flag, bool) else None)
    assert row.recovery == tuple(name for name in RECOVERY if value.get(name))
    if status in ("running", None):
        family = value.get("usageFamilySessionIds")
        listed = [_clean(i) for i in family if isinstance(i, str)] if isinstance(family, list) else []
        assert row.family == tuple(i for i in listed if i != session_id)
        parents = (_clean(value.get("spawnedBy")), _clean(value.get("parentSessionKey")))
        assert row.parents == tuple(p for p in parents if p)
        assert row.session_file == _clean(value.get("sessionFile"))
        guards = [n for n in value if n.startswith("restartRecovery") and n not in RECOVERY and value[n]]
        assert row.guards == tuple(_clean(n) for n in guards)
    assert (row.problem is not None) == (status == "running" and not (valid and not value.twice))


def _ms(value: object) -> int | None:
    if not isinstance(value, float):
        return None
    return math.trunc(value) if abs(value) < 2**53 else 2**53


def _clean(word: object) -> Any:
    return word.encode("utf-8", "replace").decode() if isinstance(word, str) else None


def _fields_for(data: bytes, key: str) -> dict[str, str | int | bool]:
    """Four new values that follow from the bytes, so that a case found can be run again."""
    seed = zlib.crc32(data + key.encode("utf-8", "surrogatepass"))
    status = ("done", "failed", "timeout", "killed")[seed % 4]
    return {"status": status, "endedAt": seed, "runtimeMs": seed % 1000, "abortedLastRun": status == "killed"}


def check_splice(data: bytes, key: str, fields: dict[str, str | int | bool], rows: tuple[Row, ...] | None) -> None:
    """Only these fields change, or nothing is given out; and what was done can be taken back to the byte."""
    try:
        new, edit = splice(data, key, fields)
    except CannotSplice as refused:
        assert _may_refuse(data, key), f"refused ({refused}), though it can be done"
        return
    old_text, new_text = data.decode("latin-1"), new.decode("latin-1")
    row = next(place for place in places(old_text) if place.name == key)
    present = FIELDS & {place.name for place in places(old_text, row.start)}
    assert without_fields(old_text, key, present, frozenset()) == without_fields(
        new_text, key, present, FIELDS - present
    ), "a byte outside the four fields has changed"
    if depth(old_text) <= DEEP:
        before, after = (parse(text.decode("utf-8", "surrogateescape")) for text in (data, new))
        assert key not in before.twice, "a row that is there twice was changed"
        assert not before[key].twice, "a row that names a field twice was changed"
        assert after == {**before, key: {**before[key], **fields}}
    stood = {place.name: old_text[place.start : place.end] for place in places(old_text, row.start)}
    written = {name: stringify(value) for name, value in fields.items()}
    assert [c.name for c in edit.fields] == [name for name in written if stood.get(name) != written[name]]
    assert [c.before for c in edit.fields] == [stood.get(c.name) for c in edit.fields]
    assert unsplice(new, edit) == data, "it cannot be taken back to the byte"
    assert splice(new, key, fields)[0] == new, "what is settled is changed again"
    if not edit.empty:
        _refuses(data, edit)
    if rows is not None:
        spans = spans_in(data, read_pieces(data, 64), [key])
        assert spans == {key: (row.start, row.end)}, "the pieces say that it stands elsewhere"
        assert splice_rows(data, {key: fields}, spans) == (new, [edit]), "told where it stands, it is changed otherwise"
        _only_its_row_reads_otherwise(rows, read_rows(new), [p.name for p in places(old_text)].index(key), key, fields)


def _only_its_row_reads_otherwise(
    old: tuple[Row, ...], new: tuple[Row, ...], at: int, key: str, fields: dict[str, str | int | bool]
) -> None:
    row = new[at]
    if row.key == key:  # a key that is not valid Unicode is shown otherwise, and never judged
        assert (row.status, row.ended_at, row.runtime_ms, row.aborted_last_run) == tuple(fields.values())
    assert (new[:at], new[at + 1 :]) == (old[:at], old[at + 1 :])


def _refuses(data: bytes, edit: Any) -> None:
    try:
        unsplice(data, edit)
    except CannotSplice:
        return
    raise AssertionError("an edit that is not there was taken back")


def _may_refuse(data: bytes, key: str) -> bool:
    """Whether there is nothing that could be done without guessing."""
    if _deep(data):
        return True
    try:
        store = parse(data.decode("utf-8", "surrogateescape"))
    except ValueError:
        return True
    if not isinstance(store, Parsed) or key not in store or key in store.twice:
        return True
    row = store[key]
    names = [name for value in (store, row) if isinstance(value, Parsed) for name in value]
    escaped = any("\udc80" <= sign <= "\udcff" for name in names for sign in name)
    return not isinstance(row, Parsed) or not row or bool(row.twice) or escaped
