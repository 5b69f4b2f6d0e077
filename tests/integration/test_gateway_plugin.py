"""What the plugin is asked and what its answers are taken for, over a real connection; the orders to the letter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.domain.model import Row
from app.openclaw import gateway_plugin
from app.openclaw.gateway_access import Access
from app.openclaw.gateway_frames import ADMIN, READ
from app.openclaw.gateway_link import Link, LinkFailed, Refused, open_link
from app.openclaw.gateway_plugin import (
    Changed,
    NotReached,
    Order,
    Unanswered,
    ask_plugin,
    carry_out,
    has_plugin,
    order_to_settle,
    order_to_undo,
)
from app.openclaw.paths import StoreTarget
from app.openclaw.sessions_json import read_rows
from tests.api.conftest import wait_until
from tests.peer import TOKEN, Peer, Refuse, Silence
from tests.world import STUCK_KEY, World

SECONDS = 10.0
LIVE = "clawmend.live"
ORDER = Order("clawmend.settle", {"key": "k", "status": "done"})
EXPECTED = {"key": STUCK_KEY, "agentId": "ops", "expectedSessionId": "s-1", "expectedStartedAt": 5}


@pytest.fixture
def row(world: World) -> Row:
    world.stuck(ended_ago=3_600)
    (row,) = (r for r in read_rows(world.store().read_bytes()) if r.key == STUCK_KEY)
    return replace(row, session_id="s-1", started_at=5)


@pytest.fixture
def peer(world: World) -> Iterator[Peer]:
    made = Peer(world.store())
    made.load_plugin()
    yield made
    made.stop()


def on_a_link(peer: Peer, job: Callable[[Link], Any], scope: str = READ) -> Any:
    async def run() -> Any:
        link = await open_link(Access(peer.url, TOKEN), scope)
        try:
            return await job(link)
        finally:
            await link.close()

    return asyncio.run(run())


def ordered(peer: Peer, order: Order = ORDER) -> Changed:
    return on_a_link(peer, lambda link: carry_out(link, order), ADMIN)  # type: ignore[no-any-return]


def asked(peer: Peer, rows: list[Row], target: StoreTarget) -> list[bool | None]:
    return on_a_link(peer, lambda link: ask_plugin(link, rows, "ops", target, SECONDS))  # type: ignore[no-any-return]


def target_of(world: World) -> StoreTarget:
    store = world.store()
    return StoreTarget(str(world.state), "ops", str(store), str(world.state))


def answers(peer: Peer, **payload: Any) -> None:
    peer.on[ORDER.method] = lambda _: payload


# --- the orders ---


def test_an_order_to_settle_names_the_turn_that_it_is_for_and_the_run_whose_end_is_waited_for(row: Row) -> None:
    order = order_to_settle(row, "ops", "done", 9, "r-1")
    assert order == Order("clawmend.settle", {**EXPECTED, "status": "done", "endedAt": 9, "runId": "r-1"})


def test_without_such_a_run_none_is_named(row: Row) -> None:
    order = order_to_settle(row, "ops", "done", 9, None)
    assert order == Order("clawmend.settle", {**EXPECTED, "status": "done", "endedAt": 9})


def test_an_order_to_undo_names_the_turn_and_the_fields(row: Row) -> None:
    fields = [{"name": "status", "before": "running", "after": "done"}]
    assert order_to_undo(row, "ops", fields) == Order("clawmend.undo", {**EXPECTED, "fields": fields})


@pytest.mark.parametrize("lacks", ["session_id", "started_at"])
def test_there_is_no_order_for_a_row_whose_turn_cannot_be_named(row: Row, lacks: str) -> None:
    row = replace(row, **{lacks: None})
    assert order_to_settle(row, "ops", "done", 9, "r-1") is None
    assert order_to_undo(row, "ops", []) is None


# --- who is there ---


@pytest.mark.parametrize("lacks", ["clawmend.live", "clawmend.settle", "clawmend.undo", None])
def test_the_plugin_is_there_if_all_that_we_call_is(peer: Peer, lacks: str | None) -> None:
    if lacks is not None:
        del peer.on[lacks]

    async def there(link: Link) -> bool:
        return has_plugin(link)

    assert on_a_link(peer, there) is (lacks is None)


# --- what runs ---


def test_it_is_asked_for_each_row_of_the_agent_in_their_order(world: World, peer: Peer, row: Row) -> None:
    rows = [row, replace(row, key="agent:ops:busy", session_id="s-2")]
    peer.active = {"agent:ops:busy"}
    assert asked(peer, rows, target_of(world)) == [False, True]
    (question,) = [a.params for a in peer.asked if a.method == LIVE]
    sessions = [{"key": STUCK_KEY, "sessionId": "s-1"}, {"key": "agent:ops:busy", "sessionId": "s-2"}]
    assert question == {"agentId": "ops", "sessions": sessions}


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        ({"active": [True, None]}, [True, None]),
        ({"active": ["yes", 1]}, [None, None]),
        ({"active": [True]}, [None, None]),
        ({"active": [True, False, True]}, [None, None]),
        ({"active": {"0": True, "1": False}}, [None, None]),
        ({"active": [True, False], "store": "/another/sessions.json"}, [None, None]),
    ],
)
def test_what_it_does_not_say_clearly_is_not_known(
    world: World, peer: Peer, row: Row, answer: dict[str, Any], known: list[bool | None]
) -> None:
    peer.on[LIVE] = lambda params: {**peer.live(params), **answer}
    assert asked(peer, [row, row], target_of(world)) == known


def test_where_reading_is_not_enough_scope_it_is_asked_by_a_connection_that_ends_with_the_answer(
    world: World, peer: Peer, row: Row
) -> None:
    peer.admin_only |= {LIVE}

    async def twice(link: Link) -> list[list[bool | None]]:
        said = [await ask_plugin(link, [row], "ops", target_of(world), SECONDS) for _ in range(2)]
        await asyncio.to_thread(wait_until, lambda: peer.open_connections == 1, "the end of both")
        return said

    assert on_a_link(peer, twice) == [[False], [False]]
    scopes = [a.scopes for a in peer.asked if a.method == LIVE]
    assert scopes == [(READ,), (ADMIN,), (ADMIN,)], "it remembers that reading is not enough"
    assert peer.connections == 3


def test_a_refusal_for_another_reason_is_told_and_nobody_asks_with_more(world: World, peer: Peer, row: Row) -> None:
    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise Refuse("INVALID_REQUEST", "no such agent")

    peer.on[LIVE] = refuse
    with pytest.raises(Refused, match="no such agent"):
        asked(peer, [row], target_of(world))
    assert [a.scopes for a in peer.asked if a.method == LIVE] == [(READ,)]


@pytest.mark.parametrize("scope_is_enough", [True, False])
def test_it_is_waited_for_as_long_as_was_asked(world: World, peer: Peer, row: Row, scope_is_enough: bool) -> None:
    def silent(_: dict[str, Any]) -> dict[str, Any]:
        raise Silence

    peer.on[LIVE] = silent
    peer.admin_only |= set() if scope_is_enough else {LIVE}

    async def briefly(link: Link) -> Any:
        return await ask_plugin(link, [row], "ops", target_of(world), 0.2)

    with pytest.raises(LinkFailed, match=r"^no answer to clawmend\.live within 0\.2 s$"):
        on_a_link(peer, briefly)


# --- what came of an order ---


def test_a_change_is_told_with_what_was_and_what_is(peer: Peer) -> None:
    answers(peer, applied=True, before={"status": "running"}, after={"status": "done"}, told={"sessions": True})
    assert ordered(peer) == Changed(True, "", {"status": "running"}, {"status": "done"}, told=True)
    (order,) = [a for a in peer.asked if a.method == ORDER.method]
    assert order.params == ORDER.params


@pytest.mark.parametrize("told", [None, [], "yes", {}, {"sessions": False}, {"sessions": "yes"}, {"chat": True}])
def test_only_who_says_so_has_told_everybody(peer: Peer, told: Any) -> None:
    answers(peer, applied=True, before={}, after={}, told=told)
    assert ordered(peer) == Changed(True, "", {}, {}, told=False)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"reason": "recovering", "detail": "a word"}, "recovering (a word)"),
        ({"reason": "recovering"}, "recovering"),
        ({"detail": "a word"}, "(a word)"),
        ({}, ""),
        ({"reason": ["recovering"], "detail": 7}, ""),
    ],
)
def test_why_it_changed_nothing_is_told_in_its_words(peer: Peer, said: dict[str, Any], reason: str) -> None:
    answers(peer, applied=False, **said)
    assert ordered(peer) == Changed(False, reason)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"applied": "yes", "before": {}, "after": {}},
        {"applied": 1, "before": {}, "after": {}},
        {"applied": True, "after": {}},
        {"applied": True, "before": {}},
        {"applied": True, "before": [], "after": {}},
        {"applied": True, "before": {}, "after": "done"},
    ],
    ids=str,
)
def test_an_answer_of_another_shape_leaves_open_what_was_done(peer: Peer, answer: dict[str, Any]) -> None:
    answers(peer, **answer)
    with pytest.raises(Unanswered, match=r"^the plugin's answer is not one that we know$"):
        ordered(peer)


def test_a_plugin_that_failed_in_the_middle_leaves_open_what_was_done(peer: Peer) -> None:
    def fail(_: dict[str, Any]) -> dict[str, Any]:
        raise Refuse("CLAWMEND_FAILED", "the store answers with another row")

    peer.on[ORDER.method] = fail
    with pytest.raises(Unanswered) as caught:
        ordered(peer)
    assert str(caught.value) == "the plugin failed at it (CLAWMEND_FAILED: the store answers with another row)"


def test_an_order_that_the_gateway_refuses_was_not_reached(peer: Peer) -> None:
    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise Refuse("INVALID_REQUEST", "unknown method")

    peer.on[ORDER.method] = refuse
    with pytest.raises(NotReached, match=r"^INVALID_REQUEST: unknown method$"):
        ordered(peer)


def test_a_gateway_that_has_no_such_method_is_given_no_order(peer: Peer) -> None:
    del peer.on[ORDER.method]
    with pytest.raises(NotReached, match=r"^the gateway has no plugin of ours any more$"):
        ordered(peer)
    assert [a for a in peer.asked if a.method == ORDER.method] == []


def test_an_answer_is_waited_for_as_long_as_a_change_may_take(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_: dict[str, Any]) -> dict[str, Any]:
        raise Silence

    peer.on[ORDER.method] = silent
    monkeypatch.setattr(gateway_plugin, "CHANGE_SECONDS", 0.2)
    with pytest.raises(LinkFailed, match=r"^no answer to clawmend\.settle within 0\.2 s$"):
        ordered(peer)


def test_the_store_of_another_agent_is_not_asked_about(world: World, peer: Peer, row: Row, tmp_path: Path) -> None:
    other = replace(target_of(world), path=str(tmp_path / "sessions.json"))
    assert asked(peer, [row], other) == [None]
