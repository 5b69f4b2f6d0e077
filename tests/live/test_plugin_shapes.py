"""The plugin on gateways that are not built as it knows them: it says that it does not know, and writes nothing.

Real gateways of every shape cannot be had, so Node runs the shipped file on made ones.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.openclaw.plugin_install import FOLDER
from tests.live.gateway import NODE

ROW = {"sessionId": "s", "startedAt": 5, "status": "running", "abortedLastRun": False, "updatedAt": 6, "label": "x"}
WHICH = {"key": "agent:main:a", "agentId": "main", "expectedSessionId": "s", "expectedStartedAt": 5}
SETTLE = ("clawmend.settle", {**WHICH, "status": "failed", "endedAt": 9, "runId": "r"})
LIVE = ("clawmend.live", {"agentId": "main", "sessions": [{"key": "agent:main:a", "sessionId": "s"}]})
AFTER = {"status": "failed", "endedAt": 9, "runtimeMs": 4, "abortedLastRun": False}
SHAPES = (
    "context", "chat", "queue", "tasks", "embeddedRunState", "replyRunRegistry", "commandQueueState",
    "commandQueueState.lanes", "embeddedRunState.activeRuns", "embeddedRunState.sessionIdsByKey",
    "replyRunRegistry.activeRunsByKey", "replyRunRegistry.activeKeysBySessionId",
)  # fmt: skip


def run(*calls: tuple[str, dict[str, Any]], **scenario: Any) -> dict[str, Any]:
    given = {"plugin": f"file://{FOLDER / 'index.js'}", "api": ["patchSessionEntry"], "row": ROW, "calls": calls}
    harness = Path(__file__).with_name("plugin_harness.mjs")
    words = json.dumps({**given, **scenario})
    done = subprocess.run(
        [str(NODE / "node"), str(harness)], input=words, capture_output=True, text=True, timeout=60, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("api", [["patchSessionEntry"], ["updateSessionStoreEntry"]])
def test_either_api_of_the_store_will_do(api: list[str]) -> None:
    found = run(LIVE, SETTLE, SETTLE, api=api)
    live, settled, again = found["answers"]
    assert live == {"store": "/store", "active": [False]}
    assert (settled["applied"], settled["after"]) == (True, AFTER)
    assert settled["before"] == {"status": "running", "abortedLastRun": False}
    assert again["reason"] == "not-running"
    assert found["row"] == {**ROW, **AFTER}
    assert [(name, event.get("state")) for name, event in found["heard"]] == [
        ("sessions.changed", None),
        ("chat", "error"),
    ], "each once"


def test_without_an_api_of_the_store_there_are_no_methods() -> None:
    assert run(SETTLE, api=[])["methods"] == []


@pytest.mark.parametrize("broken", SHAPES)
def test_an_unknown_shape_is_do_not_know_and_nothing_is_written(broken: str) -> None:
    found = run(LIVE, SETTLE, broken=broken)
    live, settled = found["answers"]
    assert live["active"] == [None]
    assert (settled["applied"], settled["reason"]) == (False, "unknown-shape")
    assert (found["row"], found["heard"]) == (ROW, [])


@pytest.mark.parametrize(
    "busy",
    [
        {"chats": {"r": {"sessionKey": "agent:main:A"}}},
        {"chats": {"r": {"sessionKey": "an alias", "sessionId": "s"}}},
        {"queue": 1},
    ],
)
def test_a_run_that_is_active_or_waits_is_a_veto(busy: dict[str, Any]) -> None:
    found = run(LIVE, SETTLE, **busy)
    assert found["answers"][0]["active"] == [True]
    assert found["answers"][1]["reason"] == "active-run"
    assert found["row"] == ROW


@pytest.mark.parametrize(
    ("owned", "detail"),
    [
        ({"abortedLastRun": True}, "abortedLastRun"),
        ({"restartRecoveryDeliveryRunId": "r"}, "restartRecoveryDeliveryRunId"),
        ({"pendingFinalDelivery": {"a": 1}}, "pendingFinalDelivery"),
        ({"providerReview": True}, "providerReview"),
        ({"updatedAt": 0}, "updatedAt"),
    ],
)
def test_a_row_that_openclaw_is_on_is_left_alone(owned: dict[str, Any], detail: str) -> None:
    (answer,) = run(SETTLE, row={**ROW, **owned})["answers"]
    assert (answer["reason"], answer["detail"]) == ("recovering", detail)


def test_fields_of_recovery_that_are_empty_are_none() -> None:
    (answer,) = run(SETTLE, row={**ROW, "restartRecoveryRuns": [], "subagentRecovery": {}})["answers"]
    assert answer["applied"] is True


def test_in_a_database_the_run_is_closed_as_the_gateway_does_it_and_given_back_by_an_undo() -> None:
    row = {**ROW, "lifecycleRunId": "r", "lastRunId": "q"}
    fields = [
        {"name": "status", "before": "running", "after": "failed"},
        {"name": "endedAt", "after": 9},
        {"name": "runtimeMs", "after": 4},
        {"name": "lastRunId", "before": "q", "after": "r"},
        {"name": "lifecycleRunId", "before": "r"},
    ]
    found = run(SETTLE, ("clawmend.undo", {**WHICH, "fields": fields}), row=row)
    settled, undone = found["answers"]
    assert settled["after"] == {**AFTER, "lastRunId": "r"}
    assert undone["applied"] is True
    assert found["row"] == row


@pytest.mark.parametrize(("name", "after"), [("status", "done"), ("endedAt", None), ("abortedLastRun", True)])
def test_an_undo_of_a_field_that_has_changed_since_changes_nothing(name: str, after: object) -> None:
    undo = ("clawmend.undo", {**WHICH, "fields": [{"name": name, "before": 1, "after": after}]})
    _, answer = run(SETTLE, undo)["answers"]
    assert (answer["reason"], answer["detail"]) == ("changed", name)


@pytest.mark.parametrize(
    ("status", "state"), [("done", "final"), ("killed", "aborted"), ("failed", "error"), ("timeout", "error")]
)
def test_the_sending_tab_is_told_how_the_turn_ended(status: str, state: str) -> None:
    found = run((SETTLE[0], {**SETTLE[1], "status": status}))
    _, (name, event) = found["heard"]
    assert (name, event["runId"], event["state"], "errorMessage" in event) == ("chat", "r", state, state == "error")
    assert found["row"]["abortedLastRun"] is (status == "killed")


def test_without_a_run_or_without_the_means_nobody_is_told_and_the_answer_says_so() -> None:
    without_run = {name: value for name, value in SETTLE[1].items() if name != "runId"}
    (answer,) = run((SETTLE[0], without_run))["answers"]
    assert answer["told"] == {"sessions": True, "chat": False}
    (mute,) = run(SETTLE, without=["broadcast", "broadcastToConnIds"])["answers"]
    assert (mute["applied"], mute["told"]) == (True, {"sessions": False, "chat": False})


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("settle", {}),
        ("settle", {**SETTLE[1], "status": "running"}),
        ("settle", {**SETTLE[1], "endedAt": "9"}),
        ("settle", {**SETTLE[1], "expectedStartedAt": 5.5}),
        ("settle", {**SETTLE[1], "key": 7}),
        ("undo", {**WHICH, "fields": []}),
        ("undo", {**WHICH, "fields": [{"name": "label", "before": "y", "after": "x"}]}),
        ("live", {"agentId": "main"}),
    ],
)
def test_a_wrong_order_is_refused_before_anything_is_read(method: str, params: dict[str, Any]) -> None:
    found = run((f"clawmend.{method}", params))
    assert found["answers"][0]["error"]["code"] == "INVALID_REQUEST"
    assert found["row"] == ROW


def test_a_failure_of_the_store_is_said_with_a_word_of_its_own() -> None:
    (answer,) = run(SETTLE, throws="database is locked")["answers"]
    assert answer["error"] == {"code": "CLAWMEND_FAILED", "message": "database is locked"}
