"""What a receiver on loopback is told, beside the real service."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from app.audit.webhooks import Message
from app.notify import receiver as receiving
from app.notify.notices import GROUPS
from tests.api.conftest import Serve, Served, wait_until
from tests.receiver import Receiver
from tests.turns import WINDOW, lost_turn, lost_turns
from tests.world import ABSENT, STUCK_KEY, STUCK_SESSION_ID, World, by_a_person

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "reference" / "webhook.schema.json").read_text())
KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(receiving, "POLL_SECONDS", 0.02)
    made = Receiver()
    yield made
    made.close()


def to(receiver: Receiver, **settings: Any) -> dict[str, Any]:
    return {"webhook_urls": (receiver.url,), "webhook_secret": SECRET, **settings}


def wait_for(receiver: Receiver, *types: str) -> list[dict[str, Any]]:
    wait_until(lambda: sorted(receiver.types()) == sorted(types), f"{types}; it was told {receiver.types()}")
    return [got.message["data"] for got in receiver.got]


def after_a_failure(served: Served) -> Message:
    """The one message that waits, once its first try has failed."""
    webhooks = served.app.state.webhooks
    digest = webhooks.receivers[0].digest
    found: list[Message] = []

    def failed() -> bool:
        found[:] = [m] if (m := webhooks.outbox.next_for(digest)) is not None and m.tries else []
        return bool(found)

    wait_until(failed, "the first try has failed")
    return found[0]


def dead(served: Served) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = served.http.get("/webhooks/dead").json()["items"]
    return items


def test_a_session_that_is_stuck_and_its_repair_are_told_and_signed(
    world: World, serve: Serve, receiver: Receiver
) -> None:
    world.stuck()
    served = serve(auto_repair=False, **to(receiver))
    (found,) = wait_for(receiver, "session.stuck")
    assert (found["session"]["session_key"], found["session"]["verdict"]) == (STUCK_KEY, "stuck")
    (got,) = receiver.got
    at = got.headers["webhook-timestamp"]
    assert at == str(world.clock.now() // 1000)
    signed = f"{got.headers['webhook-id']}.{at}.".encode() + got.body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"
    assert (got.path, got.headers["content-type"]) == ("/hook/of-a-test", "application/json")

    made = served.repair(STUCK_SESSION_ID).json()
    *_, told = wait_for(receiver, "session.stuck", "repair.applied")
    assert (told["repair"]["id"], told["repair"]["after"]) == (made["id"], made["after"])


def as_time_goes_by(world: World, true: Callable[[], bool], what: str) -> None:
    """Wait, and let the held clock go on meanwhile: a next try is reckoned from when the service has noted the last."""

    def is_true() -> bool:
        world.clock.advance(60)
        return true()

    wait_until(is_true, what, 60)


def test_every_type_is_told_as_its_schema_says(world: World, serve: Serve, receiver: Receiver) -> None:
    def told(*types: str) -> None:
        """Two passes that follow each other too closely are told of as one, and what has passed between them is not."""
        as_time_goes_by(world, lambda: set(types) <= set(receiver.types()), f"{types} are told")

    world.gateway = ABSENT
    world.stuck()
    served = serve(breaker_repairs=1, flapping_settlements=1, **to(receiver))
    repair = served.repair(STUCK_SESSION_ID).json()
    world.edit_row(**repair["before"])  # a gateway write that began before ours
    world.clock.advance(2)
    served.look()
    standing = served.http.get("/repairs").json()["items"][0]
    assert served.http.post(f"/repairs/{standing['id']}/undo").status_code == 200
    assert served.repair(STUCK_SESSION_ID).status_code == 200
    lost_turn(world)
    served.look()
    lost_turns(world, range(2))
    world.write_store(b"{", agent="broken")
    served.look()
    world.clock.advance(WINDOW)
    served.look()
    assert served.http.get("/breaker").json()["open"]
    told("breaker.opened")
    assert served.http.post("/breaker/close", json={"reason": "a test"}).status_code == 200
    database = world.folder / "own" / "audit.db"
    database.rename(database.with_name("away"))
    served.look()
    told("audit.unavailable")
    database.with_name("away").rename(database)
    served.look()
    told(*GROUPS)
    validator = jsonschema_rs.validator_for(SCHEMA)
    for got in receiver.got:
        validator.validate(got.message)
    assert set(SCHEMA["properties"]["type"]["enum"]) == set(GROUPS)


def test_a_message_that_is_not_what_the_schema_says_is_seen(world: World) -> None:
    validator = jsonschema_rs.validator_for(SCHEMA)
    good = {"type": "audit.unavailable", "timestamp": "2026-11-22T08:50:01.305Z", "data": {"detail": "gone"}}
    assert validator.is_valid(good)
    for wrong in ({"type": "audit.gone"}, {"data": {}}, {"type": "session.stuck"}, {"more": 1}):
        assert not validator.is_valid({**good, **wrong})


def test_names_are_left_out_where_the_setting_says_so(world: World, serve: Serve, receiver: Receiver) -> None:
    world.stuck()
    served = serve(auto_repair=False, **to(receiver, webhook_names="leave_out"))
    assert served.repair(STUCK_SESSION_ID).status_code == 200
    wait_for(receiver, "session.stuck", "repair.applied")
    assert all(STUCK_KEY.encode() not in got.body for got in receiver.got)
    assert receiver.got[0].message["data"]["session"]["session_id"] == STUCK_SESSION_ID


def test_only_what_is_asked_for_is_told(world: World, serve: Serve, receiver: Receiver) -> None:
    world.stuck()
    served = serve(auto_repair=False, **to(receiver, webhook_events=("repairs",)))
    assert served.repair(STUCK_SESSION_ID).status_code == 200
    wait_for(receiver, "repair.applied")


def test_a_failure_is_tried_again_when_its_time_has_come_and_not_before(
    world: World, serve: Serve, receiver: Receiver
) -> None:
    receiver.status = 503
    world.stuck()
    served = serve(auto_repair=False, **to(receiver))
    waiting = after_a_failure(served)
    assert 4_000 <= waiting.next_at - world.clock.now() <= 6_000
    served.look()
    assert len(receiver.got) == 1
    receiver.status = 204
    world.clock.advance((waiting.next_at - world.clock.now()) / 1000)
    wait_for(receiver, "session.stuck", "session.stuck")
    first, second = receiver.got
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    assert first.body == second.body


def test_retry_after_is_honoured(world: World, serve: Serve, receiver: Receiver) -> None:
    receiver.status, receiver.headers = 429, {"retry-after": "100"}
    world.stuck()
    served = serve(auto_repair=False, **to(receiver))
    assert after_a_failure(served).next_at == world.clock.now() + 100_000


def test_what_is_given_up_is_kept_shown_and_sent_again(world: World, serve: Serve, receiver: Receiver) -> None:
    receiver.status = 500
    world.stuck()
    served = serve(auto_repair=False, **to(receiver))
    as_time_goes_by(world, lambda: len(dead(served)) == 1, "it is given up")
    (message,) = dead(served)
    assert len(receiver.got) == 6
    assert (message["type"], message["tries"], message["why"]) == ("session.stuck", 6, "it answers 500")
    assert message["host"] == receiver.url.split("/")[2]
    assert "of-a-test" not in json.dumps(message)
    assert message["payload"] == receiver.got[0].message

    receiver.status = 200
    assert served.http.post(f"/webhooks/dead/{message['id']}/resend").status_code == 200
    wait_until(lambda: len(receiver.got) == 7, "it is sent again")
    assert receiver.got[-1].headers["webhook-id"] == message["id"]
    assert dead(served) == []
    assert served.http.post(f"/webhooks/dead/{message['id']}/resend").status_code == 404


@pytest.mark.parametrize(("status", "why"), [(410, "it answers 410"), (302, "a redirect is not followed")])
def test_who_is_gone_or_redirects_is_not_tried_again(
    world: World, serve: Serve, receiver: Receiver, status: int, why: str
) -> None:
    receiver.status, receiver.headers = status, {"location": receiver.url}
    world.stuck()
    served = serve(auto_repair=False, **to(receiver))
    wait_until(lambda: len(dead(served)) == 1, "it is given up")
    assert why in dead(served)[0]["why"]
    assert len(receiver.got) == 1


def test_a_receiver_that_hangs_keeps_neither_a_pass_nor_another_receiver_waiting(
    world: World, serve: Serve, receiver: Receiver
) -> None:
    receiver.answers.clear()
    other = Receiver()
    world.stuck()
    served = serve(auto_repair=False, **to(receiver, webhook_urls=(receiver.url, other.url)))
    wait_for(receiver, "session.stuck")
    wait_for(other, "session.stuck")
    number = served.reconciler.report.number
    for _ in range(3):
        served.look()
    assert served.reconciler.report.number >= number + 3
    assert served.repair(STUCK_SESSION_ID).status_code == 200
    wait_for(other, "session.stuck", "repair.applied")
    assert receiver.types() == ["session.stuck"]
    other.close()


def test_what_waits_is_sent_after_a_restart_and_nothing_is_told_twice(
    world: World, serve: Serve, receiver: Receiver
) -> None:
    receiver.status = 503
    world.stuck()
    first = serve(auto_repair=False, **to(receiver))
    wait_for(receiver, "session.stuck")
    assert first.repair(STUCK_SESSION_ID).status_code == 200
    wait_for(receiver, "session.stuck", "repair.applied")
    first.stop()
    serve.running.remove(first)
    ids = {got.headers["webhook-id"] for got in receiver.got}
    receiver.got.clear()
    receiver.status = 204
    world.clock.advance(60)
    second = serve(auto_repair=False, **to(receiver))
    wait_for(receiver, "session.stuck", "repair.applied")
    assert {got.headers["webhook-id"] for got in receiver.got} == ids
    second.look()
    second.look()
    assert len(receiver.got) == 2


def test_a_repair_that_nobody_was_told_of_before_a_crash_is_told_after_it(
    world: World, serve: Serve, receiver: Receiver
) -> None:
    world.stuck()
    serve(auto_repair=False, **to(receiver))
    wait_for(receiver, "session.stuck")
    beside = world.reconciler(auto_repair=False)  # its own process, which tells nobody
    beside.run_pass()
    for served in [*serve.running]:
        served.stop()
        serve.running.remove(served)
    by_a_person(beside)
    serve(auto_repair=False, **to(receiver))
    wait_for(receiver, "session.stuck", "repair.applied")


def test_of_what_was_done_before_webhooks_were_set_up_nothing_is_told(
    world: World, serve: Serve, receiver: Receiver
) -> None:
    world.stuck()
    assert serve(auto_repair=False).repair(STUCK_SESSION_ID).status_code == 200
    served = serve(auto_repair=False, **to(receiver))
    served.look()
    served.look()
    assert receiver.got == []


def test_nobody_without_the_token_sees_what_was_not_delivered(world: World, serve: Serve) -> None:
    world.stuck()
    served = serve(auto_repair=False)
    assert served.bare.get("/webhooks/dead").status_code == 401
    assert served.bare.post(f"/webhooks/dead/{STUCK_SESSION_ID}/resend").status_code == 401


def test_messages_and_tries_are_counted(world: World, serve: Serve, receiver: Receiver) -> None:
    receiver.status = 410
    world.stuck()
    served = serve(auto_repair=False, **to(receiver))
    wait_until(lambda: len(dead(served)) == 1, "it is given up")
    served.look()
    wait_until(
        lambda: 'clawmend_webhook_messages{state="dead"} 1.0' in served.bare.get("/metrics").text, "it is counted"
    )
    assert 'clawmend_webhook_tries_total{result="failed"} 1.0' in served.bare.get("/metrics").text
