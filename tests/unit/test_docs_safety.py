"""docs/explanation/safety.md names what is there: each step taken out, the test that catches it, every test."""

from __future__ import annotations

import re

from tests.faults.ablation import ABLATIONS
from tests.faults.database_ablation import DATABASE_ABLATIONS
from tests.unit.test_docs import TOP, table, text


def test_the_table_of_steps_is_the_one_that_is_run() -> None:
    rows = [(step, caught_by) for step, _, caught_by in table("docs/explanation/safety.md", "step")]
    assert rows == [(a.step, a.caught_by.split("::")[1]) for a in (*ABLATIONS, *DATABASE_ABLATIONS)]


def test_every_test_that_it_names_is_there() -> None:
    sources = "".join(p.read_text(encoding="utf-8") for p in TOP.glob("tests/**/*.py"))
    named = set(re.findall(r"\btest_\w+", text("docs/explanation/safety.md")))
    there = set(re.findall(r"def (test_\w+)", sources)) | {p.stem for p in TOP.glob("tests/**/test_*.py")}
    assert named - there == set()
    assert len(named) > len(ABLATIONS)
