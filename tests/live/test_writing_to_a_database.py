"""Rows of a real gateway of the SQLite era, left running by a lock across the end of their turns, and what it makes of
them when they have been settled in its database: while it runs, and while it is stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.domain.entry import Entry
from app.openclaw.replacement import Written
from tests.live.client import Client
from tests.live.gateway import Gateway
from tests.live.hands import VERSIONS, Hands, openclaw, wait_until
from tests.live.model_server import model_server

LIVE, STOPPED, LEFT = "agent:main:settled-live", "agent:main:settled-while-stopped", "agent:main:left-running"


@dataclass
class Story:
    """What was seen."""

    version: str
    rows: dict[str, dict[str, Entry]] = field(default_factory=dict)
    """At each stage, every entry."""
    pending: dict[str, list[Any]] = field(default_factory=dict)
    written: dict[str, Written] = field(default_factory=dict)
    listed: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    naive: str = ""
    """What the gateway said when it was started on a row that was updated without more ado; empty where it started."""
    validity: int | None = None
    """`entry_valid` of that row when the gateway had been started on it, or had not."""
    sessions: list[dict[str, Any]] = field(default_factory=list)
    """`openclaw sessions --json`, once it has been started again."""
    doctor: str = ""


def play(gateway: Gateway) -> Story:
    story, hands = Story(gateway.version), Hands(gateway)

    def note(stage: str) -> None:
        story.rows[stage] = hands.entries()
        story.pending[stage] = hands.pending()

    gateway.start()
    try:
        with closing(Client(gateway)) as person:
            for key in (LIVE, STOPPED, LEFT):
                hands.leave_running(person, key)
            note("stuck")
            story.written[LIVE] = hands.settle(LIVE, live=True)
            note("settled live")
            story.listed["before the patch"] = person.listed()
            person.call("sessions.patch", {"key": LIVE})
            story.listed["after the patch"] = person.listed()
            for key in (STOPPED, LEFT):
                hands.end_of(hands.entries()[key])
    finally:
        gateway.end()
    story.written[STOPPED] = hands.settle(STOPPED, live=False)
    note("settled while stopped")
    aside = gateway.home / "aside"
    shutil.copytree(gateway.state, aside, symlinks=True)
    hands.update_without_more_ado(LEFT)
    try:
        gateway.start()
    except RuntimeError as error:
        story.naive = str(error)
    gateway.end()
    story.validity = hands.validity(LEFT)
    shutil.rmtree(gateway.state)
    aside.rename(gateway.state)
    gateway.start()
    try:
        was = story.rows["stuck"][LEFT].run_id
        with closing(Client(gateway)) as person:
            wait_until(lambda: hands.last_run(LEFT) not in (None, was), 0.2)
            story.listed["started again"] = person.listed()
        story.sessions = json.loads(openclaw(gateway, "sessions", "--json"))["sessions"]
        story.doctor = openclaw(gateway, "doctor", "--non-interactive")
        note("after the doctor")
    finally:
        gateway.end()
    return story


@pytest.fixture(scope="module", params=VERSIONS)
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with model_server() as port:
        yield play(Gateway(request.param, tmp_path_factory.mktemp("database"), port))


def test_the_bug_is_there_the_turns_have_ended_and_the_rows_run_on(story: Story) -> None:
    stuck = story.rows["stuck"]
    assert {(stuck[k].status, stuck[k].ended_at) for k in (LIVE, STOPPED, LEFT)} == {("running", None)}


def test_a_row_is_settled_while_the_gateway_runs_and_one_patch_makes_it_show_it(story: Story) -> None:
    assert story.written[LIVE].kind == "written", story.written
    row = story.rows["settled live"][LIVE]
    assert row.status == "done"
    shown = story.listed["after the patch"][LIVE]
    assert (shown["status"], shown["endedAt"]) == ("done", row.ended_at)


def test_a_row_is_settled_while_the_gateway_is_stopped_and_nothing_waits_to_be_validated(story: Story) -> None:
    assert story.written[STOPPED].kind == "written", story.written
    assert story.rows["settled while stopped"][STOPPED].status == "done"
    assert story.pending["settled while stopped"] == []


def test_the_gateway_starts_lists_the_row_as_done_and_the_doctor_changes_nothing(story: Story) -> None:
    by_key = {row["key"]: row for row in story.sessions}
    assert by_key[STOPPED]["status"] == by_key[LIVE]["status"] == "done"
    assert story.rows["after the doctor"][STOPPED].text == story.rows["settled while stopped"][STOPPED].text
    assert story.pending["after the doctor"] == []
    assert "requires repair" not in story.doctor


def test_the_turn_of_a_settled_row_is_not_run_again_and_that_of_one_that_was_left_running_is(story: Story) -> None:
    def last_run(stage: str, key: str) -> Any:
        return json.loads(story.rows[stage][key].text).get("lastRunId")

    runs = {key: story.rows["stuck"][key].run_id for key in (LIVE, STOPPED, LEFT)}
    assert last_run("after the doctor", STOPPED) == runs[STOPPED]
    assert last_run("after the doctor", LIVE) == runs[LIVE]
    assert last_run("after the doctor", LEFT) not in (None, runs[LEFT])


def test_a_row_that_is_updated_without_more_ado_keeps_the_gateway_from_starting_or_is_invalid_in_it(
    story: Story,
) -> None:
    if story.version == "2026.8.1":
        assert (story.naive, story.validity) == ("", -1)
    else:
        assert "requires repair" in story.naive
