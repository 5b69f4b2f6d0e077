"""Changing four fields of one row, by hand-made examples; tests/property has the arbitrary stores."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from app.domain.json_text import Span
from app.domain.splice import CannotSplice, Edit, FieldEdit, splice, splice_rows, unsplice

KEY = "agent:main:a"
FIELDS: dict[str, str | int | bool] = {"status": "done", "endedAt": 200, "runtimeMs": 100, "abortedLastRun": False}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param(
            b'{"status":"running","startedAt":100,"x":1}',
            b'{"status":"done","startedAt":100,"endedAt":200,"runtimeMs":100,"abortedLastRun":false,"x":1}',
            id="absent fields stand behind startedAt, as the gateway puts them",
        ),
        pytest.param(
            b'{"abortedLastRun":true,"endedAt":1,"runtimeMs":2,"status":"running"}',
            b'{"abortedLastRun":false,"endedAt":200,"runtimeMs":100,"status":"done"}',
            id="fields that are there keep their place",
        ),
        pytest.param(
            b'{\n    "status": "running",\n    "startedAt": 100\n  }',
            b'{\n    "status": "done",\n    "startedAt": 100,\n    "endedAt": 200,\n    "runtimeMs": 100,\n'
            b'    "abortedLastRun": false\n  }',
            id="the gateway's own indentation",
        ),
        pytest.param(
            b'{ "status" : "running" }',
            b'{ "status" : "done", "endedAt" : 200, "runtimeMs" : 100, "abortedLastRun" : false }',
            id="spaces before the colon",
        ),
        pytest.param(
            b'{"x":1}',
            b'{"x":1,"status":"done","endedAt":200,"runtimeMs":100,"abortedLastRun":false}',
            id="a row with none of them",
        ),
        pytest.param(
            b'{"deep":{"status":"running","endedAt":1},"status":"running","list":[{"status":"running"}]}',
            b'{"deep":{"status":"running","endedAt":1},"status":"done","endedAt":200,"runtimeMs":100,'
            b'"abortedLastRun":false,"list":[{"status":"running"}]}',
            id="the same names deeper down are not touched",
        ),
        pytest.param(
            b'{"st\\u0061tus":"running","endedAt":1,"runtimeMs":1,"abortedLastRun":false}',
            b'{"st\\u0061tus":"done","endedAt":200,"runtimeMs":100,"abortedLastRun":false}',
            id="a name written with an escape",
        ),
    ],
)
def test_only_the_four_fields_change_and_unsplice_takes_it_back(row: bytes, expected: bytes) -> None:
    store = b'{"agent:main:b":{"status":"running"},"agent:main:a":' + row + b',"z":{"status":"running"}}'
    new, edit = splice(store, KEY, FIELDS)
    assert new == store.replace(row, expected)
    assert unsplice(new, edit) == store


@pytest.mark.parametrize(
    "raw",
    [
        rb'"\ud83d"',
        rb'"\ud83d\ude00\u00e9"',
        b'"' + "😀é\u2028".encode() + b'"',
        b"1.0",
        b"-0",
        b"1E400",
        b"12345678901234567890123456789.0001",
        rb'"\/"',
        b'{"a":1,"a":2}',
        b'"\x7f"',
    ],
)
def test_what_a_parse_and_dump_would_rewrite_stays_as_it_is(raw: bytes) -> None:
    store = b'{"agent:main:a":{"v":' + raw + b',"status":"running"},"other":' + raw + b"}\r\n"
    new, edit = splice(store, KEY, {"status": "done"})
    assert new == store.replace(b'"status":"running"', b'"status":"done"')
    assert unsplice(new, edit) == store


def test_a_number_of_any_length_is_taken_as_JSON_parse_takes_it() -> None:
    store = b'{"agent:main:a":{"status":"running"},"other":' + b"9" * 5_000 + b"}"
    assert splice(store, KEY, {"status": "done"})[0] == store.replace(b"running", b"done")


@pytest.mark.parametrize("key", ["agent:main:é😀", "agent:main:\ud83d", 'agent:main:"\\\n'])
def test_a_key_is_found_however_it_is_written(key: str) -> None:
    for ascii_only in (True, False):
        text = json.dumps({key: {"status": "running"}}, ensure_ascii=ascii_only)
        try:
            store = text.encode()
        except UnicodeEncodeError:
            continue  # a lone surrogate can only be written as an escape
        assert splice(store, key, {"status": "done"})[0] == store.replace(b"running", b"done")


@pytest.mark.parametrize(
    ("store", "why"),
    [
        (b"{}", "no such session"),
        (b'{"agent:main:A":{"status":"running"}}', "no such session"),
        (b'{"agent:main:a":{"status":"running"},"agent:main:a":{"status":"running"}}', "twice"),
        (b'{"agent:main:a":{"status":"running"},"agent:main:\\u0061":{}}', "twice"),
        (b'{"agent:main:a":{"status":"running","status":"done"}}', "twice"),
        (b'{"agent:main:a":{"x":1,"\\u0078":2,"status":"running"}}', "twice"),
        (b'{"agent:main:a":["running"]}', "object"),
        (b'{"agent:main:a":null}', "object"),
        (b'{"agent:main:a":{}}', "empty"),
        (b'{"agent:main:a":{"status":"running"}', "parse"),
        (b'{"agent:main:a":{"status":"running"}} {}', "parse"),
        (b'{"agent:main:a":{"status":"running"},}', "parse"),
        (b'{"agent:main:a":{"status":"running"},"x":NaN}', "parse"),
        (b'{"agent:main:a":{"status":"running"},"x":-Infinity}', "parse"),
        (b'{"agent:main:a":{"status":"running"},"x":01}', "parse"),
        (b'{"agent:main:a":{"status":"running"},"x":"\n"}', "parse"),
        (b'{"agent:main:a":{"status":"running"},"x":"\\x"}', "parse"),
        (b'{"agent:main:a":{"status":"running"},"x":' + b"[" * 200_000, "parse"),
        (b'\xef\xbb\xbf{"agent:main:a":{"status":"running"}}', "parse"),
        (b'\xa0{"agent:main:a":{"status":"running"}}', "parse"),
        (b'[{"agent:main:a":{"status":"running"}}]', "parse"),
        (b"", "parse"),
    ],
)
def test_a_store_or_row_that_would_have_to_be_guessed_at_is_refused(store: bytes, why: str) -> None:
    with pytest.raises(CannotSplice, match=why):
        splice(store, KEY, FIELDS)


@pytest.mark.parametrize(
    "moved_on",
    [
        b'{"agent:main:a":{"status":"done","startedAt":1,"endedAt":201,"runtimeMs":100,"abortedLastRun":false}}',
        b'{"agent:main:a":{"status":"running","startedAt":1,"abortedLastRun":false}}',
        b'{"agent:main:a":{"status":"done","startedAt":1,"endedAt":200.0,"runtimeMs":100,"abortedLastRun":false}}',
        b'{"agent:main:b":{"status":"done"}}',
        b"{",
    ],
)
def test_an_edit_is_not_taken_back_from_a_row_that_has_moved_on(moved_on: bytes) -> None:
    _, edit = splice(b'{"agent:main:a":{"status":"running","startedAt":1}}', KEY, FIELDS)
    with pytest.raises(CannotSplice):
        unsplice(moved_on, edit)


def test_an_edit_is_taken_back_from_what_the_gateway_wrote_around_it() -> None:
    _, edit = splice(b'{"agent:main:a":{"status":"running","startedAt":1}}', KEY, FIELDS)
    rewritten = (
        b'{\n  "agent:main:a": {\n    "abortedLastRun": false,\n    "status": "done",\n    "startedAt": 1,\n'
        b'    "endedAt": 200,\n    "runtimeMs": 100,\n    "label": "new"\n  }\n}'
    )
    expected = b'{\n  "agent:main:a": {\n    "status": "running",\n    "startedAt": 1,\n    "label": "new"\n  }\n}'
    assert unsplice(rewritten, edit) == expected


def test_a_row_of_nothing_but_an_inserted_field_is_refused_and_no_accident() -> None:
    edit = Edit(KEY, (FieldEdit("endedAt", None, "200", ',"endedAt":200'),))
    with suppress(CannotSplice):
        assert unsplice(b'{"agent:main:a":{"endedAt":200}}', edit) == b'{"agent:main:a":{}}'


def test_what_already_says_so_is_an_empty_edit() -> None:
    store = b'{"agent:main:a":{"status":"done"}}'
    new, edit = splice(store, KEY, {"status": "done"})
    assert (new, edit.empty) == (store, True)


def test_several_rows_are_changed_as_one_after_the_other_would_be_in_whatever_order_they_are_named() -> None:
    store = (
        b'{"z":{"status":"running"} , "b" : { "status" : "running" },\n"c":{"status":"running","endedAt":7}, "d":{}}\n'
    )
    changes = {"c": FIELDS, "z": {"status": "failed"}, "b": {**FIELDS, "endedAt": 300}}
    expected, edits = store, []
    for key, fields in changes.items():
        expected, edit = splice(expected, key, fields)
        edits.append(edit)

    assert splice_rows(store, changes) == (expected, edits)


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (b'{"a":{"status":"running"}}', "the store has no such session any more"),
        (b'{"a":{"x":1},"b":{"x":1},"a":{"x":1}}', "the store names this session twice"),
        (b'{"a":{"x":1},"b":{"x":1}', "the store does not parse: a comma or a brace is missing at byte 24"),
        (b'{"a":{"x":1},"b":{"x":1,"x":1}}', "the row names a field twice"),
    ],
)
def test_where_one_of_several_rows_cannot_be_changed_none_is(store: bytes, said: str) -> None:
    with pytest.raises(CannotSplice) as refused:
        splice_rows(store, {"a": FIELDS, "b": FIELDS})
    assert str(refused.value) == said


def test_where_a_row_stands_is_believed_and_the_rest_of_the_store_is_not_gone_through() -> None:
    store = b'neither this {"status":"running"} nor that'
    spans = {"a": Span(13, 33)}
    new, (edit,) = splice_rows(store, {"a": {"status": "done"}}, spans)
    assert new == b'neither this {"status":"done"} nor that'
    assert unsplice(new, edit, {"a": Span(13, 30)}) == store


@pytest.mark.parametrize("span", [Span(12, 33), Span(13, 32), Span(13, 34), Span(14, 33)])
def test_what_is_no_whole_object_where_a_row_is_said_to_stand_is_left_alone(span: Span) -> None:
    with pytest.raises(CannotSplice, match="the row cannot be changed"):
        splice_rows(b'{"a":1, "b":x{"status":"running"}y}', {"b": {"status": "done"}}, {"b": span})


def test_a_row_of_which_nobody_knows_where_it_stands_is_not_there() -> None:
    with pytest.raises(CannotSplice, match="no such session"):
        splice_rows(b'{"a":{"status":"running"}}', {"a": {"status": "done"}}, {"b": Span(5, 25)})


def test_another_row_that_is_there_twice_is_not_in_the_way() -> None:
    store = b'{"b":{},"agent:main:a":{"status":"running"},"b":{}}'
    assert splice(store, KEY, {"status": "done"})[0] == store.replace(b"running", b"done")
