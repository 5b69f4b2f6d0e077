"""Merging arbitrary stores: against a model of rows and fields."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.merge import lost, merge

Rows = dict[str, dict[str, int]]
names = st.sampled_from(["a", "b", "c", 'é"\\', "\ud83d"])
stores = st.dictionaries(names, st.dictionaries(names, st.integers(0, 2), max_size=4), max_size=4)
indents = st.sampled_from([None, 1, 2])
SETTINGS = settings(max_examples=200, derandomize=True, deadline=None)


def dumped(rows: Rows, indent: int | None) -> bytes:
    return json.dumps(rows, indent=indent).encode()


@SETTINGS
@given(stores, stores, stores, indents)
def test_what_only_one_side_changed_stands(base: Rows, into: Rows, newer: Rows, indent: int | None) -> None:
    merged = merge(dumped(base, indent), dumped(into, indent), dumped(newer, indent))
    rows: Rows = json.loads(merged.data)
    for key in {**base, **into, **newer}:
        if into.get(key) == base.get(key):
            assert rows.get(key) == newer.get(key)
        elif newer.get(key) == base.get(key) or newer.get(key) == into.get(key):
            assert rows.get(key) == into.get(key)
        elif key in into and key in newer:
            for name in {**base.get(key, {}), **into[key], **newer[key]}:
                was, mine, new = (version.get(key, {}).get(name) for version in (base, into, newer))
                if mine == was:
                    assert rows[key].get(name) == new
                elif new in (was, mine):
                    assert rows[key].get(name) == mine
    assert set(rows) <= {*into, *newer}


@SETTINGS
@given(stores, stores, indents)
def test_an_untouched_side_gives_the_other_one_back_to_the_byte(base: Rows, changed: Rows, indent: int | None) -> None:
    old, new = dumped(base, indent), dumped(changed, indent)
    assert merge(old, new, old).data == new
    assert json.loads(merge(old, old, new).data) == changed


@SETTINGS
@given(stores, stores, stores, indents)
def test_nothing_is_lost_once_it_is_brought_back(held: Rows, base: Rows, live: Rows, indent: int | None) -> None:
    versions: tuple[Any, Any, Any] = (dumped(base, indent), dumped(held, indent), dumped(live, indent))
    missing = lost(*versions)
    merged: Rows = json.loads(merge(*versions).data)
    for key in missing:
        for name in {**base.get(key, {}), **held.get(key, {})}:
            was, wrote, stands = (version.get(key, {}).get(name) for version in (base, held, live))
            if key in held and stands == was != wrote:
                assert merged[key].get(name) == wrote
    assert lost(versions[0], versions[1], merge(*versions).data) == ()
    assert lost(versions[0], versions[1], versions[1]) == ()
