"""Three versions of a store made into one, and what of a version is missing from the live store."""

from __future__ import annotations

import json

import pytest

from app.domain.json_text import NotJson
from app.domain.merge import lost, merge

BASE = b'{\n  "a": {\n    "n": 1,\n    "m": 1\n  },\n  "b": {\n    "n": 1\n  }\n}'
ROW_A = b'"a": {\n    "n": 1,\n    "m": 1\n  }'
ROW_B = b'"b": {\n    "n": 1\n  }'


def test_what_only_one_side_changed_stands_and_keeps_its_spelling() -> None:
    into = BASE.replace(ROW_B, b'"b": {"n":1.50}')
    newer = BASE.replace(ROW_A, rb'"a": {"x":"\ud83d"}')
    merged = merge(BASE, into, newer)
    assert merged.data == BASE.replace(ROW_B, b'"b": {"n":1.50}').replace(ROW_A, rb'"a": {"x":"\ud83d"}')
    assert merged.conflicts == ()


@pytest.mark.parametrize("same", [BASE, b"{}", b'{"a":{"n":2}}'])
def test_a_merge_of_nothing_new_changes_no_byte(same: bytes) -> None:
    assert merge(BASE, same, BASE).data == same
    assert json.loads(merge(BASE, BASE, same).data) == json.loads(same)
    assert merge(BASE, same, same).data == same


@pytest.mark.parametrize(
    ("base", "into", "newer", "expected"),
    [
        ({"a": {"n": 1}}, {"a": {"n": 1}}, {"a": {"n": 1}, "b": {}}, {"a": {"n": 1}, "b": {}}),
        ({}, {}, {"b": {}}, {"b": {}}),
        ({}, {"a": {}}, {"b": {}}, {"a": {}, "b": {}}),
        ({"a": {}, "b": {}}, {"a": {}, "b": {}}, {"b": {}}, {"b": {}}),
        ({"a": {}, "b": {}}, {"a": {}, "b": {}}, {"a": {}}, {"a": {}}),
        ({"a": {}}, {"a": {}}, {}, {}),
        ({"a": {"n": 1}}, {}, {"a": {"n": 1}}, {}),
        ({"a": {"n": 1, "m": 1}}, {"a": {"n": 2, "m": 1}}, {"a": {"n": 1, "m": 2}}, {"a": {"n": 2, "m": 2}}),
        ({"a": {"n": 1}}, {"a": {"n": 1, "x": 1}}, {"a": {"n": 1, "y": 1}}, {"a": {"n": 1, "x": 1, "y": 1}}),
        ({"a": {"n": 1, "m": 1}}, {"a": {"n": 1}}, {"a": {"m": 1}}, {"a": {}}),
    ],
)
def test_added_changed_and_removed_rows_and_fields_of_both_sides(
    base: object, into: object, newer: object, expected: object
) -> None:
    for indent in (None, 2):
        versions = (json.dumps(v, indent=indent).encode() for v in (base, into, newer))
        merged = merge(*versions)
        assert json.loads(merged.data) == expected
        assert merged.conflicts == ()


def test_where_both_changed_one_field_the_newer_stands_and_the_row_is_named() -> None:
    merged = merge(b'{"a":{"n":1,"m":1}}', b'{"a":{"n":2,"m":2}}', b'{"a":{"n":3,"m":1}}')
    assert merged.data == b'{"a":{"n":3,"m":2}}'
    assert merged.conflicts == ("a",)


def test_where_both_changed_a_row_that_is_no_object_the_newer_stands() -> None:
    merged = merge(b'{"a":1}', b'{"a":2}', b'{"a":[3]}')
    assert (merged.data, merged.conflicts) == (b'{"a":[3]}', ("a",))


def test_a_field_that_the_newer_changed_stands_though_the_other_removed_it() -> None:
    merged = merge(b'{"a":{"endedAt":1,"n":1}}', b'{"a":{"n":2}}', b'{"a":{"endedAt":2,"n":1}}')
    assert json.loads(merged.data) == {"a": {"endedAt": 2, "n": 2}}


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("broken", [b"", b"[]", b'{"a":', b'{"a":1}x'])
def test_a_version_that_does_not_parse_is_not_merged(broken: bytes, position: int) -> None:
    versions = [BASE, BASE, BASE]
    versions[position] = broken
    with pytest.raises(NotJson):
        merge(*versions)


@pytest.mark.parametrize(
    ("live", "missing"),
    [
        (b'{"a":{"n":1,"m":1},"b":{"n":1}}', ("a", "c")),
        (b'{"a":{"n":2,"m":2},"b":{"n":1},"c":{}}', ()),
        (b'{"a":{"n":2,"m":2},"b":{"n":9},"c":{"x":1}}', ()),
        (b'{"a":{"n":1,"m":1},"b":{"n":9},"c":{}}', ("a",)),
        (b'{"a":{"n":2,"m":3},"b":{"n":1},"c":{}}', ()),
        (b'{"b":{"n":1},"c":{}}', ()),
    ],
    ids=["all of it", "nothing", "all moved on", "one row", "a row that moved on from it", "a row removed since"],
)
def test_lost_is_a_row_that_stands_as_it_stood_before_the_write(live: bytes, missing: tuple[str, ...]) -> None:
    base = b'{"a":{"n":1,"m":1},"b":{"n":1}}'
    held = b'{"a":{"n":2,"m":2},"b":{"n":1},"c":{}}'
    assert lost(base, held, live) == missing


def test_a_row_that_the_write_removed_is_lost_when_it_stands_again() -> None:
    assert lost(b'{"a":{"n":1}}', b"{}", b'{"a":{"n":1}}') == ("a",)
    assert lost(b'{"a":{"n":1}}', b"{}", b"{}") == ()


def test_a_write_to_a_row_is_lost_when_another_was_built_on_the_row_before_it() -> None:
    base = b'{"a":{"status":"running","label":"x","updatedAt":1}}'
    held = b'{"a":{"status":"done","endedAt":5,"label":"x","updatedAt":5}}'
    live = b'{"a":{"status":"running","label":"y","updatedAt":6}}'
    assert lost(base, held, live) == ("a",)
    assert json.loads(merge(base, held, live).data) == {
        "a": {"status": "done", "endedAt": 5, "label": "y", "updatedAt": 6}
    }
