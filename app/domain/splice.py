"""Changing a few fields of one row and not one other byte of the store.

An `Edit` knows, for every field, the raw text that stood there and the raw text that stands there now, so that the
same edit can be taken back byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from app.domain.json_text import Member, NotJson, Span, document


class CannotSplice(ValueError):
    """The row is not there, or not in a shape that can be changed without guessing."""


@dataclass(frozen=True, slots=True)
class FieldEdit:
    """One field. `before` is None where it was absent; `inserted` is then all that was put in, with its comma."""

    name: str
    before: str | None
    after: str | None
    inserted: str | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """What was done to one row, in the order in which it was done."""

    key: str
    fields: tuple[FieldEdit, ...]

    @property
    def empty(self) -> bool:
        return not self.fields


def splice(data: bytes, key: str, fields: dict[str, str | int | bool]) -> tuple[bytes, Edit]:
    """`data` with `fields` of the row `key` set. Every other byte stays what it was.

    A field that is absent is put behind the one before it in `fields`, in the spacing of the member it follows.
    Raises CannotSplice.
    """
    new, edits = splice_rows(data, {key: fields})
    return new, edits[0]


def splice_rows(
    data: bytes, rows: dict[str, dict[str, str | int | bool]], spans: Mapping[str, Span] | None = None
) -> tuple[bytes, list[Edit]]:
    """The same for several rows, by their keys, in one go; the edits are in the order of `rows`. Raises CannotSplice
    where one of them cannot be changed.

    `spans`: where the rows of exactly this `data` stand, for whoever knows; else it is parsed for that.
    """
    at = _spans(data, rows, spans)
    edited = {key: _edited(_text(data, at[key]), key, rows[key]) for key in rows}
    return _with_rows(data, [(at[key], edited[key][0]) for key in rows]), [edited[key][1] for key in rows]


def _edited(row: str, key: str, fields: dict[str, str | int | bool]) -> tuple[str, Edit]:
    edits: list[FieldEdit] = []
    previous: str | None = None
    for name, value in fields.items():
        inner = _fields(row)
        raw = json.dumps(value)
        present = next((m for m in inner if m.name == name), None)
        if present is None:
            anchor = _anchor(inner, name, previous)
            inserted = _like(row, inner, anchor, name, raw)
            row = row[: anchor.value_end] + inserted + row[anchor.value_end :]
            edits.append(FieldEdit(name, None, raw, inserted))
        elif (before := row[present.value_start : present.value_end]) != raw:
            row = row[: present.value_start] + raw + row[present.value_end :]
            edits.append(FieldEdit(name, before, raw))
        previous = name
    return row, Edit(key, tuple(edits))


def unsplice(data: bytes, edit: Edit, spans: Mapping[str, Span] | None = None) -> bytes:
    """`data` with `edit` taken back; `spans` as `splice_rows` has it. Raises CannotSplice where a field is no longer
    what the edit left there.
    """
    span = _spans(data, [edit.key], spans)[edit.key]
    row = _text(data, span)
    for change in reversed(edit.fields):
        inner = _fields(row)
        index = next((i for i, m in enumerate(inner) if m.name == change.name), None)
        if index is None or row[inner[index].value_start : inner[index].value_end] != change.after:
            raise CannotSplice(f"{change.name} is no longer what the repair wrote")
        member = inner[index]
        if change.before is not None:
            row = row[: member.value_start] + change.before + row[member.value_end :]
        elif index == 0 and len(inner) == 1:
            raise CannotSplice("nothing else is left in the row")
        elif index == 0:
            row = row[: member.name_start] + row[inner[1].name_start :]
        else:
            row = row[: inner[index - 1].value_end] + row[member.value_end :]
    return _with_rows(data, [(span, row)])


def _text(data: bytes, span: Span) -> str:
    return data[span.start : span.end].decode("latin-1")


def _with_rows(data: bytes, rows: list[tuple[Span, str]]) -> bytes:
    """`data` with each of `rows` in the place of the value at its span, copied once."""
    view, at = memoryview(data), 0
    parts: list[bytes | memoryview] = []
    for span, row in sorted(rows):
        parts += [view[at : span.start], row.encode("latin-1")]
        at = span.end
    return b"".join((*parts, view[at:]))


def _spans(data: bytes, keys: Collection[str], known: Mapping[str, Span] | None) -> Mapping[str, Span]:
    """Where the rows of `keys` stand, or CannotSplice: one is absent, or what `_found` says."""
    spans = _found(data.decode("latin-1"), keys) if known is None else known
    if any(key not in spans for key in keys):
        raise CannotSplice("the store has no such session any more")
    return spans


def _found(text: str, keys: Collection[str]) -> dict[str, Span]:
    """The spans of `keys`, or CannotSplice: the store does not parse, or one of them is twice there."""
    found: dict[str, Span] = {}
    try:
        for member in document(text):
            if member.name in found:
                raise CannotSplice("the store names this session twice")
            if member.name in keys:
                found[member.name] = Span(member.value_start, member.value_end)
    except NotJson as error:
        raise CannotSplice(f"the store does not parse: {error}") from None
    return found


def _fields(row: str) -> list[Member]:
    try:
        inner = list(document(row))
    except NotJson as error:
        raise CannotSplice(f"the row cannot be changed: {error}") from None
    names = [m.name for m in inner]
    if len(set(names)) != len(names):
        raise CannotSplice("the row names a field twice")
    return inner


def _anchor(row: list[Member], name: str, previous: str | None) -> Member:
    """The member to stand behind: where the gateway itself puts the field (status, startedAt, endedAt, runtimeMs)."""
    if not row:
        raise CannotSplice("the row is empty")
    wanted = ("startedAt", "status") if name == "endedAt" else (previous, "startedAt", "status")
    by_name = {m.name: m for m in row}
    return next((by_name[w] for w in wanted if w in by_name), row[-1])


def _like(text: str, row: list[Member], anchor: Member, name: str, raw: str) -> str:
    """`,"name":raw` in the spacing of `anchor`."""
    index = row.index(anchor)
    if index > 0:
        between = text[row[index - 1].value_end : anchor.name_start]
        space = between[between.index(",") + 1 :]
    else:
        opening = text.rindex("{", 0, anchor.name_start)
        space = text[opening + 1 : anchor.name_start]
    colon = text[anchor.name_end : anchor.value_start]
    return f",{space}{json.dumps(name)}{colon}{raw}"
