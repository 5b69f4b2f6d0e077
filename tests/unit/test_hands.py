from __future__ import annotations

from typing import Any

import pytest

from app.domain.model import Evidence, Gateway, Liveness, Row
from app.openclaw.paths import StoreTarget
from app.reconcile.hands import FILE, Hand, hand_for

DATABASE = StoreTarget("/x", "main", "/x/agents/main/agent/openclaw-agent.sqlite", "/x/agents", "database")
STORE = StoreTarget("/x", "main", "/x/agents/main/sessions/sessions.json", "/x/agents")
ROW = Row("agent:main:main", "a", "running", started_at=1)
STOPPED, RUNS, UNSURE = Gateway("absent"), Gateway("running", 1), Gateway("unknown", None, "a container?")
IDLE = Liveness(False, runs=())
NOT_ASKED = Liveness()
PLUGIN = Liveness(False, by_plugin=True)


def hand(gateway: Gateway, liveness: Liveness = NOT_ASKED, target: StoreTarget = DATABASE, **over: Any) -> Hand:
    words: dict[str, Any] = {"writes": "idle", "known_schema": True, "asked": True, **over}
    return hand_for(target, Evidence(ROW, gateway=gateway, liveness=liveness), **words)


@pytest.mark.parametrize("writes", ["idle", "stopped"])
def test_a_database_is_written_to_while_its_gateway_is_stopped(writes: str) -> None:
    assert hand(STOPPED, writes=writes) == Hand("database", live=False)


@pytest.mark.parametrize("gateway", [RUNS, UNSURE, STOPPED])
def test_a_gateway_that_says_that_nothing_runs_is_one_that_runs(gateway: Gateway) -> None:
    assert hand(gateway, IDLE) == Hand("database", live=True)
    assert hand(gateway, IDLE, writes="stopped").name is None


@pytest.mark.parametrize(
    "liveness",
    [Liveness(), Liveness(False), Liveness(None, runs=()), Liveness(True, runs=()), Liveness(False, runs=("r",))],
)
@pytest.mark.parametrize("gateway", [RUNS, UNSURE])
def test_anything_less_is_written_to_by_nobody_who_says_why(gateway: Gateway, liveness: Liveness) -> None:
    found = hand(gateway, liveness)
    assert found.name is None
    assert "(gateway_" in (found.why_not or "")


def test_what_the_gateway_is_asked_only_before_a_repair_is_no_reason_to_call_it_unwritable() -> None:
    assert hand(RUNS, asked=False) == Hand("database", live=True)


def test_where_it_is_off_only_the_plugin_writes() -> None:
    assert hand(STOPPED, writes="off").name is None
    assert hand(RUNS, IDLE, writes="off").name is None
    assert hand(RUNS, PLUGIN, writes="off") == Hand("plugin")


def test_to_an_unknown_schema_nobody_writes() -> None:
    for liveness in (IDLE, PLUGIN):
        assert hand(STOPPED, liveness, known_schema=False).name is None


def test_a_file_is_written_to_by_the_plugin_or_by_the_hand_for_files() -> None:
    for gateway in (STOPPED, RUNS, UNSURE):
        assert hand(gateway, target=STORE, writes="off", known_schema=False) == FILE
    assert hand(RUNS, PLUGIN, target=STORE) == Hand("plugin")
