"""The links to the gateways, from the side of those who use them: what is asked, what is heard, what it may cost."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.domain.model import Code, Liveness, Row
from app.openclaw import gateway_place
from app.openclaw.paths import StoreTarget
from app.reconcile import gateways
from app.reconcile.answers import JUST_NOW_SECONDS
from app.reconcile.gateways import GatewayLinks, LinkState
from app.reconcile.places import state_dirs
from tests.api.conftest import wait_until
from tests.peer import TOKEN, Peer, Refuse, Silence, listening
from tests.world import STUCK_KEY, STUCK_SESSION_ID, World, finding_of, run_pass

Link = Callable[..., GatewayLinks]

NOTHING = (None, False)
"""What a row is known by of which nothing was answered."""


@pytest.fixture
def peer(world: World) -> Iterator[Peer]:
    world.stuck(ended_ago=40)
    made = Peer(world.store())
    yield made
    made.stop()


@pytest.fixture
def link(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    """Makes links to a peer, started and settled; they try again quickly."""
    made: list[GatewayLinks] = []
    monkeypatch.setattr(gateway_place, "_FIRST_DELAY", 0.02)
    monkeypatch.setattr(gateway_place, "_LONGEST_DELAY", 0.05)
    monkeypatch.setattr(gateways, "_ROUND_SECONDS", 0.02)

    def make(to: Peer | str, *, settle: bool = True, token: str = TOKEN, **kwargs: Any) -> GatewayLinks:
        url = to.url if isinstance(to, Peer) else to
        settings = world.settings(gateway=url, gateway_token=token)
        links = GatewayLinks(settings, world.clock, world.env, state_dirs(settings, world.env))
        made.append(links)
        links.start(**kwargs)
        if settle:
            wait_until(lambda: state(links).code != "connecting", "the link comes up or is known not to")
        return links

    yield make
    for links in made:
        links.stop()


def state(links: GatewayLinks) -> LinkState:
    (known,) = links.states().values()
    return known


def the_row(world: World) -> tuple[StoreTarget, Row, str]:
    """What is asked about: as the scanner itself asks."""
    finding = finding_of(run_pass(world.reconciler(auto_repair=False)))
    return finding.target, finding.evidence.row, finding.agent_id


def asked(world: World, links: GatewayLinks) -> Liveness:
    return links.ask(*the_row(world))


def silent(_: dict[str, Any]) -> dict[str, Any]:
    raise Silence


# --- asking ---


@pytest.mark.parametrize("running", [True, False])
def test_the_gateway_says_whether_a_run_of_the_row_is_active(
    world: World, peer: Peer, link: Link, running: bool
) -> None:
    peer.active = {STUCK_KEY} if running else set()
    answer = asked(world, link(peer))

    assert (answer.active, answer.idle, answer.asked_at) == (running, False, world.clock.now())
    assert {a.scopes for a in peer.asked} == {("operator.read",)}, "nothing more than reading for asking"
    question = next(a for a in peer.asked if a.method == "sessions.list").params
    assert question["search"] == STUCK_SESSION_ID


@pytest.mark.parametrize(
    ("counts", "idle"),
    [
        ({"queueSize": 0, "embeddedRuns": 0}, True),
        ({"queueSize": 0, "embeddedRuns": 1}, False),
        ({"queueSize": None}, False),
        ({"queueSize": False}, False),
        ({}, False),
        (None, False),
        ("none", False),
    ],
)
def test_nothing_at_all_runs_only_where_every_count_is_there_and_zero(
    world: World, peer: Peer, link: Link, counts: Any, idle: bool
) -> None:
    peer.counts = counts
    assert asked(world, link(peer)).idle is idle


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"path": "/another/sessions.json"}, "elsewhere"),
        ({"path": None}, "elsewhere"),
        ({"path": "half\ud800"}, "elsewhere"),
        ({"path": "nul\0"}, "elsewhere"),
        ({"sessions": []}, "does not list"),
        ({"sessions": "none"}, "does not list"),
        ({"sessions": [None, 7, {}, {"key": 7}]}, "does not list"),
        ({"row": {"key": "agent:main:another"}}, "does not list"),
        ({"row": {"sessionId": "another"}}, "does not list"),
        ({"row": {"startedAt": 1}}, "another turn"),
        ({"row": {"hasActiveRun": None}}, "does not say"),
        ({"row": {"hasActiveRun": "no"}}, "does not say"),
    ],
)
def test_an_answer_about_anything_but_this_very_row_says_nothing(
    world: World, peer: Peer, link: Link, change: dict[str, Any], why: str
) -> None:
    def answer(params: dict[str, Any]) -> dict[str, Any]:
        good = peer.list_sessions(params)
        (row,) = good["sessions"]
        return good | {"sessions": [row | change.pop("row", {})]} | change

    peer.on["sessions.list"] = answer
    answered = asked(world, link(peer))
    assert (answered.active, answered.idle) == (None, False)
    assert why in answered.why


def test_an_active_run_of_another_turn_is_a_veto_all_the_same(world: World, peer: Peer, link: Link) -> None:
    peer.active = {STUCK_KEY}
    peer.on["sessions.list"] = lambda params: {
        **peer.list_sessions(params),
        "sessions": [{**r, "startedAt": 1} for r in peer.list_sessions(params)["sessions"]],
    }
    assert asked(world, link(peer)).active is True


def test_a_gateway_that_refuses_the_question_says_nothing(world: World, peer: Peer, link: Link) -> None:
    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise Refuse("INTERNAL", "a bad day")

    peer.on["sessions.list"] = refuse
    answer = asked(world, link(peer))
    assert (answer.active, answer.why) == (None, "INTERNAL: a bad day")


# --- what it may cost ---


@pytest.mark.parametrize("method", ["sessions.list", "gateway.restart.preflight"])
def test_a_gateway_that_does_not_answer_is_waited_for_once_and_then_not_at_all(
    world: World, peer: Peer, link: Link, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(gateways, "ASK_SECONDS", 0.1)
    peer.on[method] = silent
    links = link(peer)
    row = the_row(world)
    monkeypatch.setattr(gateway_place, "_FIRST_DELAY", 3_600.0)
    monkeypatch.setattr(gateway_place, "_LONGEST_DELAY", 3_600.0)
    assert links.ask(*row).active is None

    before = len(peer.asked)
    waits: list[object] = []
    monkeypatch.setattr(links, "_wait_for", lambda *a: waits.append(a))
    for _ in range(100):
        assert links.ask(*row).active is None
    assert (waits, len(peer.asked)) == ([], before)


def test_a_gateway_that_leaves_a_question_of_the_background_open_has_to_shake_hands_anew(
    world: World, peer: Peer, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateways, "BACKGROUND_SECONDS", 1.01)
    peer.on["sessions.list"] = silent
    links = link(peer)
    monkeypatch.setattr(gateway_place, "_FIRST_DELAY", 3_600.0)
    monkeypatch.setattr(gateway_place, "_LONGEST_DELAY", 3_600.0)
    links.remembered(*the_row(world))
    wait_until(lambda: state(links).code == "not_answering", "the link is given up")


def test_a_gateway_that_is_too_busy_to_answer_is_gone_by_as_it_answered_in_the_last_minute(
    world: World, peer: Peer, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateways, "ASK_SECONDS", 0.1)
    links = link(peer)
    row = the_row(world)
    first = links.ask(*row)
    assert first.active is False
    peer.on["sessions.list"] = silent
    world.clock.advance(59)
    assert links.ask(*row) == first
    world.clock.advance(2)
    assert links.ask(*row).active is None


def test_an_answer_is_as_old_as_its_question_however_long_it_was_on_its_way(
    world: World, peer: Peer, link: Link
) -> None:
    links = link(peer)
    row = the_row(world)

    def slow(params: dict[str, Any]) -> dict[str, Any]:
        answer = peer.list_sessions(params)
        world.clock.advance(JUST_NOW_SECONDS + 0.1)
        return answer

    peer.on["sessions.list"] = slow
    assert links.ask(*row).active is False
    peer.on["sessions.list"] = peer.list_sessions
    peer.active = {STUCK_KEY}
    assert links.ask(*row).active is True


def test_many_rows_of_one_agent_are_one_question(world: World, peer: Peer, link: Link) -> None:
    rows = world.rows()
    rows["agent:main:other"] = {**rows[STUCK_KEY], "sessionId": "other"}
    world.write_store(json.dumps(rows).encode())
    links = link(peer)
    target, row, agent = the_row(world)
    other = Row("agent:main:other", "other", "running", row.started_at)
    assert links._loop is not None
    links._loop.call_soon_threadsafe(lambda: [links.remembered(target, each, agent) for each in (row, other)])
    wait_until(lambda: NOTHING not in links._answers.said([(target, row), (target, other)]), "both answers")
    assert [each.method for each in peer.asked if each.method == "sessions.list"] == ["sessions.list"]


def test_the_two_questions_of_one_asking_share_one_second(
    world: World, peer: Peer, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that is slow with the first and silent at the second costs one patience."""
    monkeypatch.setattr(gateways, "ASK_SECONDS", 0.5)
    slow = threading.Event()

    def late(params: dict[str, Any]) -> dict[str, Any]:
        slow.wait(0.4)
        return peer.list_sessions(params)

    peer.on["sessions.list"] = late
    peer.on["gateway.restart.preflight"] = silent
    links = link(peer)
    row = the_row(world)
    monkeypatch.setattr(gateway_place, "_FIRST_DELAY", 3_600.0)
    monkeypatch.setattr(gateway_place, "_LONGEST_DELAY", 3_600.0)
    assert links.ask(*row).active is None
    before = len(peer.asked)
    assert links.ask(*row).active is None
    assert len(peer.asked) == before, "it is not asked the same way again and again"


