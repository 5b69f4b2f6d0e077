"""What `clawmend` prints: tables on a terminal, plain lines elsewhere, JSON when asked; nothing of it is obeyed."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.cli.progress import Progress
from app.openclaw.paths import StoreTarget
from tests.api.conftest import wait_until
from tests.command import Clawmend, one_line
from tests.terminal import ESCAPE, FIRST_WORDS, at_a_terminal
from tests.world import STUCK_KEY, STUCK_SESSION_ID, World

HOSTILE = "agent:main:\x1b]0;owned\x07\x1b[31m[bold red]x[/]\u202eabc\x9b31m\nstuck agent:other"
SHOWN = r"agent:main:\x1b]0;owned\x07\x1b[31m[bold red]x[/]\u202eabc\x9b31m\nstuck agent:other"
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def with_a_hostile_key(world: World) -> None:
    """A row whose key does to a terminal what a key can do."""
    world.stuck()
    world.write_store(json.dumps({HOSTILE: world.row()}).encode())
    trajectory = world.trajectory()
    trajectory.write_bytes(
        trajectory.read_bytes().replace(json.dumps(STUCK_KEY).encode(), json.dumps(HOSTILE).encode())
    )


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


# --- a terminal ---


def test_on_a_terminal_a_scan_is_a_table_in_colours_and_ends_with_the_same_code(world: World, run: Clawmend) -> None:
    world.stuck()
    with at_a_terminal(run, "scan") as terminal:
        assert terminal.ended() == 1
    heading, row, total = without_colours(terminal.text).splitlines()
    assert heading.split() == ["verdict", "session", "why"]
    assert row.split()[:2] == ["stuck", STUCK_KEY]
    assert total == "1 sessions in 1 stores, 1 running, 1 stuck"
    assert f"{ESCAPE}[1;31mstuck" in terminal.text


def test_the_first_words_stand_before_anything_is_loaded_that_takes_long_and_are_taken_back(
    world: World, run: Clawmend
) -> None:
    world.stuck()
    with at_a_terminal(run, "scan") as terminal:
        assert terminal.ended() == 1
    assert FIRST_WORDS.match(terminal.written)
    assert "loading" not in terminal.text

    (world.folder / "pydantic.py").write_text("raise RuntimeError('loaded now')")  # found before the real one
    for command in (["scan"], ["explain", STUCK_SESSION_ID], ["audit"], ["repair", STUCK_SESSION_ID]):
        with at_a_terminal(run, *command) as terminal:
            terminal.ended()
        assert FIRST_WORDS.match(terminal.written), command
        assert "loaded now" in terminal.text


def test_who_can_not_take_words_back_is_not_shown_any(world: World, run: Clawmend) -> None:
    world.stuck()
    with at_a_terminal(run, "scan", TERM="dumb") as terminal:
        assert terminal.ended() == 1
    assert "loading" not in terminal.written
    assert run("scan").stderr == ""


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
def test_who_wants_no_colours_gets_none(world: World, run: Clawmend, env: dict[str, str]) -> None:
    world.stuck()
    with at_a_terminal(run, "scan", **env) as terminal:
        assert terminal.ended() == 1
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", terminal.text)
    assert STUCK_KEY in terminal.text


def test_a_narrow_terminal_cuts_nothing_off(world: World, run: Clawmend) -> None:
    world.stuck()
    with at_a_terminal(run, "scan", columns=40, NO_COLOR="1") as terminal:
        terminal.ended()
    letters = re.sub(r"\s", "", without_colours(terminal.text))
    assert "…" not in letters
    assert letters.endswith("1sessionsin1stores,1running,1stuck")
    assert "agent:main" in letters


@pytest.mark.parametrize("arguments", [("scan",), ("explain", STUCK_SESSION_ID), ("explain", "nobody\x1b[2J\u202e")])
def test_what_a_key_holds_is_shown_on_a_terminal_and_not_obeyed(
    world: World, run: Clawmend, arguments: tuple[str, ...]
) -> None:
    with_a_hostile_key(world)
    with at_a_terminal(run, *arguments, columns=400) as terminal:
        terminal.ended()
    text = without_colours(terminal.text).replace("\r\n", "\n")
    assert not OBEYED.search(text), text
    assert (SHOWN if "nobody" not in arguments[-1] else r"nobody\x1b[2J\u202e") in text


@pytest.mark.parametrize("arguments", [("scan",), ("scan", "--json"), ("explain", STUCK_SESSION_ID), ("audit",)])
def test_what_a_key_holds_is_not_obeyed_in_a_pipe_either_and_breaks_no_line(
    world: World, run: Clawmend, arguments: tuple[str, ...]
) -> None:
    with_a_hostile_key(world)
    repaired = run("repair", STUCK_SESSION_ID, "--apply")
    assert (repaired.returncode, not OBEYED.search(repaired.stdout)) == (0, True)
    done = run(*arguments)
    assert not OBEYED.search(done.stdout)
    if arguments[-1] == "--json":
        assert [s["session_key"] for s in json.loads(done.stdout)["sessions"]] == [HOSTILE]
    elif arguments[0] != "scan":
        assert SHOWN in done.stdout


def test_a_terminal_that_is_not_utf_8_is_no_crash(world: World, run: Clawmend) -> None:
    world.stuck()
    world.write_store(json.dumps({"agent:main:émile😀": world.row()}).encode())
    done = run("scan", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"agent:main:\xe9mile\U0001f600" in done.stdout


def test_explain_on_a_terminal_has_every_piece_of_evidence_by_its_name(world: World, run: Clawmend) -> None:
    world.stuck()
    with at_a_terminal(run, "explain", STUCK_KEY, NO_COLOR="1") as terminal:
        assert terminal.ended() == 1
    lines = without_colours(terminal.text).splitlines()
    assert lines[0] == STUCK_KEY
    assert lines[1].startswith("stuck: ")
    assert ["trajectories.0.end.status", "error"] in [line.split() for line in lines]


def test_the_audit_on_a_terminal_is_a_table(world: World, run: Clawmend) -> None:
    world.stuck()
    assert run("repair", STUCK_KEY, "--apply").returncode == 0
    with at_a_terminal(run, "audit", columns=300) as terminal:
        assert terminal.ended() == 0
    heading, row = without_colours(terminal.text).splitlines()
    assert heading.split()[:3] == ["when", "id", "outcome"]
    assert {"applied", "settle", "file", STUCK_KEY} <= set(row.split())


def test_the_id_of_a_repair_can_be_copied_from_a_terminal_of_usual_width(world: World, run: Clawmend) -> None:
    world.stuck()
    made = json.loads(run("repair", STUCK_KEY, "--apply", "--json").stdout)
    with at_a_terminal(run, "audit", columns=110) as terminal:
        assert terminal.ended() == 0
    assert made["id"] in terminal.text


# --- progress ---


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def target(path: str) -> StoreTarget:
    return cast(StoreTarget, SimpleNamespace(path=path))


def on_a_screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    made = Screen()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    return made


def test_a_scan_that_is_long_says_on_a_terminal_which_store_it_is_at(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_a_screen(monkeypatch)
    with Progress(after=0) as progress:
        progress(target("/first"))
        progress(target("/second\x1b[2J"))
        wait_until(lambda: "looking at store 2: /second\\x1b[2J" in screen.getvalue(), "the line")
    assert screen.getvalue().endswith("\x1b[2K"), "and takes the line away at its end"


def test_a_scan_that_is_short_says_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = on_a_screen(monkeypatch)
    with Progress(after=3_600) as progress:
        progress(target("/first"))
    assert screen.getvalue() == ""


def test_a_long_scan_says_nothing_where_stderr_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    error = io.StringIO()
    monkeypatch.setattr(sys, "stderr", error)
    with Progress(after=0) as progress:
        assert progress._timer is None, "there is nobody to tell"
        progress(target("/first"))
    assert error.getvalue() == ""


# --- JSON, and errors ---


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("explain", "nobody"), "not_found"),
        (("repair", "nobody"), "not_found"),
        (("undo", "nobody"), "not_found"),
        (("scan", "--no-such-option"), "usage"),
        (("plugin", "status"), "plugin"),
    ],
)
def test_with_json_an_error_is_one_document_on_stdout_and_a_line_on_stderr(
    world: World, run: Clawmend, arguments: tuple[str, ...], code: str
) -> None:
    world.stuck()
    done = run(*arguments, "--json", PATH="/nowhere")
    told = json.loads(done.stdout)
    assert (done.returncode, told["type"], told["exit_code"]) == (2, f"/problems/{code}", 2)
    assert told["detail"] in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_with_json_a_session_that_may_not_be_settled_comes_with_its_evidence(world: World, run: Clawmend) -> None:
    world.recording("success-done")
    done = run("repair", "agent:main:s-success", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["type"]) == (2, "/problems/not_stuck")
    assert told["session"]["verdict"] == "settled"
    assert told["session"]["evidence"]["row"]["status"] == "done"


def test_with_json_repair_and_undo_are_the_records_of_what_was_done(world: World, run: Clawmend) -> None:
    world.stuck()
    planned = json.loads(run("repair", STUCK_KEY, "--json").stdout)
    assert (planned["id"], planned["dry_run"], planned["after"]["status"]) == (None, True, "failed")
    done = run("repair", STUCK_KEY, "--apply", "--json")
    made: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode, made["outcome"], made["dry_run"]) == (0, "applied", False)
    undone = json.loads(run("undo", made["id"], "--json").stdout)
    assert (undone["kind"], undone["undo_of"], undone["outcome"]) == ("undo", made["id"], "applied")


@pytest.mark.parametrize(
    "arguments",
    [
        ("scna",),
        ("scan", "--jsn"),
        ("explain",),
        ("repair", "x", "--force", "gone"),
        ("audit", "--limit", "0"),
        ("plugin",),
    ],
)
def test_a_command_that_is_not_written_so_is_one_line_that_says_where_to_look(
    run: Clawmend, arguments: tuple[str, ...]
) -> None:
    assert re.search(r"`clawmend .*--help` tells more", one_line(run(*arguments)))


def test_the_command_alone_shows_its_help_and_is_not_0(run: Clawmend) -> None:
    done = run()
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == run("--help").stdout
    assert "Usage: clawmend" in done.stdout


def test_an_output_that_cannot_be_written_is_2_and_one_line(world: World, run: Clawmend) -> None:
    """Python's own answer to an error is 1, which here says that something is stuck."""
    world.recording("success-done")
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this machine has no /dev/full")
    with full.open("w") as output:
        done = run.into(output, "scan")
    assert done.returncode == 2
    assert done.stderr == "clawmend: what is said here cannot be written: No space left on device\n"
