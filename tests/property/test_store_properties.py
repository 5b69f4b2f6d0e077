"""Arbitrary stores, whole or flawed: what is read is what JSON.parse reads, and what is changed is four fields."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.json_text import NotJson, Span, document, document_in
from app.domain.splice import CannotSplice, splice, unsplice
from app.openclaw.folder import Folder
from app.openclaw.sessions_file import read_store
from app.openclaw.sessions_json import StoreProblem, pieces_in, read_rows, rows_of, spans_in
from tests.faults.nonsense import grown
from tests.faults.nonsense.json_parse import Parsed, parse, places, stringify
from tests.faults.nonsense.store_claims import FIELDS, check_rows, check_store

SETTINGS = settings(max_examples=120, derandomize=True, deadline=None)
SETTLED: dict[str, str | int | bool] = {"status": "failed", "endedAt": 7, "runtimeMs": 3, "abortedLastRun": False}


@st.composite
def stores(draw: st.DrawFn, *, flaws: bool = False) -> bytes:
    def below(n: int) -> int:
        return draw(st.integers(0, n - 1))

    data = grown.store(below)
    return grown.flawed(below, data) if flaws else data


@SETTINGS
@given(stores())
def test_a_store_is_read_as_json_reads_it_and_four_fields_are_changed_or_nothing(data: bytes) -> None:
    check_store(data)


@SETTINGS
@given(stores(flaws=True))
@example(b'{"\xff": {}, "k": {"status": "running"}}')
@example(b'{"k": {"status": "running", "\xff": 1}}')
@example(b'{"k": {"status": "running", "x": "\xff"}}')
@example('{"k": {"status": "é"}}'.encode())
@example('{"k": {"status": "\ufeff", "sessionFile": "é"}}'.encode())
@example(b'\xef\xbb\xbf{"k": {"status": "running"}}')
@example('{"k": {"status": "running"}}'.encode("utf-16"))
@example(b'{"k": {"status": "running"}, "k": {"status": "running"}}')
@example(b'{"k": {"status": "running", "status": "running"}}')
@example(b'{"a": {"x": NaN}, "k": {"status": "running"}}')
@example(b'{"k": {"status": "running"}}\x0b')
def test_a_flawed_store_is_refused_with_a_word_or_read_as_json_reads_it(data: bytes) -> None:
    check_store(data)


@SETTINGS
@given(st.booleans().flatmap(lambda flaws: stores(flaws=flaws)) | st.binary(max_size=60), st.integers(1, 90))
@example(b'{"k": 12}', 7)
@example(b'{"k": 1.5, "l": 1e5 , "m": -1}', 2)
@example(b'{"k": 12', 90)
@example(b'{"k": {}} x', 1)
@example(b'{"k": {}}\x0b', 90)
@example(b'{"k": {},}', 3)
@example(b'{"k": {} "l": {}}', 4)
@example(b'{"k": {}x"l": {}}', 90)
@example(b" { } ", 1)
def test_in_pieces_of_any_size_the_members_are_those_of_the_whole(data: bytes, piece: int) -> None:
    def whole() -> list[tuple[str, str, Any]]:
        text = data.decode("latin-1")
        return [(m.name, text[m.name_start : m.value_end], repr(m.value)) for m in document(text)]

    def in_pieces() -> list[tuple[str, str, Any]]:
        found = document_in(data, piece=piece)
        return [(m.name, text[m.name_start : m.value_end], repr(m.value)) for text, m, _ in found]

    try:
        wanted = whole()
    except NotJson:
        with pytest.raises(NotJson):
            in_pieces()
    else:
        assert in_pieces() == wanted


@SETTINGS
@given(stores(), st.integers(1, 90), st.integers(0, 255))
@example(b'{"a": {"b": {}}, "b" : {} }', 1, 3)
@example(b' {"a":{},"b":[1]}', 8, 2)
@example('{"é": {"x": "é"}, "\\u00e9x": 1}'.encode(), 3, 3)
def test_in_pieces_of_any_size_each_row_is_found_where_it_stands_in_the_whole(
    data: bytes, size: int, some: int
) -> None:
    stands = {m.name: Span(m.value_start, m.value_end) for m in document(data.decode("latin-1"))}
    asked = [key for number, key in enumerate(stands) if some >> number & 1]
    found = spans_in(data, pieces_in(data, size), [*asked, "nowhere"])
    assert found == {key: stands[key] for key in asked}


@st.composite
def versions(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A store, and what it is after a write: a stretch of it is gone, repeated, or something else."""
    old = draw(stores())
    start = draw(st.integers(0, len(old)))
    end = draw(st.integers(start, min(len(old), start + 40)))
    there = draw(
        st.sampled_from((b"", old[start:end] * 2, b'"n": {},', b', "n": {}', b" ", b"7")) | st.binary(max_size=9)
    )
    return old, old[:start] + there + old[end:]


