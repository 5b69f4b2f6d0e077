"""The page on writing to a database has every word that a writer says."""

from __future__ import annotations

import ast
from typing import get_args

from app.openclaw.replacement import Kind
from tests.unit.test_docs import calls, name_of, table

PAGE = "docs/explanation/sqlite-writing.md"
_PLACES = {"_Stop": (0, 1), "Written": (0, 1), "Stand": (None, 1)}
"""Where the kind and the code stand among the arguments of a call."""


def said() -> set[tuple[str, str]]:
    """Every kind with every code that is said with it."""
    found = set()
    for module in ("domain/stand", "openclaw/database_process", "openclaw/database_write"):
        for call in calls(module):
            kind, code = _PLACES.get(name_of(call.func), (None, None))
            words = [a.value if isinstance(a, ast.Constant) else None for a in call.args]
            if code is not None and len(words) > code and isinstance(words[code], str):
                found.add((str(words[kind]) if kind is not None else "refused", str(words[code])))
    return found


def test_the_page_has_every_code_with_what_is_said_with_it() -> None:
    rows = {(row[1], row[0]) for row in table(PAGE, "code")}
    assert len(said()) > 10
    assert rows == said() | {("refused", "not_private")}


def test_the_page_says_what_each_kind_means() -> None:
    assert [row[0] for row in table(PAGE, "said")] == list(get_args(Kind))


def test_what_is_wrong_with_the_file_is_in_one_of_the_tables() -> None:
    here = {row[0] for row in table(PAGE, "code")} | {row[0] for row in table("docs/reference/errors.md", "code")}
    for module in ("openclaw/database_leases", "openclaw/database_write"):
        for call in calls(module):
            if name_of(call.func) == "FileProblem" and isinstance(call.args[0], ast.Constant):
                assert call.args[0].value in here
