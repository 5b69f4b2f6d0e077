"""What `--json` prints, whatever stands in a session's key or in its evidence."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO

from hypothesis import example, given
from hypothesis import strategies as st

from app.cli.screen import say_json
from app.domain.model import Code

WORDS = st.text(st.characters(codec=None), max_size=20)  # lone surrogates too
LEAVES = st.none() | st.booleans() | st.integers() | st.sampled_from(Code) | WORDS
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4))


def printed(value: object, *, indented: bool) -> str:
    out = StringIO()
    with redirect_stdout(out):
        say_json(value, indented=indented)
    return out.getvalue()


@given(VALUES)
@example({"key": "agent:main:é😀\u2028\x7f\x1b", "cut": []})
@example({"key": "cut \ud83d é"})
@example({"key": 2**64, "é": "\x9b"})
def test_a_document_is_ascii_that_a_terminal_obeys_nothing_of_and_says_the_value(value: object) -> None:
    for indented in (True, False):
        text = printed(value, indented=indented)
        assert text.isascii()
        assert text.replace("\n", "").isprintable()
        assert json.loads(text) == value


@given(VALUES)
def test_a_document_is_indented_by_two_and_a_line_of_a_watch_is_one_line(value: object) -> None:
    assert printed(value, indented=True) == json.dumps(value, indent=2).replace("\x7f", "\\u007f") + "\n"
    assert printed(value, indented=False).count("\n") == 1
