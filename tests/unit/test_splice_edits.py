"""What an edit remembers, where an absent field is put, and what is said when nothing can be done."""

from __future__ import annotations

import pytest

from app.domain.splice import CannotSplice, Edit, FieldEdit, splice, unsplice

KEY = "k"
ENDED: dict[str, str | int | bool] = {"endedAt": 7}


def store(row: str) -> bytes:
    return f'{{"k":{row}}}'.encode()


def test_an_edit_remembers_the_raw_text_before_and_after_and_all_that_was_put_in() -> None:
    _, edit = splice(store('{"status" : "run\\u006eing" , "runtimeMs":1.0}'), KEY, {"status": "done", "endedAt": 7})

    assert edit == Edit(
        KEY,
        (
            FieldEdit("status", '"run\\u006eing"', '"done"', None),
            FieldEdit("endedAt", None, "7", ',"endedAt" : 7'),
        ),
    )
    assert FieldEdit("status", '"running"', '"done"').inserted is None


@pytest.mark.parametrize(
    ("field", "row", "expected"),
    [
        ("endedAt", '{"a":1,"startedAt":2,"status":3,"z":4}', '{"a":1,"startedAt":2,"endedAt":7,"status":3,"z":4}'),
        ("endedAt", '{"a":1,"status":3,"z":4}', '{"a":1,"status":3,"endedAt":7,"z":4}'),
        ("endedAt", '{"a":1,"z":4}', '{"a":1,"z":4,"endedAt":7}'),
        ("runtimeMs", '{"a":1,"startedAt":2,"status":3,"z":4}', '{"a":1,"startedAt":2,"runtimeMs":7,"status":3,"z":4}'),
        ("runtimeMs", '{"a":1,"status":3,"z":4}', '{"a":1,"status":3,"runtimeMs":7,"z":4}'),
        ("runtimeMs", '{"a":1,"z":4}', '{"a":1,"z":4,"runtimeMs":7}'),
        ("runtimeMs", '{"":1,"z":4}', '{"":1,"z":4,"runtimeMs":7}'),
    ],
)
def test_a_field_that_is_absent_stands_behind_startedAt_or_status_or_last(field: str, row: str, expected: str) -> None:
    new, edit = splice(store(row), KEY, {field: 7})

    assert new == store(expected)
    assert unsplice(new, edit) == store(row)


def test_a_field_stands_behind_the_one_that_was_set_before_it_wherever_that_is() -> None:
    row = '{"runtimeMs":1,"startedAt":2,"status":3}'

    new, _ = splice(store(row), KEY, {"runtimeMs": 5, "abortedLastRun": True})

    assert new == store('{"runtimeMs":5,"abortedLastRun":true,"startedAt":2,"status":3}')


@pytest.mark.parametrize("behind", ["", ',"x":{"y":{}}'], ids=["alone", "objects behind it"])
def test_a_first_member_lends_its_own_spacing(behind: str) -> None:
    row = f'{{ "status":1{behind}}}'

    assert splice(store(row), KEY, ENDED)[0] == store(f'{{ "status":1, "endedAt":7{behind}}}')


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{}", "the store has no such session any more"),
        (b'{"k":{"status":1},"k":{"status":1}}', "the store names this session twice"),
        (b"{", "the store does not parse: a name is missing at byte 1"),
        (b'{"k":[]}', "the row cannot be changed: not an object"),
        (b'{"k":{"a":1,"a":2}}', "the row names a field twice"),
        (b'{"k":{}}', "the row is empty"),
    ],
)
def test_what_cannot_be_changed_is_said_in_words(data: bytes, said: str) -> None:
    with pytest.raises(CannotSplice) as raised:
        splice(data, KEY, ENDED)
    assert str(raised.value) == said


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"a":1}', "endedAt is no longer what the repair wrote"),
        ('{"a":1,"endedAt":8}', "endedAt is no longer what the repair wrote"),
        ('{"endedAt":7}', "nothing else is left in the row"),
    ],
)
def test_what_cannot_be_taken_back_is_said_in_words(row: str, said: str) -> None:
    _, edit = splice(store('{"a":1}'), KEY, ENDED)
    with pytest.raises(CannotSplice) as raised:
        unsplice(store(row), edit)
    assert str(raised.value) == said


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ('{"endedAt":7,"a":1}', '{"a":1}'),
        ('{ "endedAt" : 7 ,  "a":1 }', '{ "a":1 }'),
        ('{"a":1 , "endedAt":7}', '{"a":1}'),
        ('{"a":1,"endedAt":7,"b":2}', '{"a":1,"b":2}'),
    ],
)
def test_a_field_that_was_put_in_is_taken_out_with_one_comma_wherever_the_gateway_has_moved_it(
    row: str, expected: str
) -> None:
    _, edit = splice(store('{"a":1}'), KEY, ENDED)

    assert unsplice(store(row), edit) == store(expected)