@pytest.mark.parametrize("kind", ["silent", "upgrade", "refused", "linked"])
def test_a_pass_beside_a_gateway_that_never_answers_waits_for_nobody(
    world: World, peer: Peer, link: Link, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Counted, not timed: not one call of the pass waits for the links' thread, as with the links off."""
    waits: list[object] = []
    monkeypatch.setattr(GatewayLinks, "_wait_for", lambda *a: waits.append(a))
    with listening() as port:
        if kind == "upgrade":
            peer.greet = lambda _: None
        peer.on["sessions.list"] = silent
        urls = {"silent": f"ws://127.0.0.1:{port}", "refused": "ws://127.0.0.1:1"}
        links = link(urls.get(kind, peer.url), settle=kind == "linked")
        reconciler = world.reconciler(links=links)
        began = world.clock.monotonic()
        for _ in range(5):
            assert finding_of(run_pass(reconciler)).verdict.code in (Code.STUCK, Code.ENDING)
        assert (waits, world.clock.monotonic()) == ([], began)


def test_a_pass_beside_a_gateway_that_stops_answering_still_settles(world: World, peer: Peer, link: Link) -> None:
    world.edit_row(status="running")
    peer.on["sessions.list"] = silent
    reconciler = world.reconciler(links=link(peer), error_quiet_seconds=30)
    run_pass(reconciler)
    world.clock.advance(40)
    run_pass(reconciler)
    assert world.row()["status"] == "failed"


def test_what_is_remembered_is_given_at_once_and_asked_for_in_the_background(
    world: World, peer: Peer, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = threading.Event()
    links = link(peer)
    row = the_row(world)
    links._changed = said.set
    monkeypatch.setattr(links, "_wait_for", None)
    assert links.remembered(*row).active is None, "nobody has asked yet"
    assert said.wait(10), "an answer that is new is worth a pass"
    assert links.remembered(*row).active is False
    world.clock.advance(60.1)
    assert links.remembered(*row).active is None, "an old answer says nothing"


def test_an_old_answer_that_comes_again_is_news(world: World, peer: Peer, link: Link) -> None:
    """With passes farther apart than an answer is good for, each needs the next one to go by it."""
    said = threading.Event()
    links = link(peer)
    row = the_row(world)
    links._changed = said.set
    for _ in range(3):
        assert links.remembered(*row).active is None
        assert said.wait(10)
        said.clear()
        assert links.remembered(*row).active is False
        world.clock.advance(61)


def test_an_answer_about_another_turn_of_the_row_is_not_remembered_for_this_one(
    world: World, peer: Peer, link: Link
) -> None:
    links = link(peer)
    target, row, agent = the_row(world)
    links.remembered(target, row, agent)
    wait_until(lambda: links.remembered(target, row, agent).active is False, "the answer")
    links.stop()  # so that nothing is answered anew
    world.edit_row(startedAt=(row.started_at or 0) + 1)
    assert links.remembered(target, the_row(world)[1], agent).active is None


def test_a_nonsensical_answer_does_not_end_the_asking(world: World, peer: Peer, link: Link) -> None:
    good = peer.on["sessions.list"]
    peer.on["sessions.list"] = lambda _: {"path": "\ud800" * 9_000, "sessions": [{"key": STUCK_KEY}] * 3}
    links = link(peer)
    row = the_row(world)
    links.remembered(*row)
    wait_until(lambda: "sessions.list" in peer.methods(), "the first question")
    peer.on["sessions.list"] = good
    wait_until(lambda: links.remembered(*row).active is False, "a good answer after a bad one")


def test_when_more_is_wished_for_than_a_round_answers_all_have_their_turn(
    world: World, peer: Peer, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list that is asked for is too short for all: those that it leaves out are asked for one by one."""
    monkeypatch.setattr(gateways, "_MOST_ALONE", 2)

    def first_three(params: dict[str, Any]) -> dict[str, Any]:
        listed = peer.list_sessions(params)
        return listed if "search" in params else {**listed, "sessions": listed["sessions"][:3]}

    peer.on["sessions.list"] = first_three
    rows = world.rows()
    keys = [f"agent:main:s-{n}" for n in range(7)]
    for n, key in enumerate(keys):
        rows[key] = {**rows[STUCK_KEY], "sessionId": f"id-{n}"}
    world.write_store(json.dumps(rows).encode())
    links = link(peer)
    target, row, agent = the_row(world)
    wishes = [Row(k, f"id-{n}", "running", row.started_at) for n, k in enumerate(keys)]

    def wish() -> None:
        for row_of_one in wishes:
            links.remembered(target, row_of_one, agent)

    def all_answered() -> bool:
        assert links._loop is not None
        links._loop.call_soon_threadsafe(wish)  # all of them at once, as far as the loop can tell
        said = links._answers.said([(target, row_of_one) for row_of_one in wishes])
        return all(active is False for active, _ in said)

    wait_until(all_answered, "an answer for each")


# --- coming and going ---


def test_a_gateway_that_goes_and_comes_back_is_linked_again(world: World, link: Link) -> None:
    world.stuck(ended_ago=40)
    first = Peer(world.store())
    links = link(first)
    assert (state(links).code, state(links).version) == ("up", "2026.5.18")
    first.stop()
    wait_until(lambda: state(links).code == "no_gateway", "the link is known to be gone")
    assert asked(world, links).active is None
    second = Peer(world.store(), port=first.port)
    wait_until(lambda: state(links).code == "up", "the link is up again")
    assert asked(world, links).active is False
    links.stop()
    second.stop()


def test_it_tries_again_ever_later_up_to_a_minute(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []
    enough = threading.Event()
    sleep = asyncio.sleep

    async def recorded(seconds: float) -> None:
        if seconds not in (1.0, gateways._HEALTH_SECONDS):
            delays.append(seconds)
        if len(delays) >= 9:
            enough.set()
            seconds = 60
        await sleep(min(seconds, 0.01) if len(delays) < 9 else seconds)

    monkeypatch.setattr(gateway_place.random, "uniform", lambda *_: 1.1)
    monkeypatch.setattr(gateway_place.asyncio, "sleep", recorded)
    settings = world.settings(gateway="ws://127.0.0.1:1")
    links = GatewayLinks(settings, world.clock, world.env, state_dirs(settings, world.env))
    links.start()
    assert enough.wait(20)
    links.stop()
    assert [round(d / 1.1, 2) for d in delays[:9]] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]


def test_a_token_that_is_put_right_is_found_without_a_restart(world: World, peer: Peer, link: Link) -> None:
    links = link(peer, token="a-wrong-token-of-20")
    assert state(links).code == "wrong_token"
    peer.token = "a-wrong-token-of-20"
    wait_until(lambda: state(links).code == "up", "the link comes up")


def test_stopping_leaves_no_thread_and_asks_and_tells_nobody(world: World, peer: Peer, link: Link) -> None:
    links = link(peer)
    row = the_row(world)
    links.stop()
    assert [t.name for t in threading.enumerate() if t.name == "gateways"] == []
    assert links.remembered(*row).active is None
    assert links.ask(*row).active is None
    assert links.tell(*row, {}).answer == "not_told"
    links.stop()


def test_stopping_while_somebody_waits_for_an_answer_lets_him_go(world: World, peer: Peer, link: Link) -> None:
    peer.on["sessions.list"] = silent
    links = link(peer)
    row = the_row(world)
    answers: list[Liveness] = []
    waiter = threading.Thread(target=lambda: answers.append(links.ask(*row)))
    waiter.start()
    wait_until(lambda: "sessions.list" in peer.methods(), "the question")
    links.stop()
    waiter.join(10)
    assert [a.active for a in answers] == [None]


# --- where it is found ---


def found_by(world: World, config: str, **env: str) -> LinkState:
    """How it stands with the link that is found by `config` and the environment."""
    (world.state / "openclaw.json").write_text(config)
    settings = world.settings(gateway="auto")
    links = GatewayLinks(settings, world.clock, {**world.env, **env}, state_dirs(settings, world.env))
    links.start()
    try:
        wait_until(lambda: state(links).code != "connecting", "the link comes up or is known not to")
        return state(links)
    finally:
        links.stop()


def test_it_is_found_by_OpenClaws_own_configuration(world: World, peer: Peer) -> None:
    config = "{ // JSON5\n gateway: {port: %d, auth: {mode: 'token', token: '${SECRET}'}}, env: {SECRET: '%s'} }"
    assert found_by(world, config % (peer.port, TOKEN)).code == "up"
    assert found_by(world, config % (peer.port, "another")).code == "wrong_token"


def test_the_environment_counts_for_OpenClaws_default_state_dir_only(world: World, peer: Peer) -> None:
    env = {"OPENCLAW_GATEWAY_URL": peer.url, "OPENCLAW_GATEWAY_TOKEN": TOKEN}
    nobody = '{"gateway": {"port": 1}}'
    assert found_by(world, nobody, **env).code == "no_gateway"
    assert peer.connections == 0
    assert found_by(world, nobody, **env, OPENCLAW_STATE_DIR=str(world.state)).code == "up"


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ('{"gateway": {"port": 1, "auth": {"token": {"source": "exec", "id": "x"}}}}', "secret_reference"),
        ('{"gateway": {"port": 1, "auth": {"token": "${NOT_SET_ANYWHERE}"}}}', "secret_reference"),
        ('{"gateway": {"mode": "remote", "remote": {"url": "wss://gateway.example"}}}', "not_loopback"),
        ('{"gateway": {"mode": "remote", "remote": {"url": "gateway"}}}', "bad_address"),
        ("{", "config_unreadable"),
        ("[]", "config_unreadable"),
    ],
)
def test_a_configuration_that_leads_to_no_gateway_says_why(
    world: World, config: str, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert found_by(world, config).code == code
    assert f"({code})" in caplog.text, "once, in the log"


# --- hearing ---


@pytest.mark.parametrize(
    ("event", "worth"),
    [
        ({"phase": "start"}, True),
        ({"phase": "end"}, True),
        ({"phase": "error"}, True),
        ({"reason": "reset"}, True),
        ({"reason": "delete"}, True),
        ({"reason": "patch"}, True),
        ({"phase": "message"}, False),
        ({"reason": "send"}, False),
        ({}, False),
    ],
)
def test_what_begins_or_ends_a_session_is_worth_a_pass_and_a_message_is_not(
    world: World, peer: Peer, link: Link, event: dict[str, str], worth: bool
) -> None:
    changes: list[int] = []
    heard = threading.Event()
    links = link(peer)
    row = the_row(world)
    links._changed = lambda: (changes.append(1), heard.set())
    peer.say("sessions.changed", sessionKey="agent:main:x", **event)
    links.ask(*row)  # its answer stands behind the event on the wire
    assert bool(changes) is worth


def test_a_session_that_starts_again_is_not_gone_by_what_was_answered_before(
    world: World, peer: Peer, link: Link
) -> None:
    links = link(peer)
    row = the_row(world)
    links.remembered(*row)
    wait_until(lambda: links._answers.said([row[:2]]) != [NOTHING], "the answer to the one question")
    peer.on["sessions.list"] = silent
    peer.say("sessions.changed", sessionKey=STUCK_KEY.upper(), phase="start")
    wait_until(lambda: links._answers.said([row[:2]]) == [NOTHING], "the answer is forgotten")


# --- what is logged ---


@pytest.mark.parametrize("kind", ["up", "wrong", "echoed", "dumb"])
def test_no_token_and_no_session_gets_into_the_log(
    world: World, peer: Peer, link: Link, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    caplog.set_level(logging.DEBUG, "clawmend")
    token = TOKEN if kind == "up" else "another-token-of-ours"

    def echo(params: dict[str, Any]) -> dict[str, Any]:
        raise Refuse("AUTH_" + params["auth"]["token"], params["auth"]["token"])

    if kind == "echoed":
        peer.on["connect"] = echo
    with listening(lambda c: c.sendall(b"no HTTP")) as port:
        links = link(f"ws://127.0.0.1:{port}" if kind == "dumb" else peer, token=token)
        if kind == "up":
            asked(world, links)
            peer.hang_up()
            wait_until(lambda: any("no link" in r.message for r in caplog.records), "the end is logged")
    text = caplog.text + repr(links.states()) + repr(links._places)
    assert "the gateway of" in caplog.text
    for secret in (TOKEN, "another-token-of-ours", STUCK_KEY, STUCK_SESSION_ID):
        assert secret not in text


def test_the_gateways_own_word_on_itself_is_asked_for(world: World, peer: Peer, link: Link, tmp_path: Path) -> None:
    links = link(peer)
    wait_until(lambda: state(links).ready is True, "/readyz says 200")
    peer.ready = 503
    other = link(peer)
    wait_until(lambda: state(other).ready is False, "/readyz says 503")


def test_a_health_page_that_never_ends_is_not_read(world: World, peer: Peer, link: Link) -> None:
    """Only its first line counts: the rest may be of any length."""

    def endless(connection: Any) -> None:
        if connection.recv(4_096).startswith(b"GET /readyz"):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        else:
            connection.close()

    with listening(endless) as port:
        links = link(f"ws://127.0.0.1:{port}")
        wait_until(lambda: state(links).ready is True, "the answer")
