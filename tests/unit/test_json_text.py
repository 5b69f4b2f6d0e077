"""Where members stand in the text, and what is no JSON, said with its place."""

from __future__ import annotations

import math
from typing import Any

import pytest

from app.domain.json_text import Member, NotJson, document, document_in, text_of


def latin(text: str) -> str:
    """The text as the scanner is given it: one character a byte."""
    return text.encode().decode("latin-1")


def test_every_member_is_told_by_the_bytes_of_its_name_and_of_its_value() -> None:
    text = latin(' { "é" : [1, {"x":2}] ,\t"b":"ü"\r\n} ')

    first, second = document(text)

    assert (first.name, text[first.name_start : first.name_end]) == ("é", latin('"é"'))
    assert (first.value, text[first.value_start : first.value_end]) == ([1, {"x": 2}], '[1, {"x":2}]')
    assert second == Member(
        "b", text.index('"b"'), text.index(":", 20), text.index(latin('"ü"')), text.index("\r"), latin("ü")
    )


def test_an_object_without_members_is_a_document_with_any_space_around_it() -> None:
    for text in ("{}", " \t\r\n{ \t\r\n} \t\r\n"):
        assert list(document(text)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not an object"),
        ("[1]", "not an object"),
        ('{"a":1,}', "a name is missing at byte 7"),
        ('{"a":1,} ', "a name is missing at byte 7"),
        ('{"a":1 , }', "a name is missing at byte 9"),
        ("{a:1}", "a name is missing at byte 1"),
        ("{", "a name is missing at byte 1"),
        ('{"a":1,,"b":2}', "a name is missing at byte 7"),
        ('{"a":1', "a comma or a brace is missing at byte 6"),
        ('{"a":1 "b":2}', "a comma or a brace is missing at byte 7"),
        ('{"a":1]', "a comma or a brace is missing at byte 6"),
        ('{"a" 1}', "a colon is missing at byte 5"),
        ('{"a"', "a colon is missing at byte 4"),
        ('{"a":}', "a value is missing behind byte 1"),
        ('{"a":', "a value is missing behind byte 1"),
        ('{"b":1, "a":}', "a value is missing behind byte 8"),
        ('{"a":1}x', "something follows the object at byte 7"),
        ('{"a":1} {}', "something follows the object at byte 7"),
        ('{"a":NaN}', "NaN is not JSON"),
        ('{"a":[-Infinity]}', "-Infinity is not JSON"),
        ('{"b":1, "a":' + "[" * 200_000, "nested too deeply behind byte 8"),
        ('{"a":"\n"}', "Invalid control character at: line 1 column 7 (char 6)"),
        ('{"a\n":1}', "Invalid control character at: line 1 column 4 (char 3)"),
        ('{"a', "Unterminated string starting at: line 1 column 2 (char 1)"),
        ('{"a":"x', "Unterminated string starting at: line 1 column 6 (char 5)"),
    ],
)
def test_what_is_no_JSON_is_said_with_its_place(text: str, said: str) -> None:
    with pytest.raises(NotJson) as raised:
        list(document(text))
    assert str(raised.value) == said


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ('"\xff"', "not UTF-8 behind byte 1: invalid start byte"),
        ('"\xc3"', "not UTF-8 behind byte 1: invalid continuation byte"),
        ("[" * 200_000 + "]" * 200_000, "nested too deeply behind byte 1"),
    ],
    ids=["no start", "no continuation", "deep"],
)
def test_a_token_that_cannot_be_decoded_is_no_JSON(token: str, said: str) -> None:
    with pytest.raises(NotJson) as raised:
        text_of(f" {token} ", 1, 1 + len(token))
    assert str(raised.value) == said


def test_a_name_that_is_no_UTF_8_is_no_JSON() -> None:
    with pytest.raises(NotJson, match="not UTF-8 behind byte 1"):
        list(document('{"\xff":1}'))


@pytest.mark.parametrize(
    ("digits", "value"),
    [
        (4_300, int("7" * 4_300)),
        (4_301, math.inf),
        (300_000, math.inf),
    ],
)
def test_a_number_of_more_digits_than_Python_takes_is_what_JSON_parse_makes_of_it(digits: int, value: Any) -> None:
    (member,) = document('{"a":' + "7" * digits + "}")
    (inner,) = document('{"a":[' + "7" * digits + "]}")

    assert (member.value, inner.value) == (value, [value])