@SETTINGS
@given(versions(), st.integers(1, 60))
@example((b'{"a": {}, "b": {}}', b', "b": {}}'), 1)
@example((b'{"a": 1, "b": 2}', b'{"a": 12, "b": 2}'), 1)
@example((b'{"a": 1, "b": 2, "c": 3}', b'{"a": 1, "c": 3}'), 1)
@example((b'{"a": 1, "b": 2, "c": 3}', b'{"a": 1, "b": 2'), 1)
@example((b'{"a": 1, "b": 2, "c": 3}', b'{"a": 1, "b": 2, "b": 2, "c": 3}'), 1)
@example((b'{"a": 1, "b": 2, "c": 3}', b'{"a": 1, "b": 2, "d": 2, "c": 3}'), 1)
@example((b'{"a": 1, "b": "x", "c": 3}', b'{"a": 1, "b": "x, "c": 3}'), 1)
@example((b'{"a": 1, "b": 2, "c": 3}', b'{"a": 1, "b": {"x": 2, "c": 3}'), 1)
@example((b'{"a": 1, "b": 2}', b'{"a": 1, "b": 2}}'), 1)
@example((b'{"a": 1, "b": 2}', b'{"a": 1}, "b": 2}'), 1)
@example((b'{"a": 1, "b": 2}', b'{"a": 1, "\xff": 3, "b": 2}'), 1)
def test_a_version_read_on_the_one_before_says_what_it_says_by_itself(pair: tuple[bytes, bytes], size: int) -> None:
    old, new = pair
    with TemporaryDirectory() as there, Folder(there) as folder:
        file = Path(there, "store")
        file.write_bytes(old)
        try:
            before = read_store(folder, "store", len(old), size=size)[0]
        except StoreProblem:
            before = ()
        file.write_bytes(new)
        try:
            wanted = read_rows(new)
        except StoreProblem as problem:
            with pytest.raises(StoreProblem) as caught:
                read_store(folder, "store", len(new), before, size)
            assert (caught.value.code, caught.value.detail) == (problem.code, problem.detail)
            return
        pieces = read_store(folder, "store", len(new), before, size)[0]
    assert rows_of(pieces) == wanted
    assert sum(piece.size for piece in pieces) == len(new)


@SETTINGS
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_bytes_that_are_no_store_at_all_have_a_word_for_it(data: bytes) -> None:
    check_rows(data)
    check_rows(b"{" + data + b"}")


@pytest.mark.parametrize("label", ["", "é"])
def test_at_no_depth_does_anything_else_come_out_than_a_row_or_a_word(label: str) -> None:
    """Where the stack ends depends on who calls, so every depth around it is tried."""
    for deep in range(840, 1000):
        inner = "[" * deep + "]" * deep
        data = f'{{"k":{{"sessionId":"s-1","status":"running","label":"{label}","x":{inner}}}}}'.encode()
        try:
            (row,) = read_rows(data)
            assert row.status == "running"
        except StoreProblem as problem:
            assert problem.code == "not_json"
        try:
            new, edit = splice(data, "k", SETTLED)
        except CannotSplice:
            continue
        assert unsplice(new, edit) == data


def settled(data: bytes) -> Any:
    """A store in which one row could be settled: its key, its value before, what was done, what stands there now."""
    try:
        store = parse(data.decode())
    except (ValueError, RecursionError):
        return None
    for key in store if isinstance(store, Parsed) and not store.twice else ():
        try:
            new, edit = splice(data, key, SETTLED)
        except CannotSplice:
            continue
        return key, store, edit, new
    return None


@SETTINGS
@given(stores())
def test_an_edit_is_taken_back_though_the_gateway_has_written_the_store_anew(data: bytes) -> None:
    """It parses and dumps: spacing, escapes and the text of numbers are its own then."""
    found = settled(data)
    if found is None:
        return
    key, store, edit, new = found
    rewritten = stringify(parse(new.decode()))
    before = parse(unsplice(rewritten.encode(), edit).decode())
    expected = parse(stringify(store))
    for change in edit.fields:
        if change.before is not None:
            expected[key][change.name] = parse(change.before.encode("latin-1").decode())
    assert before == expected


@SETTINGS
@given(
    stores(),
    st.sampled_from(sorted(FIELDS)),
    st.sampled_from(['"running"', "8", "3.0", "true", "null", '"fail\\u0065d"']),
)
def test_an_edit_is_not_taken_back_where_one_of_its_fields_says_something_else(
    data: bytes, name: str, now: str
) -> None:
    found = settled(data)
    if found is None:
        return
    key, _, edit, new = found
    text = new.decode("latin-1")
    row = next(p for p in places(text) if p.name == key)
    place = next(p for p in places(text, row.start) if p.name == name)
    if name not in [change.name for change in edit.fields] or json.dumps(SETTLED[name]) == now:
        return
    changed = (text[: place.start] + now + text[place.end :]).encode("latin-1")
    with pytest.raises(CannotSplice):
        unsplice(changed, edit)
