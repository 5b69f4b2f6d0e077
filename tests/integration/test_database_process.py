"""The process that writes to a database: what it is given, and what is said when it does not do as it should."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest

from app.openclaw.database_process import replace_in_a_process
from app.openclaw.replacement import Written
from tests.stuck_rows import Stuck, stuck
from tests.world import World


@pytest.fixture
def row(world: World) -> Stuck:
    return stuck(world)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that somebody else fills, and from which Clawmend was started."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "json.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(folder)
    return folder


def instead_of_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))


def test_it_writes_both_texts_to_the_byte_and_at_the_time_it_is_given(row: Stuck) -> None:
    said = replace_in_a_process(row.what, row.now)
    assert (said.kind, said.code, said.detail) == ("written", "", "")
    assert said.held_ms is not None and said.held_ms > 0
    assert row.node()[0] == row.what.after
    lease = "INSERT INTO state_leases VALUES ('core:agent-database-maintenance', 'global', 'x', ?, 0, NULL, 0, 0)"
    row.state.run(lease, row.now + 1)
    assert replace_in_a_process(row.what, row.now).code == "maintenance"
    assert replace_in_a_process(row.what, row.now + 1).code == "already"


def test_it_loads_nothing_from_the_folder_that_clawmend_was_started_in(row: Stuck, elsewhere: Path) -> None:
    assert replace_in_a_process(row.what, row.now).kind == "written"


def test_not_even_where_python_looks_there_itself(row: Stuck, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert replace_in_a_process(row.what, row.now).kind == "written"


def test_it_loads_what_clawmend_itself_loads(row: Stuck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'loaded')!r}, 'w').close()")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert replace_in_a_process(row.what, row.now).kind == "written"
    assert (tmp_path / "loaded").exists()


def test_it_keeps_the_environment_that_clawmend_has(
    row: Stuck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead_of_python(monkeypatch, tmp_path, """printf '{"kind":"refused","code":"%s"}' "$SAID" """)
    monkeypatch.setenv("SAID", "as-it-was")
    assert replace_in_a_process(row.what, row.now) == Written("refused", "as-it-was")


def test_the_key_is_no_word_of_its_command_line(row: Stuck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instead_of_python(monkeypatch, tmp_path, """printf '{"kind":"refused","detail":"%s"}' "$*" """)
    said = replace_in_a_process(row.what, row.now)
    assert said == Written("refused", "", "-P -m app.openclaw.database_process")


@pytest.mark.parametrize(
    ("script", "ended_with"),
    [
        ("exit 0", 0),
        ("exit 3", 3),
        ("echo nonsense; exit 1", 1),
        ("echo '[]'", 0),
        ("""echo '{"kind":"written","more":1}'""", 0),
    ],
)
def test_a_process_that_does_not_say_what_became_of_it_leaves_that_open(
    row: Stuck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, ended_with: int
) -> None:
    instead_of_python(monkeypatch, tmp_path, f"cat > /dev/null; {script}")
    said = replace_in_a_process(row.what, row.now)
    assert said == Written("unknown", "no_answer", f"the process that writes has ended with {ended_with}")


def test_a_process_that_does_not_answer_in_time_leaves_that_open(
    row: Stuck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead_of_python(monkeypatch, tmp_path, "exec sleep 60")
    said = replace_in_a_process(row.what, row.now, patience=0.25)
    assert said == Written("unknown", "no_answer", "the process that writes has not answered for 0.25 s")


def test_where_no_process_can_be_started_nothing_was_written(row: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    said = replace_in_a_process(row.what, row.now)
    assert said == Written("refused", "no_process", "no process could be started to write: No such file or directory")
    assert row.is_untouched()


def test_what_it_complains_of_does_not_come_into_our_log(
    row: Stuck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    instead_of_python(monkeypatch, tmp_path, "cat >&2")
    replace_in_a_process(row.what, row.now)
    assert capfd.readouterr() == ("", "")


def test_nobody_waits_for_it_without_an_end_who_has_not_asked_for_that() -> None:
    patience = inspect.signature(replace_in_a_process).parameters["patience"].default
    assert 1 < patience <= 60
