"""Three versions of one store made into one, row by row: for the moment in which a gateway write and ours crossed.

`newer` was written on top of `base`; `into` holds a write that `newer` may not have seen. What `newer` changed of
`base` is carried over into `into`; what only `into` changed stays. Where both changed the same row, its fields are
merged the same way, and where both changed the same field, `newer` stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.json_text import Member, NotJson, document
from app.domain.model import SETTLED_FIELDS


@dataclass(frozen=True, slots=True)
class Merged:
    """`data` is the merged store; `conflicts` names the rows of which both sides changed one field."""

    data: bytes
    conflicts: tuple[str, ...] = ()


def merge(base: bytes, into: bytes, newer: bytes) -> Merged:
    """Carry the changes `base` -> `newer` over into `into`. Raises NotJson when one of them does not parse."""
    merged, conflicts = _merge_objects(
        base.decode("latin-1"), into.decode("latin-1"), newer.decode("latin-1"), deep=True
    )
    return Merged(merged.encode("latin-1"), tuple(conflicts))


def lost(base: bytes, held: bytes, live: bytes) -> tuple[str, ...]:
    """Keys of the rows whose write in `held` is missing from `live`, both having begun with `base`.

    It is missing where the whole row stands as in `base`; and where its lifecycle does, though `held` changed it, since
    a later turn would have changed `startedAt` as well. Of other fields it cannot be told whether the gateway has taken
    them back itself (a `pendingFinalDelivery` that was delivered): they are left as they are.
    """
    old, new, now = (_texts(d.decode("latin-1")) for d in (base, held, live))
    changed = [k for k in {**old, **new} if old.get(k) != new.get(k)]
    return tuple(k for k in changed if now.get(k) == old.get(k) or _set_back(old.get(k), new.get(k), now.get(k)))


_ONE_WRITE = ("startedAt", *SETTLED_FIELDS)
"""What the gateway writes together at the start and at the end of a turn."""


def _set_back(old: str | None, new: str | None, now: str | None) -> bool:
    if old is None or new is None or now is None or not all(t.startswith("{") for t in (old, new, now)):
        return False
    before, held, live = ([fields.get(n) for n in _ONE_WRITE] for fields in map(_texts, (old, new, now)))
    return live == before != held


def made_from(key: str, versions: Sequence[bytes], descendant: bytes) -> bytes:
    """Of `versions`, the one that the gateway changed into `descendant`. Raises NotJson.

    What it made of our own row (`key`) tells best whether it had read ours; otherwise the nearest one is taken. A
    version equal to `descendant` is not meant: the gateway writes nothing that changes nothing.
    """
    other = [v for v in versions if v != descendant] or list(versions)
    rows = {v: _texts(v.decode("latin-1")) for v in (*other, descendant)}
    now = rows[descendant]
    same = [v for v in other if rows[v].get(key) == now.get(key)] or other
    return min(same, key=lambda v: sum(_distance(rows[v].get(k), now.get(k)) for k in {**rows[v], **now} if k != key))


def _distance(one: str | None, other: str | None) -> int:
    """How many fields differ."""
    if one == other:
        return 0
    if one is None or other is None or not (one.startswith("{") and other.startswith("{")):
        return 1
    a, b = _texts(one), _texts(other)
    return sum(a.get(n) != b.get(n) for n in {**a, **b})


def _texts(text: str) -> dict[str, str]:
    return {m.name: text[m.value_start : m.value_end] for m in document(text)}


def _merge_objects(base: str, into: str, newer: str, *, deep: bool) -> tuple[str, list[str]]:
    old, mine, new = _texts(base), _texts(into), _texts(newer)
    conflicts: list[str] = []
    out = into
    together: tuple[str, ...] = ()
    if not deep and any(new.get(n) != old.get(n) for n in _ONE_WRITE):
        together = _ONE_WRITE  # a turn's start and its end must not be mixed: that would make a row that never was
    for key in {**old, **new, **dict.fromkeys(together)}:
        unchanged = new.get(key) == old.get(key) and key not in together
        if unchanged or new.get(key) == mine.get(key):
            continue
        value = new.get(key)
        if value is not None and mine.get(key) != old.get(key):
            if deep and key not in mine:
                continue  # a row that was removed is not brought back
            both = (old.get(key, "{}"), mine.get(key, ""), value)
            if deep and all(t.startswith("{") for t in both):
                value, inner = _merge_objects(*both, deep=False)
                conflicts += [key] if inner else []
            else:
                conflicts.append(key)
        out = _put(out, key, value, newer)
    return out, conflicts


def _put(text: str, key: str, value: str | None, donor: str) -> str:
    """`text` with the member `key` set to the raw `value`, or taken out where that is None."""
    row = list(document(text))
    index = next((i for i, m in enumerate(row) if m.name == key), None)
    if index is not None and value is not None:
        return text[: row[index].value_start] + value + text[row[index].value_end :]
    if index is not None:
        return _without(text, row, index)
    if value is None:
        return text
    source = next(m for m in document(donor) if m.name == key)
    member = donor[source.name_start : source.value_start] + value
    if not row:
        brace = text.index("{")
        return text[: brace + 1] + member + text[brace + 1 :]
    if len(row) > 1:
        space = text[row[-2].value_end : row[-1].name_start]
    else:
        space = "," + text[text.index("{") + 1 : row[0].name_start]
    return text[: row[-1].value_end] + space + member + text[row[-1].value_end :]


def _without(text: str, row: list[Member], index: int) -> str:
    if index > 0:
        return text[: row[index - 1].value_end] + text[row[index].value_end :]
    if len(row) > 1:
        return text[: row[0].name_start] + text[row[1].name_start :]
    return text[: text.index("{") + 1] + text[row[0].value_end :].lstrip(" \t\r\n")


__all__ = ["Merged", "NotJson", "lost", "merge"]
