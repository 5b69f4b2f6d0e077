"""Where the proof of one row is looked for: OPENCLAW_TRAJECTORY_DIR, sessionFile, rotated ids; files that change."""

from __future__ import annotations

import json
import os

import pytest

from app.domain.model import Code, Row, Verdict
from app.openclaw.place import OpenPlaces, Place
from app.openclaw.trails import TrailReader, Trails
from tests.world import STUCK_KEY, STUCK_SESSION_ID, World, finding_of, run_for, run_pass


def verdict(world: World) -> Verdict:
    return finding_of(run_pass(world.reconciler(auto_repair=False))).verdict


def rename_session(world: World, session_id: str) -> None:
    """Give the stuck session another sessionId, in its row and in its trajectory; no pointer."""
    world.edit_row(sessionId=session_id, sessionFile=None)
    file = world.trajectory()
    file.write_bytes(file.read_bytes().replace(STUCK_SESSION_ID.encode(), session_id.encode()))
    (world.sessions() / f"{STUCK_SESSION_ID}.trajectory-path.json").unlink()


# OPENCLAW_TRAJECTORY_DIR

NAMES = [
    ("d3e9c2be-6fc1-49a5", None, "d3e9c2be-6fc1-49a5"),
    ("a.b", None, "a_b"),
    ("x" * 121, None, "x" * 120),
    ("a." + "b" * 126, None, "a_" + "b" * 118),
    ("a.b:c@d", "any.jsonl", "a_b_c_d"),
]
"""What paths-Ox1wtj8T.js, safeTrajectorySessionFileName, makes of an id."""


@pytest.mark.parametrize(("session_id", "session_file", "name"), NAMES)
def test_in_openclaw_trajectory_dir_the_file_has_the_sanitised_name(
    world: World, session_id: str, session_file: str | None, name: str
) -> None:
    world.stuck()
    rename_session(world, session_id)
    world.edit_row(sessionFile=session_file)
    folder = world.folder / "trajectories"
    folder.mkdir()
    world.trajectory().rename(folder / f"{name}.jsonl")
    world.env["OPENCLAW_TRAJECTORY_DIR"] = f" {folder} "
    assert verdict(world).code is Code.STUCK


def test_the_tilde_of_openclaw_trajectory_dir_is_openclaws_home(world: World) -> None:
    """paths-Ox1wtj8T.js expands it by resolveHomeRelativePath, like every other path."""
    world.stuck()
    rename_session(world, "a.b")
    folder = world.folder / "openclaw-home" / "t"
    folder.mkdir(parents=True)
    world.trajectory().rename(folder / "a_b.jsonl")
    world.env |= {"OPENCLAW_HOME": str(folder.parent), "OPENCLAW_TRAJECTORY_DIR": "~/t"}
    assert verdict(world).code is Code.STUCK


def test_a_file_that_two_ids_share_by_their_sanitised_name_proves_nothing_for_the_other(world: World) -> None:
    world.stuck()
    rename_session(world, "a.b")
    folder = world.folder / "trajectories"
    folder.mkdir()
    world.trajectory().rename(folder / "a_b.jsonl")
    world.env["OPENCLAW_TRAJECTORY_DIR"] = str(folder)
    world.edit_row(sessionId="a_b")
    assert verdict(world).code is Code.UNPROVABLE


# sessionFile

SID = STUCK_SESSION_ID


