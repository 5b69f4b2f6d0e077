"""`clawmend scan --watch` and `audit --watch`: one line or one document for each change, a table on a terminal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.api.conftest import wait_until
from tests.command import Clawmend
from tests.terminal import PATIENCE, at_a_terminal
from tests.world import STUCK_KEY, World

EVERY = "0.1"


@dataclass
class Watch:
    process: subprocess.Popen[bytes]
    output: Path
    errors: Path

    def lines(self) -> list[str]:
        return self.output.read_text().splitlines()

    def until(self, number: int) -> list[str]:
        wait_until(lambda: len(self.lines()) >= number, f"{number} lines", PATIENCE)
        return self.lines()

    def interrupted(self) -> int:
        """Its exit code after Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)


@contextmanager
def watching(command: Clawmend, *arguments: str) -> Iterator[Watch]:
    output, errors = command.world.folder / "output", command.world.folder / "errors"
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "app.cli", *arguments],
            cwd=command.world.folder,
            env=command.env,
            stdout=out,
            stderr=err,
        )
    try:
        yield Watch(process, output, errors)
    finally:
        process.kill()
        process.wait()


def test_a_watched_scan_tells_what_there_is_then_each_change_and_ends_with_130(world: World, run: Clawmend) -> None:
    world.stuck()
    with watching(run, "scan", "--watch", EVERY) as watch:
        (first,) = watch.until(1)
        assert first.split()[1:3] == ["stuck", f"{STUCK_KEY}:"]
        world.edit_row(status="done")
        _, second = watch.until(2)
        assert second.split()[1:3] == ["settled", f"{STUCK_KEY}:"]
        world.write_store(b"{")
        lines = watch.until(3)
        assert lines[2].split()[1:4] == ["cannot", "tell", f"{world.store()}:"]
        world.write_store(b"{}")
        assert watch.until(4)[3].split()[1:] == ["well", "again", str(world.store())]
        assert watch.interrupted() == 130
        assert (len(watch.lines()), watch.errors.read_text()) == (4, "")


def test_a_watched_scan_as_json_is_one_document_on_a_line_for_each_change(world: World, run: Clawmend) -> None:
    world.stuck()
    with watching(run, "scan", "--json", "--watch", EVERY) as watch:
        watch.until(1)
        rows = world.rows()
        world.write_store(json.dumps({k: v for k, v in rows.items() if k != STUCK_KEY}).encode())
        told = [json.loads(line) for line in watch.until(2)]
        assert watch.interrupted() == 130
    assert [(t["event"], t["verdict"], t["was"]) for t in told] == [
        ("finding", "stuck", None),
        ("finding", None, "stuck"),
    ]


def test_a_watched_audit_tells_each_attempt_when_it_is_made(world: World, run: Clawmend) -> None:
    world.stuck()
    assert run("audit").returncode == 0
    with watching(run, "audit", "--watch", EVERY, "--json") as watch:
        assert run("repair", STUCK_KEY, "--apply").returncode == 0
        wait_until(
            lambda: any(json.loads(line)["outcome"] == "applied" for line in watch.lines()), "the attempt", PATIENCE
        )
        assert watch.interrupted() == 130


def test_on_a_terminal_the_table_is_drawn_anew_and_the_cursor_is_given_back(world: World, run: Clawmend) -> None:
    world.stuck()
    with at_a_terminal(run, "scan", "--watch", EVERY) as terminal:
        terminal.until("1 stuck")
        world.edit_row(status="done")
        terminal.until("0 stuck")
        terminal.interrupt()
        assert terminal.ended() == 130
    assert "Traceback" not in terminal.text
    assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l"), "the cursor is shown again"


def test_without_a_number_it_looks_every_two_seconds_and_options_may_follow(run: Clawmend) -> None:
    from app.cli.watching import _completed

    assert _completed(["--watch"]) == ["--watch", "2"]
    assert _completed(["--watch", "--json"]) == ["--watch", "2", "--json"]
    assert _completed(["--watch", "0.5", "--json"]) == ["--watch", "0.5", "--json"]
    assert _completed(["--watch=5"]) == ["--watch=5"]
    assert _completed([]) == []


def test_what_has_not_changed_is_not_read_again_between_two_looks(world: World) -> None:
    from app.cli.looking import looker

    world.stuck()
    look = looker(world.settings())
    look()
    second = look().bytes_read
    assert look().bytes_read == second
