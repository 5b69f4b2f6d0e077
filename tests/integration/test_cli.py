"""The command `clawmend`, as a person runs it: a process of its own, no service beside it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import Any
from uuid import uuid4

import pytest

from app.openclaw.processes import start_ticks
from tests.command import Clawmend, one_line
from tests.peer import TOKEN, Peer
from tests.world import STUCK_KEY, STUCK_SESSION_ID, World, tree_unchanged


def test_scan_of_settled_sessions_is_0_and_writes_nothing(world: World, run: Clawmend) -> None:
    world.recording("success-done")
    with tree_unchanged(world.folder):
        done = run("scan")
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 stuck" in done.stdout


def test_scan_is_1_when_something_is_stuck_and_says_what_and_why(world: World, run: Clawmend) -> None:
    world.stuck()
    with tree_unchanged(world.folder):
        done = run("scan")
    assert done.returncode == 1
    verdict, reason, total = done.stdout.splitlines()
    assert verdict.split() == ["stuck", STUCK_KEY]
    assert "error" in reason
    assert total == "1 sessions in 1 stores, 1 running, 1 stuck"


@pytest.mark.parametrize("name", ["multi-turn-running-third", "success-running"])
def test_scan_is_0_while_a_turn_is_only_running(world: World, run: Clawmend, name: str) -> None:
    world.recording(name, ended_ago=30)
    assert run("scan").returncode == 0


def test_scan_is_2_when_a_store_cannot_be_read_and_1_when_another_has_something_stuck(
    world: World, run: Clawmend
) -> None:
    world.write_store(b"{", agent="beta")
    done = run("scan")
    assert done.returncode == 2
    assert str(world.store("beta")) in done.stdout
    world.stuck()
    assert run("scan").returncode == 1


def test_scan_is_2_when_there_is_no_state_dir(world: World, run: Clawmend) -> None:
    missing = str(world.folder / "missing")
    done = run("scan", CLAWMEND_STATE_DIR=missing)
    assert done.returncode == 2
    assert missing in done.stdout


def test_scan_as_json_is_the_whole_report(world: World, run: Clawmend) -> None:
    world.recording("success-done")
    world.stuck()
    world.write_store(b"{", agent="beta")
    done = run("scan", "--json")
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 1
    assert set(report) == {"sessions", "problems", "scan"}
    (session,) = report["sessions"]
    assert (session["session_key"], session["verdict"], session["target_status"]) == (STUCK_KEY, "stuck", "failed")
    assert session["evidence"]["trajectories"][0]["end"]["status"] == "error"
    assert [p["code"] for p in report["problems"]] == ["not_json"]


@pytest.mark.parametrize("env", [{}, {"CLAWMEND_PORT": "x"}], ids=["well", "wrong"])
@pytest.mark.parametrize(
    ("plain", "parsed"), [(("scan",), ("scan", "--")), (("scan", "--json"), ("scan", "--json", "--"))]
)
def test_a_scan_with_nothing_to_parse_says_what_one_says_that_is_parsed(
    world: World, run: Clawmend, plain: tuple[str, ...], parsed: tuple[str, ...], env: dict[str, str]
) -> None:
    world.recording("success-done")
    world.stuck()
    world.write_store(b"{", agent="beta")
    one, other = run(*plain, **env), run(*parsed, **env)
    assert (one.returncode, one.stderr) == (other.returncode, other.stderr)
    assert re.sub(r"[0-9]+", "0", one.stdout) == re.sub(r"[0-9]+", "0", other.stdout), "but for the time that passed"


def test_a_scan_that_is_interrupted_ends_with_130(world: World, run: Clawmend) -> None:
    world.stuck()
    rows = world.rows()
    world.write_store(json.dumps({f"{STUCK_KEY}-{n}": rows[STUCK_KEY] for n in range(200)}).encode())
    words = [sys.executable, "-m", "app.cli", "scan", "--json"]
    with subprocess.Popen(
        words, cwd=world.folder, env=run.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1), "it writes more than a pipe holds, to nobody who reads"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130


@pytest.mark.parametrize("name", [STUCK_KEY, STUCK_SESSION_ID])
def test_explain_shows_the_verdict_and_its_evidence(world: World, run: Clawmend, name: str) -> None:
    world.stuck()
    done = run("explain", name)
    assert done.returncode == 1
    heading, verdict, evidence = done.stdout.split("\n", 2)
    assert heading == STUCK_KEY
    assert verdict.startswith("  stuck: ")
    assert json.loads(evidence)["session_id"] == STUCK_SESSION_ID


def test_explain_of_a_session_that_is_not_stuck_is_0(world: World, run: Clawmend) -> None:
    world.recording("success-done")
    assert run("explain", "agent:main:s-success").returncode == 0


@pytest.mark.parametrize("command", [("explain",), ("repair", "--apply", "--force", "done")])
def test_an_unknown_id_is_2_and_one_line(world: World, run: Clawmend, command: tuple[str, ...]) -> None:
    world.stuck()
    with tree_unchanged(world.state):
        assert "nobody" in one_line(run(*command, "nobody"))


@pytest.mark.parametrize("command", [("explain",), ("repair", "--apply")])
def test_an_id_of_two_sessions_is_2_and_both_are_named(world: World, run: Clawmend, command: tuple[str, ...]) -> None:
    world.stuck()
    rows = world.rows()
    world.write_store(json.dumps({**rows, "agent:main:twin": rows[STUCK_KEY]}).encode())
    with tree_unchanged(world.state):
        line = one_line(run(*command, STUCK_SESSION_ID))
    assert STUCK_KEY in line
    assert "agent:main:twin" in line


def test_repair_says_what_it_would_do_and_writes_nothing_until_told_to(world: World, run: Clawmend) -> None:
    ended_at = world.stuck()
    before = world.store().read_bytes()
    with tree_unchanged(world.state):
        planned = run("repair", STUCK_SESSION_ID)
    assert planned.returncode == 1
    assert "status running -> failed" in planned.stdout
    assert "--apply" in planned.stdout
    assert run("audit", "--json").stdout.strip() == "[]"

    done = run("repair", STUCK_SESSION_ID, "--apply", "--reason", "seen by hand")
    assert (done.returncode, done.stderr) == (0, "")
    assert (world.row()["status"], world.row()["endedAt"]) == ("failed", ended_at)
    (record,) = json.loads(run("audit", "--json").stdout)
    told = (record["outcome"], record["trigger"], record["reason"], record["forced"])
    assert told == ("applied", "cli", "seen by hand", False)
    assert run("scan").returncode == 0

    undo = next(line for line in done.stdout.splitlines() if "clawmend undo" in line).split()[-2:]
    undone = run(*undo)
    assert (undone.returncode, undone.stderr) == (0, "")
    assert world.store().read_bytes() == before
    with tree_unchanged(world.state):
        assert one_line(run(*undo))
    listed = run("audit").stdout.splitlines()
    assert [line.split()[3] for line in listed] == ["undo", "settle"], "the newest first"


def test_repair_of_a_session_that_works_is_refused_even_with_apply_and_force(world: World, run: Clawmend) -> None:
    world.stuck()
    lock = {"pid": os.getpid(), "starttime": start_ticks(os.getpid())}
    (world.sessions() / f"{STUCK_SESSION_ID}.jsonl.lock").write_text(json.dumps(lock))
    for force in ((), ("--force", "done")):
        with tree_unchanged(world.state):
            assert "working" in one_line(run("repair", STUCK_SESSION_ID, "--apply", *force))


def test_force_settles_what_cannot_be_proven_to_the_status_that_is_named(world: World, run: Clawmend) -> None:
    world.write_store(b"{}")
    started = world.clock.now() - 3_600_000
    row = {"sessionId": "never", "status": "running", "startedAt": started, "updatedAt": started}
    world.write_store(json.dumps({"agent:main:never": row}).encode())
    with tree_unchanged(world.state):
        assert "never_started" in one_line(run("repair", "never", "--apply"))
        assert run("repair", "never", "--force", "killed").returncode == 1
    done = run("repair", "never", "--force", "killed", "--apply")
    assert (done.returncode, world.row("agent:main:never")["status"]) == (0, "killed")
    assert run("repair", "never", "--force", "gone").returncode == 2


def test_a_parent_whose_child_runs_in_another_agents_store_is_left_alone(world: World, run: Clawmend) -> None:
    world.stuck()
    now = world.clock.now()
    child = {"sessionId": "child", "status": "running", "startedAt": now, "updatedAt": now, "spawnedBy": STUCK_KEY}
    world.write_store(json.dumps({"agent:beta:child": child}).encode(), agent="beta")
    with tree_unchanged(world.state):
        assert "waiting" in one_line(run("repair", STUCK_SESSION_ID, "--apply"))


@pytest.mark.parametrize("attempt", ["nonsense", str(uuid4())])
def test_undo_of_a_repair_that_nobody_made_is_2(world: World, run: Clawmend, attempt: str) -> None:
    world.stuck()
    with tree_unchanged(world.state):
        assert attempt in one_line(run("undo", attempt))


def test_an_audit_without_repairs_says_so(world: World, run: Clawmend) -> None:
    done = run("audit")
    assert (done.returncode, done.stdout) == (0, "nothing was repaired yet\n")


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("scan", "PORT", "x"),
        ("scan", "API_TOKEN", "short"),
        ("serve", "STALE_AFTER_SECONDS", "0"),
        ("audit", "DATABASE_URL", "audit.db"),
    ],
)
def test_a_wrong_setting_stops_every_command_with_one_line(run: Clawmend, command: str, name: str, value: str) -> None:
    assert f"CLAWMEND_{name}" in one_line(run(command, **{f"CLAWMEND_{name}": value}))


@pytest.mark.parametrize(
    ("command", "url"),
    [
        (("serve",), "no-such://database"),
        (("audit",), "sqlite:////proc/no/such/audit.db"),
        (("undo", "x"), "mysql+nodriver://h/x"),
        (("repair", STUCK_KEY, "--apply"), "sqlite:////proc/no/such/audit.db"),
    ],
)
def test_a_database_that_cannot_be_opened_is_one_line(
    world: World, run: Clawmend, url: str, command: tuple[str, ...]
) -> None:
    world.stuck()
    with tree_unchanged(world.state):
        assert "audit database" in one_line(run(*command, CLAWMEND_DATABASE_URL=url))


def test_serve_with_a_token_file_of_noise_is_one_line(world: World, run: Clawmend) -> None:
    own = world.folder / "own"
    own.mkdir()
    (own / "token").write_bytes(b"\xff" * 40)
    assert "token" in run("serve").stderr.splitlines()[-1]


def test_a_reason_that_is_no_text_is_no_crash(world: World, run: Clawmend) -> None:
    """As a terminal in Latin-1 sends it."""
    world.stuck()
    done = run("repair", STUCK_SESSION_ID, "--apply", "--reason", b"caf\xe9")
    assert (done.returncode, world.row()["status"]) in ((0, "failed"), (2, "running"))


@pytest.mark.parametrize("arguments", [("scan", "--json"), ("--help",)], ids=" ".join)
def test_a_reader_that_goes_away_early_is_no_crash(world: World, run: Clawmend, arguments: tuple[str, ...]) -> None:
    world.stuck()
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as nobody:
        done = run.into(nobody, *arguments)
    assert (done.returncode, done.stderr) == (2, "")


# --- beside a gateway ---


def test_a_repair_asks_the_gateway_first_and_tells_it_afterwards_and_so_does_undo(world: World, run: Clawmend) -> None:
    world.stuck()
    peer = Peer(world.store())
    try:
        beside = {"CLAWMEND_GATEWAY": peer.url, "CLAWMEND_GATEWAY_TOKEN": TOKEN}
        peer.active = {STUCK_KEY}
        refused = run("repair", STUCK_KEY, "--apply", **beside)
        assert "the gateway says that a run of it is active" in one_line(refused)
        assert world.row()["status"] == "running"
        peer.active = set()
        assert run("repair", STUCK_KEY, "--apply", **beside).returncode == 0
        assert peer.methods().count("sessions.patch") == 1
        (record,) = json.loads(run("audit", "--json").stdout)
        assert record["told"]["answer"] == "as_repaired"
        assert run("undo", record["id"], **beside).returncode == 0
        assert peer.methods().count("sessions.patch") == 2
    finally:
        peer.stop()


def test_a_gateway_that_is_not_there_does_not_keep_a_repair_from_being_done(world: World, run: Clawmend) -> None:
    world.stuck()
    done = run("repair", STUCK_KEY, "--apply", CLAWMEND_GATEWAY="ws://127.0.0.1:1")
    assert done.returncode == 0, done
    (record,) = json.loads(run("audit", "--json").stdout)
    assert (record["told"]["answer"], record["told"]["why"]) == ("not_told", "nobody listens there")