@pytest.mark.parametrize(
    ("session_file", "base"),
    [
        (None, "main/sessions/{sid}"),
        ("   ", "main/sessions/{sid}"),
        ("{sid}-topic-5.jsonl", "main/sessions/{sid}-topic-5"),
        ("{state}/agents/main/sessions/{sid}-topic-a%20b.jsonl", "main/sessions/{sid}-topic-a%20b"),
        (
            " {state}/agents/main/sessions/2026-05-18T12-00-00-000Z_{sid}.jsonl ",
            "main/sessions/2026-05-18T12-00-00-000Z_{sid}",
        ),
        ("{state}/agents/beta/sessions/x.jsonl", "beta/sessions/x"),
        ("/home/claw/.openclaw/agents/beta/sessions/x.jsonl", "beta/sessions/x"),
        ("/home/claw/.openclaw/agents/main/sessions/deeper/x.jsonl", "main/sessions/{sid}"),
        ("/var/elsewhere/x.jsonl", "main/sessions/{sid}"),
        ("../x.jsonl", "main/sessions/{sid}"),
        ("{state}/agents/main/sessions", "main/sessions/{sid}"),
        ("{sid}\0.jsonl", "main/sessions/{sid}"),
    ],
)
def test_the_trajectory_is_looked_for_beside_the_transcript_that_the_row_names(
    world: World, session_file: str | None, base: str
) -> None:
    """paths-RbVDOqFp.js, resolveSessionFilePath; a path of another machine counts by its shape."""
    world.stuck()
    (world.sessions("beta")).mkdir(parents=True)
    world.edit_row(sessionFile=session_file and session_file.format(sid=SID, state=world.state))
    place = world.state / "agents" / f"{base.format(sid=SID)}.trajectory.jsonl"
    world.trajectory().rename(place)

    finding = finding_of(run_pass(world.reconciler(auto_repair=False)))

    assert [t.path for t in finding.evidence.trails] == [str(place)]
    assert finding.verdict.code is Code.STUCK


def test_a_store_elsewhere_may_name_transcripts_in_the_state_dir(world: World) -> None:
    """So it is after `session.store` was set on an old installation: resolveSessionFilePath gave the old path back."""
    world.stuck()
    world.edit_row(sessionFile=str(world.sessions() / f"{SID}.jsonl"))
    store = world.folder / "elsewhere" / "main.json"
    store.parent.mkdir()
    world.store().rename(store)
    (world.state / "openclaw.json").write_text("{session: {store: '" + str(store.parent) + "/{agentId}.json'}}")
    assert verdict(world).code is Code.STUCK


# Rotated ids


def test_an_end_in_the_trajectory_of_an_earlier_id_proves_by_its_session_key(world: World) -> None:
    world.stuck()
    world.edit_row(sessionId="after-compaction", sessionFile=None, usageFamilySessionIds=["older", SID])
    assert verdict(world).code is Code.STUCK


def test_an_end_in_the_trajectory_of_an_earlier_id_proves_nothing_for_another_key_or_without_one(world: World) -> None:
    world.stuck()
    world.edit_row(sessionId="after-compaction", sessionFile=None, usageFamilySessionIds=[SID])
    data = world.trajectory().read_bytes()
    for key in (b'"sessionKey":"agent:main:cron:1",', b""):
        world.trajectory().write_bytes(data.replace(f'"sessionKey":"{STUCK_KEY}",'.encode(), key))
        assert verdict(world).code is Code.UNPROVABLE


def test_a_turn_under_the_new_id_outweighs_the_end_under_the_old_one(world: World) -> None:
    ended_at = world.stuck()
    world.edit_row(sessionId="after-compaction", sessionFile=None, usageFamilySessionIds=[SID])
    world.append(world.event("session.started", ended_at + 5, sessionId="new"), session_id="after-compaction")
    assert verdict(world).code in (Code.WORKING, Code.SILENT)


# Files that change, and files that do not


def test_a_file_replaced_under_our_feet_is_read_again(world: World) -> None:
    """2026.7.x writes the whole file anew. Size and time are the old ones; only the inode tells."""
    ended_at = world.stuck()
    started = json.dumps(world.event("session.started", ended_at)).encode()
    data = world.trajectory().read_bytes()
    world.trajectory().write_bytes(data + b" " * len(started) + b"\n\n")
    os.utime(world.trajectory(), ns=(0, 0))
    reconciler = world.reconciler(auto_repair=False)
    assert finding_of(run_pass(reconciler)).verdict.code is Code.STUCK

    beside = world.folder / "rewritten"
    beside.write_bytes(data + started + b"\n\n")
    os.utime(beside, ns=(0, 0))
    beside.rename(world.trajectory())

    assert finding_of(run_pass(reconciler)).verdict.code in (Code.WORKING, Code.SILENT)


