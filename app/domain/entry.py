"""The entry of a row in a database (`entry_json`), changed as its text: no byte that is not ours to change is changed.

From the text follow the columns that the gateway keeps beside it (spec 2026.9.6, sections 2.4, 2.5 and 3.2).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from app.domain.json_text import Member, NotJson, document, text_of
from app.domain.model import RUNNING, TERMINAL_STATUSES, Settlement
from app.domain.splice import CannotSplice, Edit, FieldEdit, splice, unsplice

_BOX = b'{"entry":'


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry and its columns. Times are epoch ms."""

    text: bytes
    session_id: str
    status: str | None
    """As the column has it: `interrupted` stands there as `failed`."""
    updated_at: int
    started_at: int | None
    ended_at: int | None
    run_id: str | None
    """`lifecycleRunId`: the run that keeps it running."""


def entry_of(text: bytes) -> Entry:
    """Raises CannotSplice where OpenClaw would not take `text` for a valid entry, or a column could not hold it."""
    found = _members(text)
    session_id, updated_at = found.get("sessionId"), _whole(found, "updatedAt")
    if not isinstance(session_id, str) or not session_id or updated_at is None:
        raise CannotSplice("the entry has no sessionId or no updatedAt")
    status = found.get("status")
    if status == "interrupted":
        status = "failed"
    if status is not None and status not in (RUNNING, *TERMINAL_STATUSES):
        raise CannotSplice("the entry has a status that its column does not know")
    run_id = found.get("lifecycleRunId")
    return Entry(
        text,
        session_id,
        status,
        updated_at,
        _whole(found, "startedAt"),
        _whole(found, "endedAt"),
        run_id if isinstance(run_id, str) else None,
    )


def settled_entry(text: bytes, settlement: Settlement, run_id: str) -> bytes:
    """`text` as the gateway would have left it at the end of the run `run_id`.

    The four fields; `updatedAt`, which does not go back; and the run is no longer the one that is under way
    (`lifecycleRunId`) but the last one (`lastRunId`). Raises CannotSplice where this run does not keep it running.
    """
    before = entry_of(text)
    if before.status != RUNNING or before.run_id != run_id:
        raise CannotSplice("this run does not keep the row running")
    if before.ended_at is not None:
        raise CannotSplice("the row runs on by intent: it has an endedAt")
    if before.updated_at <= 0:
        raise CannotSplice("the row waits for a reset of the session (its updatedAt is 0)")
    fields = {**settlement.as_fields(), "updatedAt": max(before.updated_at, settlement.ended_at)}
    spliced, _ = splice(_BOX + text + b"}", "entry", fields)
    return _name_the_last_run(spliced[len(_BOX) : -1])


def entry_edit(key: str, before: bytes, after: bytes) -> Edit:
    """What is another in `after` than in `before`, field by field, by their texts. Raises CannotSplice."""
    old, new = _texts(before), _texts(after)
    names = dict.fromkeys([*old, *new])
    changes = (FieldEdit(name, old.get(name), new.get(name)) for name in names)
    return Edit(key, tuple(each for each in changes if each.before != each.after))


def restored_entry(text: bytes, edit: Edit) -> bytes:
    """`text` with a settlement taken back, whoever of us made it. Raises CannotSplice where one of its fields is no
    longer what the settlement left there.

    `updatedAt` is taken back only where nobody has written since: the call that tells a gateway sets it to now.
    """
    found, by_name = _texts(text), {change.name: change for change in edit.fields}
    run, last = by_name.pop("lifecycleRunId", None), by_name.pop("lastRunId", None)
    written = by_name.get("updatedAt")
    if written is not None and found.get("updatedAt") != written.after:
        del by_name["updatedAt"]
    boxed = unsplice(_BOX + text + b"}", Edit("entry", tuple(by_name.values())))
    restored = boxed[len(_BOX) : -1]
    if run is None and last is None:
        return restored
    if run is None or last is None or (run.before, run.after, last.before) != (last.after, None, None):
        raise CannotSplice("the repair has not left the run of the turn as a settlement does")
    if found.get("lastRunId") != last.after or "lifecycleRunId" in found:
        raise CannotSplice("lastRunId is no longer what the repair wrote")
    return _rename(restored, "lastRunId", "lifecycleRunId")


def _name_the_last_run(text: bytes) -> bytes:
    """A start takes `lastRunId` away: where both are there, something has happened that is not known to us."""
    if "lastRunId" in _texts(text):
        raise CannotSplice("the row names a last run while one is under way")
    return _rename(text, "lifecycleRunId", "lastRunId")


def _rename(text: bytes, name: str, new: str) -> bytes:
    member = next(m for m in document(text.decode("latin-1")) if m.name == name)
    return text[: member.name_start] + json.dumps(new).encode() + text[member.name_end :]


def _texts(text: bytes) -> dict[str, str]:
    """The fields, their values as they stand there."""
    latin = text.decode("latin-1")
    try:
        inner = list(document(latin))
    except NotJson as error:
        raise CannotSplice(f"the entry cannot be changed: {error}") from None
    if len({m.name for m in inner}) != len(inner):
        raise CannotSplice("the entry names a field twice")
    return {m.name: latin[m.value_start : m.value_end] for m in inner}


def _members(text: bytes) -> dict[str, Any]:
    """The fields, their values as parsed; strings decoded as the UTF-8 that they are."""
    latin = text.decode("latin-1")
    try:
        inner = list(document(latin))
        found = {m.name: _value(latin, m) for m in inner}
    except NotJson as error:
        raise CannotSplice(f"the entry cannot be changed: {error}") from None
    if len(found) != len(inner):
        raise CannotSplice("the entry names a field twice")
    return found


def _value(latin: str, member: Member) -> Any:
    if isinstance(member.value, str) and not member.value.isascii():
        return text_of(latin, member.value_start, member.value_end)
    return member.value


def _whole(found: dict[str, Any], name: str) -> int | None:
    value = found.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 53:
        raise CannotSplice(f"the entry's {name} is not a time in whole milliseconds")
    return value
