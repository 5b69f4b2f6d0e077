"""The breaker, webhooks and what flaps, on the command line."""

from __future__ import annotations

import json

from app.audit.openings import Opening, write_opening
from app.audit.webhooks import Message, Outbox, State
from tests.command import Clawmend, one_line
from tests.turns import lost_turn
from tests.world import STUCK_KEY, World, by_a_person

DEAD = "01a20273-2848-789b-a3d2-f31657f27dbf"


def test_an_open_breaker_is_shown_and_closed_with_a_reason(world: World, run: Clawmend) -> None:
    audit = world.reconciler().audit
    write_opening(audit, Opening("an opening", world.clock.now(), "a test says so", 7))
    told = run("breaker", "status")
    assert told.returncode == 1
    assert "7 sessions wait: a test says so" in told.stdout
    closed = run("breaker", "close", "--reason", "looked at", "--json")
    assert closed.returncode == 0
    document = json.loads(closed.stdout)
    assert (document["open"], document["close_reason"]) == (False, "looked at")
    assert run("breaker", "status").stdout == "closed\n"
    assert "not open" in one_line(run("breaker", "close"))


def test_what_was_not_delivered_is_listed_and_sent_again(world: World, run: Clawmend) -> None:
    outbox = Outbox(world.reconciler().audit)
    assert "delivered" in run("webhooks", "dead").stdout
    message = Message(
        DEAD, "x" * 64, "hooks.example", "session.stuck", "a", "{}", State.DEAD, 1, 6, 1, "it answers 500"
    )
    outbox.put([message], 10)
    assert f"{DEAD}  session.stuck      hooks.example: it answers 500" in run("webhooks", "dead").stdout
    assert run("webhooks", "resend", DEAD).returncode == 0
    waiting = outbox.next_for("x" * 64)
    assert waiting is not None
    assert waiting.tries == 0
    assert DEAD in one_line(run("webhooks", "resend", DEAD))


def test_scan_says_that_a_session_flaps(world: World, run: Clawmend) -> None:
    world.stuck()
    by_a_person(world.reconciler(auto_repair=False))
    lost_turn(world)
    done = run("scan", CLAWMEND_FLAPPING_SETTLEMENTS="1")
    assert "it flaps: settled 1 times since" in done.stdout
    (session,) = (
        s
        for s in json.loads(run("scan", "--json", CLAWMEND_FLAPPING_SETTLEMENTS="1").stdout)["sessions"]
        if s["session_key"] == STUCK_KEY
    )
    assert session["flapping"]["times"] == 1
    assert "flaps" not in run("scan").stdout
