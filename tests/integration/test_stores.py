"""A large store that changes: what was found of its rows stays, where they are as they were; the rest is found anew."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.clock import SystemClock
from app.domain.model import Code, Policy
from app.openclaw.notices import Notices
from app.openclaw.paths import StoreTarget
from app.openclaw.trails import TrailReader
from app.reconcile.stores import Known, Stores
from tests.faults.crowd import Crowd

ROWS, WEIGHT = 40, 120_000
"""Of the five pieces in which they are read, each has eight or nine."""
Rows = dict[str, Any]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    crowd = Crowd(tmp_path / "state", SystemClock().now())
    for number in range(ROWS):
        crowd.settled("main", f"s{number}", weight=WEIGHT)
    crowd.write()
    return crowd.store("main")


def target_of(store: Path) -> StoreTarget:
    state = str(store.parents[3])
    return StoreTarget(state, "main", str(store), state)


def stores() -> Stores:
    return Stores(SystemClock(), Policy(), 1 << 26, TrailReader(None, 60), Notices(SystemClock()))


def look(at: Stores, target: StoreTarget) -> Known:
    known = at.look(target)
    assert isinstance(known, Known)
    return known


def rewrite(store: Path, change: Callable[[Rows], Rows]) -> None:
    """As a gateway does: another file takes the name."""
    beside = store.with_name("beside")
    beside.write_text(json.dumps(change(json.loads(store.read_text())), indent=2))
    os.replace(beside, store)


def nth(number: int, **fields: Any) -> Callable[[Rows], Rows]:
    def change(rows: Rows) -> Rows:
        key = list(rows)[number]
        return {**rows, key: {**rows[key], **fields}}

    return change


def a_row_comes_first(rows: Rows) -> Rows:
    return {"agent:main:new": {"sessionId": "new", "status": "done"}, **rows}


def a_row_goes(rows: Rows) -> Rows:
    return dict(list(rows.items())[:7] + list(rows.items())[8:])


def all_change_places(rows: Rows) -> Rows:
    return dict(reversed(rows.items()))


CHANGES = [
    nth(20, status="running"),
    nth(20, status="done"),
    nth(0, status="running", sessionId=7),
    nth(39, status=None, spawnedBy="agent:main:s3"),
    nth(21, status="killed"),
    a_row_comes_first,
    a_row_goes,
    all_change_places,
]


def test_what_is_known_of_a_store_that_changed_is_what_a_first_look_finds(store: Path) -> None:
    target, passes = target_of(store), stores()
    look(passes, target)
    for change in CHANGES:
        rewrite(store, change)
        found, afresh = (replace(look(s, target), pieces=(), still=()) for s in (passes, stores()))
        assert found == afresh
    known = look(passes, target)
    assert [row.session_id for row in known.open_rows] == [None]
    assert [parent for parent, _ in known.children] == ["agent:main:s3"]
    assert "its status is killed" in [finding.verdict.reason for finding in known.settled]


def test_of_a_store_in_which_a_row_changed_only_its_own_piece_is_judged_again(store: Path) -> None:
    target, passes = target_of(store), stores()
    before = look(passes, target)
    rewrite(store, nth(20, status="killed"))
    after = look(passes, target)
    same = [now is then for now, then in zip(after.settled, before.settled, strict=True)]
    assert not same[20]
    assert same.count(True) >= ROWS - 9


def test_a_store_that_is_another_agents_now_is_judged_as_that_agents(store: Path) -> None:
    target, passes = target_of(store), stores()
    look(passes, target)
    rewrite(store, nth(20, status="killed"))
    known = look(passes, replace(target, agent_id="other"))
    assert {finding.target.agent_id for finding in known.settled} == {"other"}
    assert {finding.verdict.code for finding in known.settled} == {Code.SETTLED}
