"""A store that parses, with a row that is not what it should be; links; owners: see test_bad_input."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from app.api.health import health_checks
from app.api.lists import Lists, Query
from app.api.views import describe_problems
from app.domain.model import Code
from app.reconcile.service import Service
from tests.integration.test_bad_input import (
    BAD_KEY,
    NOBODY,
    add_bad_agent,
    change,
    pass_over,
    session,
)
from tests.world import World, attempts, finding_of, run_for, tree_unchanged

ROWS = [
    (
        "a field twice",
        lambda d: d.replace(b'"status": "running"', b'"status": "running", "status": "running"'),
        "twice",
    ),
    ("no sessionId", lambda d: d.replace(b'"sessionId":', b'"session":'), "no valid sessionId"),
    ("a path as sessionId", lambda d: d.replace(b'"sessionId": "', b'"sessionId": "../'), "no valid sessionId"),
    ("a word as startedAt", lambda d: d.replace(b'"startedAt": 1', b'"startedAt": "x", "y": 1'), "without startedAt"),
    ("startedAt beyond all time", lambda d: d.replace(b'"startedAt": 1', b'"startedAt": 1e300, "y": 1'), "future"),
]


@pytest.mark.parametrize(("spoil", "word"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_a_row_that_cannot_be_judged_gets_a_clear_reason(
    world: World, caplog: pytest.LogCaptureFixture, spoil: Callable[[bytes], bytes], word: str
) -> None:
    store = add_bad_agent(world)
    change(spoil)(store)
    code, reason = session(pass_over(world, caplog).report)
    assert code == "unprovable"
    assert word in reason


@pytest.mark.parametrize("value", [b"5", b'"running"', b"null", b'["running"]'])
def test_a_row_that_is_no_object_is_shown_and_left_alone(
    world: World, caplog: pytest.LogCaptureFixture, value: bytes
) -> None:
    store = add_bad_agent(world)
    store.write_bytes(b'{"agent:bad:s-error400": ' + value + b"}")
    assert session(pass_over(world, caplog).report) == ("unprovable", "its row is not an object")


def test_a_lone_surrogate_in_a_session_key_is_shown_and_left_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    store = add_bad_agent(world)
    store.write_bytes(store.read_bytes().replace(b"agent:bad:s-error400", b"agent:bad:\\ud83d"))
    reconciler = pass_over(world, caplog)
    listed = orjson.loads(
        Lists().get(reconciler.report, reconciler.settings.policy, Query(tuple(Code), evidence=False)).body
    )
    (item,) = [i for i in listed["items"] if i["agent_id"] == "bad"]
    assert (item["verdict"], item["reason"]) == ("unprovable", "its session key is not valid Unicode")


def test_a_lone_surrogate_in_a_value_is_ordinary_life_and_stays_where_it_is(world: World) -> None:
    """Node writes one for a label that was cut inside an emoji; the row is settled, the escape is not touched."""
    store = add_bad_agent(world)
    change(lambda d: d.replace(b'"lastChannel": "webchat"', b'"lastChannel": "\\ud83d"'))(store)
    before = store.read_bytes()
    run_for(world.reconciler(), world.clock, 150, step=30)
    after = store.read_bytes()
    assert b'"lastChannel": "\\ud83d"' in after
    assert b'"status": "failed"' in after
    assert len(after) > len(before)


@pytest.mark.parametrize("link", ["bad", "bad/sessions"])
@pytest.mark.parametrize("configured", [True, False])
def test_a_symlinked_agent_dir_is_not_followed(
    world: World, caplog: pytest.LogCaptureFixture, link: str, configured: bool
) -> None:
    """Skipped without a word where it was only found, as OpenClaw does; named where the configuration asks for it."""
    add_bad_agent(world)
    outside = world.folder / "outside"
    folder = world.state / "agents" / link
    folder.rename(outside)
    folder.symlink_to(outside)
    if configured:
        (world.state / "openclaw.json").write_text('{agents: {list: [{id: "main"}, {id: "bad"}]}}')
    with tree_unchanged(outside):
        reconciler = pass_over(world, caplog)
    assert [f.agent_id for f in reconciler.report.findings()] == ["main"]
    if configured or link == "bad/sessions":
        assert {p["code"] for p in describe_problems(reconciler.report)} == {"symlink"}, "of its file, of its database"
    else:
        assert describe_problems(reconciler.report) == []


def make_hard_link(store: Path) -> None:
    os.link(store, store.parents[4] / "second-name")


def give_away(store: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    os.chown(store, NOBODY, NOBODY)


@pytest.mark.parametrize(("spoil", "word"), [(make_hard_link, "second name"), (give_away, "another user")])
def test_a_store_that_may_be_read_and_not_replaced_is_refused_and_put_off(
    world: World, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None], word: str
) -> None:
    store = add_bad_agent(world)
    spoil(store)
    reconciler = world.reconciler()
    with caplog.at_level(logging.DEBUG, "clawmend"):
        identity = store.stat().st_ino, store.read_bytes()
        run_for(reconciler, world.clock, 150, step=30)
    assert (store.stat().st_ino, store.read_bytes()) == identity
    assert world.row()["status"] == "failed"
    assert not [r for r in caplog.records if r.exc_info or r.levelno >= logging.ERROR]

    refused = [a for a in attempts(reconciler) if a.agent_id == "bad"]
    assert {a.outcome for a in refused} == {"refused"}
    assert all(word in (a.outcome_reason or "") for a in refused)
    finding = finding_of(reconciler.report, BAD_KEY)
    assert finding.verdict.code is Code.STUCK
    assert finding.put_off_until is not None
    repairs = health_checks(Service(reconciler))["repairs"]
    assert (repairs["status"], repairs["failing"]) == ("warn", 1)