def test_numbers_beside_one_of_too_many_digits_keep_their_value_to_the_last_digit() -> None:
    (member,) = document('{"a":[' + "7" * 5_000 + "," + "8" * 400 + "," + "8" * 401 + "]}")

    assert member.value == [math.inf, int("8" * 400), math.inf]


def test_a_token_is_decoded_as_the_UTF_8_that_it_is() -> None:
    text = latin('{"a":"é😀"}')

    assert text_of(text, 5, len(text) - 1) == "é😀"


@pytest.mark.parametrize(
    ("behind", "said"), [('"\n"', "Invalid control character at: line 1 column "), ("NaN", "NaN is not JSON")]
)
def test_what_stands_behind_a_number_of_too_many_digits_is_read_as_strictly(behind: str, said: str) -> None:
    with pytest.raises(NotJson, match=said):
        list(document('{"a":[' + "7" * 5_000 + f",{behind}]}}"))


@pytest.mark.parametrize(("token", "said"), [('"\n"', "Invalid control character"), ("[NaN]", "NaN is not JSON")])
def test_a_token_is_decoded_as_strictly_as_the_text_was_read(token: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        text_of(token, 0, len(token))


@pytest.mark.parametrize("last", ["", " \n"])
def test_no_more_is_decoded_at_once_than_was_said_where_the_members_are_shorter(last: str) -> None:
    members = (f'"k{number:03}": {{"n": {number}}}' for number in range(200))
    data = f"{{{' , '.join(members)}}}{last}".encode()
    found = list(document_in(data, piece=64))
    assert [member.value["n"] for _, member, _ in found] == list(range(200))
    assert max(len(text) for text, _, _ in found) == 64
    assert len({id(text) for text, _, _ in found}) > 50


def test_a_member_that_is_longer_than_a_piece_is_decoded_in_a_larger_one_and_the_next_in_a_small_one_again() -> None:
    short = ", ".join(f'"k{number}": {number}' for number in range(100))
    data = f'{{"a": 1, "b": "{"x" * 500}", {short}}}'.encode()
    found = list(document_in(data, piece=40))
    assert [member.name for _, member, _ in found] == ["a", "b", *(f"k{number}" for number in range(100))]
    lengths = [len(text) for text, _, _ in found]
    assert lengths[:2] == [40, 40 * 4 * 4]
    assert max(lengths[20:]) == 40


@pytest.mark.parametrize(
    ("stretch", "begins", "ends", "names"),
    [
        ('{"a": 1', True, False, ["a"]),
        (', "b": 2 , "c": 3', False, False, ["b", "c"]),
        (' ,"c": 3 } ', False, True, ["c"]),
        ("}", False, True, []),
        ("", False, False, []),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 99])
def test_a_stretch_of_an_object_has_the_members_that_stand_in_it(
    stretch: str, begins: bool, ends: bool, names: list[str], piece: int
) -> None:
    found = list(document_in(stretch.encode(), piece, begins=begins, ends=ends))
    assert [member.name for _, member, _ in found] == names
    assert [stretch[:behind] for *_, behind in found][-1:] == [stretch.rstrip(" }")] * bool(found)


@pytest.mark.parametrize(
    ("stretch", "begins", "ends"),
    [
        ("", True, False),
        ("{", True, False),
        ('{"a": 1}', True, False),
        ('{"a": 1 ', True, False),
        ('{"a": 1,', True, False),
        ('"b": 2', False, False),
        (', "b": 2}', False, False),
        (', "b": {"x": 2', False, False),
        (', "b": "x', False, False),
        (', "b": 2 ', False, False),
        ("", False, True),
        (', "c": 3', False, True),
        (', "c": 3}}', False, True),
        ('{"c": 3}', False, True),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 99])
def test_a_stretch_that_does_not_begin_and_end_behind_a_member_is_no_json(
    stretch: str, begins: bool, ends: bool, piece: int
) -> None:
    with pytest.raises(NotJson):
        list(document_in(stretch.encode(), piece, begins=begins, ends=ends))
