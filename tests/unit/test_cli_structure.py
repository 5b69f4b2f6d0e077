"""How the command is built: what it may not load, what each error is, how durations are read."""

from __future__ import annotations

import gc
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from app.api.problems import PROBLEMS
from app.building import CannotStart
from app.cli import main
from app.cli.durations import seconds, window
from app.cli.exits import COULD_NOT_TELL, NOT_NOW
from app.cli.failures import KINDS, RAISED, Failure, failure_of, problem
from app.cli.root import app
from app.cli.screen import shown
from app.openclaw.quiet import StoreBusy
from app.reconcile.asking import NotStuck

TOP = Path(__file__).resolve().parents[2]
HEAVY = {"alembic", "fastapi", "httpx", "rich", "sqlalchemy", "starlette", "uvicorn", "websockets"}
SETTINGS = {"pydantic", "app.settings"}
NOT_FOR_A_SCAN = HEAVY | {"asyncio", "dotenv", "prometheus_client", "pydantic_settings", "ssl", "subprocess", "typer"}


def loaded_by(tmp_path: Path, *arguments: str) -> set[str]:
    """The modules that a run of the command has loaded at its end, with no terminal."""
    program = (
        "import io, json, sys\n"
        "from app.cli import main\n"
        "sys.stdout = io.StringIO()\n"
        f"main({list(arguments)!r})\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.__stdout__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(TOP), "HOME": str(tmp_path), "CLAWMEND_GATEWAY": "off"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)], ids=" ".join)
def test_help_and_version_load_nothing_heavy(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert loaded_by(tmp_path, *arguments) & (HEAVY | SETTINGS) == set()


@pytest.mark.parametrize("name", list(get_command(app).commands))  # type: ignore[attr-defined]
def test_the_help_of_a_command_loads_nothing_of_what_it_does(tmp_path: Path, name: str) -> None:
    """Typer itself asks pydantic for the values that an argument may have."""
    assert loaded_by(tmp_path, name, "--help") & (HEAVY | {"app.settings"}) == set()


@pytest.mark.parametrize("arguments", [("scan",), ("scan", "--json"), ("explain", "nobody")], ids=" ".join)
def test_a_look_loads_no_server_no_client_and_no_audit(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    loaded = loaded_by(tmp_path, *arguments)
    assert loaded >= SETTINGS, "it has really run"
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("arguments", [("scan",), ("scan", "--json")], ids=" ".join)
def test_a_scan_with_nothing_to_parse_loads_no_parser_and_no_event_loop(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    loaded = loaded_by(tmp_path, *arguments)
    assert loaded >= SETTINGS, "it has really run"
    assert loaded & NOT_FOR_A_SCAN == set()


def test_a_scan_leaves_the_collector_of_garbage_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    main(["scan"])
    assert gc.isenabled()


def test_the_audit_loads_no_server(tmp_path: Path) -> None:
    loaded = loaded_by(tmp_path, "audit")
    assert "sqlalchemy" in loaded
    assert loaded & {"fastapi", "httpx", "rich", "starlette", "uvicorn", "websockets"} == set()


# --- errors ---


@pytest.mark.parametrize("name", RAISED)
def test_each_error_that_is_named_exists_and_is_what_its_code_says(name: str) -> None:
    module, _, kind = name.rpartition(".")
    error = getattr(importlib.import_module(module), kind)
    assert issubclass(error, Exception)
    assert RAISED[name] in KINDS


def test_a_code_that_the_api_has_too_has_the_same_title() -> None:
    shared = KINDS.keys() & PROBLEMS.keys()
    assert {"not_found", "not_stuck", "store_busy"} <= shared
    assert {code: KINDS[code].title for code in shared} == {code: PROBLEMS[code][1] for code in shared}


@pytest.mark.parametrize(
    ("error", "code", "exit_code", "words"),
    [
        (StoreBusy("it is written to"), "store_busy", NOT_NOW, "it is written to"),
        (NotStuck("it is working", None), "not_stuck", COULD_NOT_TELL, "not settled: it is working"),
        (CannotStart("no database"), "cannot_start", COULD_NOT_TELL, "no database"),
        (Failure("not_found", "nobody"), "not_found", COULD_NOT_TELL, "nobody"),
        (KeyError("x"), "internal", COULD_NOT_TELL, "something went wrong inside Clawmend: KeyError: 'x'"),
        (FileNotFoundError(2, "gone", "/a"), "internal", COULD_NOT_TELL, "something went wrong inside Clawmend"),
        (OSError(28, "full"), "internal", COULD_NOT_TELL, "what is said here cannot be written: full"),
    ],
)
def test_each_error_has_its_code_its_exit_code_and_its_words(
    error: Exception, code: str, exit_code: int, words: str
) -> None:
    failure = failure_of(error)
    told = problem(failure)
    assert (failure.code, told["exit_code"], told["type"]) == (code, exit_code, f"/problems/{code}")
    assert words in failure.detail


def test_a_kind_of_an_error_is_what_that_error_is() -> None:
    class Busier(StoreBusy):
        pass

    assert failure_of(Busier("x")).code == "store_busy"


# --- words ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90.0), ("30s", 30.0), ("5m", 300.0), ("1.5h", 5_400.0), ("7d", 604_800.0), ("0", 0.0)],
)
def test_a_duration_is_read_as_people_write_it(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "x", "-1", "1w", "1e3", "inf", "nan", "٣", "1 h", "99999999999"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="duration"):
        seconds(text)


@pytest.mark.parametrize("text", ["0", "0s", "25h", "2d"])
def test_a_window_is_over_0_and_no_longer_than_a_day(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=re.escape(text)):
        window(text)
    assert window("24h") == 86_400.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("agent:main:émile 日本 😀", "agent:main:émile 日本 😀"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("a\u202eb\u2066", r"a\u202eb\u2066"),
        ("a\x9bb\x7f", r"a\x9bb\x7f"),
        ("cut\ud83d", r"cut\ud83d"),
        ("[bold]x[/]", "[bold]x[/]"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_a_sign_and_all_else_as_it_is(text: str, expected: str) -> None:
    assert shown(text) == expected