def test_a_file_rewritten_with_the_same_end_is_watched_anew(world: World) -> None:
    """2026.7.x sorts by time and keeps the newest: the end stays the last line, and the writer was just alive."""
    world.stuck()
    reconciler = world.reconciler(auto_repair=False)
    assert finding_of(run_for(reconciler, world.clock, 180)).verdict.ripe
    lines = world.trajectory().read_bytes().splitlines(keepends=True)
    beside = world.folder / "rewritten"
    beside.write_bytes(b"".join(sorted(lines, key=lambda line: json.loads(line)["ts"])[7:]))
    beside.rename(world.trajectory())

    finding = finding_of(run_pass(reconciler))
    assert (finding.verdict.ripe, finding.evidence.watched) == (False, 0)
    assert finding_of(run_for(reconciler, world.clock, 180)).verdict.ripe


@pytest.mark.parametrize("where", ["file", "folder"])
def test_a_trajectory_behind_a_link_is_refused(world: World, where: str) -> None:
    world.stuck()
    linked = world.trajectory() if where == "file" else world.sessions("beta")
    if where == "folder":
        world.edit_row(sessionFile=str(linked / "x.jsonl"))
        linked.parent.mkdir()
    target = world.folder / "target"
    world.trajectory().rename(target) if where == "file" else target.mkdir()
    linked.symlink_to(target)
    found = verdict(world)
    assert found.code is Code.UNPROVABLE
    assert "symbolic link" in found.reason


def test_an_unchanged_trajectory_is_not_read_again(world: World) -> None:
    world.stuck()
    reader = TrailReader()
    sessions = Place(str(world.state / "agents"), str(world.sessions()), "sessions.json")
    row = Row(STUCK_KEY, session_id=SID, status="running", started_at=1)

    def read() -> Trails:
        with OpenPlaces() as places:
            return reader.read(row, places, sessions=sessions, state_dir=str(world.state))

    first = read()
    cost = reader.bytes_read
    assert cost > 0
    assert read() == first
    assert reader.bytes_read == cost

    world.append(world.event("session.started", world.clock.now()))
    (trail,) = read().trails
    assert trail.end is None
    assert reader.bytes_read > cost


def test_a_long_trajectory_costs_what_its_tail_costs(world: World) -> None:
    world.stuck()
    data = world.trajectory().read_bytes()
    of_yesterday = "".join(
        json.dumps(world.event("context.compiled", 1, {"x": "x" * 90_000})) + "\n" for _ in range(100)
    )
    world.trajectory().write_bytes(of_yesterday.replace(", ", ",").replace(": ", ":").encode() + data)
    reader = TrailReader()
    sessions = Place(str(world.state / "agents"), str(world.sessions()), "sessions.json")
    row = Row(STUCK_KEY, session_id=SID, started_at=1)
    with OpenPlaces() as places:
        (trail,) = reader.read(row, places, sessions=sessions, state_dir=str(world.state)).trails
    assert trail.end is not None
    assert reader.bytes_read <= 2 * len(data), "the tail, and what was written in the hour before its end"


# Tails that the disk is asked for ahead


def test_the_disk_is_asked_for_the_tails_that_are_not_known_yet_and_for_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stuck()
    size = world.trajectory().stat().st_size
    asked: list[tuple[int, int, int, int]] = []

    def advise(fd: int, offset: int, length: int, advice: int) -> None:
        asked.append((os.fstat(fd).st_ino, offset, length, advice))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    reconciler = world.reconciler(auto_repair=False)
    run_pass(reconciler)
    assert asked == [(world.trajectory().stat().st_ino, size - 4096, 4096, os.POSIX_FADV_WILLNEED)]
    world.edit_row(model="another")
    run_pass(reconciler)
    assert len(asked) == 1


def test_no_tail_is_asked_for_through_a_link(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.stuck()
    elsewhere = world.folder / "elsewhere"
    world.trajectory().rename(elsewhere)
    world.trajectory().symlink_to(elsewhere)
    asked: list[int] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, *_: asked.append(fd))
    assert verdict(world).code is not Code.STUCK
    assert not asked
