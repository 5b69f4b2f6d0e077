"""`clawmend token`: shown once, listed without it, revoked; and whose it is."""

from __future__ import annotations

import getpass
import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.command import Clawmend, one_line
from tests.terminal import at_a_terminal
from tests.world import STUCK_KEY, World


def tokens(run: Clawmend) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("token", "list", "--json").stdout)
    return found


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def test_a_token_stands_alone_on_stdout_and_what_is_to_be_said_of_it_on_stderr(world: World, run: Clawmend) -> None:
    done = run("token", "add", "ci", "--scope", "repair")
    assert done.returncode == 0
    assert re.fullmatch(r"clawmend_[\w-]{43}\n", done.stdout)
    (said,) = done.stderr.splitlines()
    assert "ci may repair until it is revoked" in said
    assert done.stdout.strip() not in run("token", "list").stdout
    assert done.stdout.strip().encode() not in (world.folder / "own" / "audit.db").read_bytes()


def test_a_token_may_read_unless_more_is_asked_for_and_lives_until_it_is_revoked(run: Clawmend) -> None:
    run("token", "add", "dash")
    (token,) = tokens(run)
    assert (token["name"], token["scope"], token["state"]) == ("dash", "read", "live")
    assert (token["expires_at"], token["last_used_at"], token["revoked_at"]) == (None, None, None)
    assert token["created_by"] == getpass.getuser()


def test_a_lifetime_is_counted_from_now(run: Clawmend) -> None:
    made = json.loads(run("token", "add", "ci", "--expires", "30d", "--json").stdout)
    assert made["token"].startswith("clawmend_")
    assert moment(made["expires_at"]) - moment(made["created_at"]) == timedelta(days=30)
    assert {k: v for k, v in made.items() if k != "token"} == tokens(run)[0]


@pytest.mark.parametrize(
    "wrong",
    [
        ("add", "ci", "--expires", "0"),
        ("add", "ci", "--expires", "soon"),
        ("add", "ci", "--scope", "write"),
        ("add", "two words"),
        ("add", "api"),
        ("add",),
        ("revoke", "ci"),
        ("revoke",),
    ],
)
def test_what_cannot_be_done_is_one_line_and_makes_nothing(run: Clawmend, wrong: tuple[str, ...]) -> None:
    assert one_line(run("token", *wrong))
    assert tokens(run) == []


def test_a_second_token_of_a_name_is_refused_until_the_first_is_revoked(run: Clawmend) -> None:
    run("token", "add", "ci")
    assert "called ci" in one_line(run("token", "add", "ci"))
    revoked = run("token", "revoke", "ci")
    assert (revoked.returncode, revoked.stderr) == (0, "")
    assert "ci is revoked" in revoked.stdout
    assert run("token", "add", "ci").returncode == 0
    old, new = tokens(run)
    assert (old["state"], old["revoked_by"], new["state"]) == ("revoked", getpass.getuser(), "live")
    assert old["revoked_at"] is not None


def test_a_refusal_as_json_is_a_problem_of_its_own(run: Clawmend) -> None:
    done = run("token", "revoke", "ci", "--json")
    problem = json.loads(done.stdout)
    assert (done.returncode, problem["type"]) == (2, "/problems/token")
    assert "ci" in problem["detail"]
    assert json.loads(run("token", "add", "ci", "--json").stdout)["name"] == "ci"
    assert json.loads(run("token", "revoke", "ci", "--json").stdout) == {"name": "ci", "state": "revoked"}


def test_the_list_has_a_line_for_each_and_on_a_terminal_a_table(run: Clawmend) -> None:
    assert "no named token" in run("token", "list").stdout
    run("token", "add", "ci", "--scope", "admin")
    run("token", "add", "dash", "--expires", "1d")
    lines = run("token", "list").stdout.splitlines()
    assert [line.split()[:3] for line in lines] == [["ci", "admin", "live"], ["dash", "read", "live"]]
    with at_a_terminal(run, "token", "list", columns=300) as terminal:
        assert terminal.ended() == 0
    heading, *rows = re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", terminal.text).splitlines()
    assert heading.split()[:3] == ["name", "scope", "state"]
    assert [row.split()[:3] for row in rows] == [["ci", "admin", "live"], ["dash", "read", "live"]]


def test_a_database_that_cannot_be_opened_is_one_line(run: Clawmend, tmp_path: Path) -> None:
    for command in (("add", "ci"), ("list",), ("revoke", "ci")):
        line = one_line(run("token", *command, CLAWMEND_DATABASE_URL="sqlite:////proc/no/such/audit.db"))
        assert "audit database" in line


def test_the_audit_says_who_it_was_that_settled_a_session_here(world: World, run: Clawmend) -> None:
    world.stuck()
    assert run("repair", STUCK_KEY, "--apply").returncode == 0
    (line,) = run("audit").stdout.splitlines()
    assert f" cli ({getpass.getuser()}) " in line
    (record,) = json.loads(run("audit", "--json").stdout)
    assert (record["trigger"], record["actor"]) == ("cli", getpass.getuser())
