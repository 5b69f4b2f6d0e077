"""Splicing arbitrary stores: any spacing, escapes, numbers and repetitions that JSON.parse takes."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.splice import CannotSplice, splice, unsplice

KEY = "agent:main:é"
FIELDS = ("status", "endedAt", "runtimeMs", "abortedLastRun")
SETTINGS = settings(max_examples=100, derandomize=True, deadline=None)

spaces = st.sampled_from(["", "", " ", "\n    ", "\t", "\r\n"])
scalars = st.one_of(
    st.sampled_from(
        ["1e400", "-0", "1.50", "9" * 400, "0.1e-7", "true", "false", "null", '"\\ud83d"', '"\\/\\u0041"', '"}{,:\\""']
    ),
    st.text(st.characters(exclude_categories=["Cs"])).map(lambda t: json.dumps(t, ensure_ascii=False)),
    st.text().map(json.dumps),
)
new_fields = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["done", "failed", "timeout", "killed"]),
        "endedAt": st.integers(0, 2**53),
        "runtimeMs": st.integers(0, 2**40),
        "abortedLastRun": st.booleans(),
    }
)


@st.composite
def objects(draw: st.DrawFn, names: st.SearchStrategy[list[str]], values: st.SearchStrategy[str]) -> str:
    """The text of an object whose names may stand in it twice."""
    members = [f"{name}{draw(spaces)}:{draw(spaces)}{draw(values)}" for name in draw(names)]
    return "{" + draw(spaces) + (draw(spaces) + "," + draw(spaces)).join(members) + draw(spaces) + "}"


field_names = st.sampled_from([json.dumps(n) for n in (*FIELDS, "startedAt", "x", "y\n")] + ['"st\\u0061tus"', '"z é"'])
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        objects(st.lists(field_names, max_size=3), inner),
        st.lists(inner, max_size=3).map(lambda items: "[ " + ",\n".join(items) + "]"),
    ),
    max_leaves=6,
)
rows = objects(st.lists(field_names, min_size=1, max_size=9, unique_by=json.loads), values)


@st.composite
def stores(draw: st.DrawFn) -> tuple[str, str, str]:
    """What stands before the row, the row, what stands behind it."""
    others = st.lists(st.tuples(st.sampled_from(['"a"', '"agent:main:e"', '"b"']), values), max_size=2)
    before = "".join(f"{name}:{draw(spaces)}{value}{draw(spaces)},{draw(spaces)}" for name, value in draw(others))
    behind = "".join(f"{draw(spaces)},{draw(spaces)}{name}{draw(spaces)}:{value}" for name, value in draw(others))
    key = draw(st.sampled_from([json.dumps(KEY), json.dumps(KEY, ensure_ascii=False)]))
    opening = draw(spaces) + "{" + draw(spaces) + before + key + draw(spaces) + ":" + draw(spaces)
    return opening, draw(rows), behind + draw(spaces) + "}" + draw(spaces)


def row_pattern(row: str) -> re.Pattern[str]:
    """The row, byte for byte, with any value for the four fields where they stand, or with them put in."""
    added = rf"(?:,\s*\"(?:{'|'.join(FIELDS)})\"\s*:\s*(?:\"\w+\"|\d+|true|false))*"
    pattern, decoder, at = r"\{", json.JSONDecoder(), 1
    while (found := re.compile(r"\s*,?\s*(?=\")").match(row, at)) is not None:
        name, name_end = decoder.raw_decode(row, found.end())
        colon = re.compile(r"\s*:\s*").match(row, name_end)
        assert colon is not None
        _, end = decoder.raw_decode(row, colon.end())
        value = r"(?:\"\w+\"|\d+|true|false)" if name in FIELDS else re.escape(row[colon.end() : end])
        pattern += re.escape(row[at : colon.end()]) + value + added
        at = end
    return re.compile(pattern + re.escape(row[at:]))


@SETTINGS
@given(stores(), new_fields)
def test_every_byte_outside_the_four_fields_stays_and_the_fields_say_what_they_should(
    store: tuple[str, str, str], fields: dict[str, Any]
) -> None:
    opening, row, closing = store
    new, _ = splice((opening + row + closing).encode(), KEY, fields)
    text = new.decode()
    assert text.startswith(opening)
    assert text.endswith(closing)
    assert row_pattern(row).fullmatch(text[len(opening) : len(text) - len(closing)])
    before, after = json.loads(opening + row + closing), json.loads(text)
    assert after == {**before, KEY: {**before[KEY], **fields}}
    assert [k for k in after[KEY] if k not in FIELDS] == [k for k in before[KEY] if k not in FIELDS]


@SETTINGS
@given(stores(), new_fields)
def test_unsplice_gives_the_store_back_byte_for_byte(store: tuple[str, str, str], fields: dict[str, Any]) -> None:
    old = "".join(store).encode()
    assert unsplice(*splice(old, KEY, fields)) == old


@SETTINGS
@given(stores(), new_fields)
def test_what_is_settled_already_is_not_changed_again(store: tuple[str, str, str], fields: dict[str, Any]) -> None:
    once, _ = splice("".join(store).encode(), KEY, fields)
    again, edit = splice(once, KEY, fields)
    assert (again, edit.empty) == (once, True)


@SETTINGS
@given(stores(), new_fields, st.integers(0, 400), st.sampled_from(list('{}[]",:0a')))
def test_a_damaged_store_is_refused_or_only_its_row_is_changed(
    store: tuple[str, str, str], fields: dict[str, Any], at: int, sign: str
) -> None:
    text = "".join(store)
    at %= len(text)
    damaged = text[:at] + sign + text[at + 1 :]
    try:
        new, edit = splice(damaged.encode(), KEY, fields)
    except CannotSplice:
        return
    assert unsplice(new, edit) == damaged.encode()
    before, after = json.loads(damaged), json.loads(new)
    assert after == {**before, KEY: {**before[KEY], **fields}}
