"""What a load balancer asks: /health, /livez, /readyz."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from app.api.health import LastHealth, Seen, seen_in
from app.audit.openings import Opening
from app.domain.model import Gateway
from app.openclaw.gateway_place import LinkState
from app.openclaw.paths import StateDir
from app.reconcile.gateways import GatewayLinks
from app.reconcile.places import state_dirs
from app.reconcile.report import Report
from app.reconcile.service import Service
from tests.api.conftest import Serve, on_the_machines_clock, wait_until
from tests.peer import TOKEN, Peer
from tests.world import STUCK_KEY, STUCK_SESSION_ID, UNKNOWN, World


class Hanging:
    """A look at the gateway's process that does not come back until the test lets it: a pass that hangs."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()

    def __call__(self, _: StateDir) -> Gateway:
        assert self.free.wait(30)
        return UNKNOWN


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.free.set()


def test_health_says_exactly_what_was_promised_and_asks_for_no_login(world: World, serve: Serve) -> None:
    world.recording("success-done")
    answer = serve().bare.get("/health")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert set(body) == {"status", "stuck", "repaired_total", "last_pass_at", "checks"}
    assert (body["status"], body["stuck"], body["repaired_total"]) == ("pass", 0, 0)
    moment = datetime.fromtimestamp(world.clock.wall / 1000, UTC)
    assert body["last_pass_at"] == moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert {check["status"] for check in body["checks"].values()} == {"pass"}


DRAFT = {"accept": "application/health+json"}


@pytest.mark.parametrize("headers", [{}, DRAFT], ids=["plain", "draft"])
@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
def test_head_answers_as_get_does_without_a_body(
    world: World, serve: Serve, path: str, headers: dict[str, str]
) -> None:
    world.recording("success-done")
    server = serve()
    head, get = server.bare.head(path, headers=headers), server.bare.get(path, headers=headers)
    assert (head.status_code, head.content) == (get.status_code, b"") == (200, b"")
    for name in ("content-type", "cache-control", "vary"):
        assert head.headers[name] == get.headers[name]
    assert (get.headers["cache-control"], get.headers["vary"]) == ("no-store", "accept")
    assert get.headers["content-type"] == headers.get("accept", "application/json")
    assert int(head.headers["content-length"]) > 0


def test_whether_it_lives_and_whether_it_is_ready_is_told_in_the_shape_of_the_draft_too(
    world: World, serve: Serve
) -> None:
    world.stuck()
    server = serve()
    lives = server.bare.get("/livez", headers=DRAFT).json()
    ready = server.bare.get("/readyz", headers=DRAFT).json()
    assert (lives["status"], ready["status"]) == ("pass", "pass"), "a stuck session keeps no traffic away"
    (uptime,) = lives["checks"]["process:uptime"]
    assert (uptime["componentType"], uptime["status"], uptime["observedUnit"]) == ("system", "pass", "s")
    assert 0 <= uptime["observedValue"] < 600
    assert uptime["time"].endswith("Z")
    assert ready["checks"].keys() == server.bare.get("/health", headers=DRAFT).json()["checks"].keys()
    assert ready["checks"]["sessions:stuck"][0]["observedValue"] == 1
    assert server.bare.get("/livez").json() == server.bare.get("/readyz").json() == {"status": "pass"}


def test_who_asks_for_health_json_gets_the_shape_of_the_draft(world: World, serve: Serve) -> None:
    """draft-inadarei-api-health-check-06: the media type, `checks` by `component:measurement`, each an array."""
    world.stuck()
    server = serve()
    answer = server.bare.get("/health", headers={"accept": "application/health+json, application/json;q=0.5"})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/health+json"
    assert answer.headers["vary"] == "accept"
    body = answer.json()
    assert (body["status"], body["serviceId"]) == ("warn", "clawmend")
    assert set(body["checks"]) == {
        "passes:seconds_since_last",
        "audit:status",
        "stores:readable",
        "sessions:stuck",
        "sessions:flapping",
        "sessions:unprovable",
        "gateway:ready",
        "repairs:failing",
        "breaker:waiting",
    }
    moment = datetime.fromtimestamp(world.clock.wall / 1000, UTC)
    now = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert body["checks"]["sessions:stuck"] == [
        {"componentType": "component", "status": "warn", "time": now, "observedValue": 1, "observedUnit": "sessions"}
    ]
    assert body["checks"]["audit:status"] == [{"componentType": "datastore", "status": "pass", "time": now}]
    for (check,) in body["checks"].values():
        assert check["componentType"] in ("component", "datastore", "system")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/health+json;q=0", ""])
def test_who_does_not_ask_for_health_json_gets_plain_json(world: World, serve: Serve, accept: str) -> None:
    world.recording("success-done")
    answer = serve().bare.get("/health", headers={"accept": accept})
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"status", "stuck", "repaired_total", "last_pass_at", "checks"}


def test_a_stuck_session_is_a_warning_and_still_200(world: World, serve: Serve) -> None:
    world.stuck()
    answer = serve().bare.get("/health")
    assert (answer.status_code, answer.json()["status"], answer.json()["stuck"]) == (200, "warn", 1)
    assert answer.json()["checks"]["sessions"]["status"] == "warn"


def test_a_store_that_cannot_be_read_is_a_warning_and_still_200(world: World, serve: Serve) -> None:
    world.write_store(b"{")
    answer = serve().bare.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "warn")
    assert answer.json()["checks"]["stores"]["problems"] == {"not_json": 1}


def test_repairs_are_counted_however_they_were_asked_for_and_across_a_restart(world: World, serve: Serve) -> None:
    world.stuck()
    server = serve()
    assert server.repair(STUCK_SESSION_ID).json()["outcome"] == "applied"
    assert server.bare.get("/health").json()["repaired_total"] == 1
    assert server.bare.get("/health").json()["status"] == "pass"
    assert serve().bare.get("/health").json()["repaired_total"] == 1


def test_no_name_of_a_session_an_agent_or_a_file_is_told_without_login(world: World, serve: Serve) -> None:
    world.stuck()
    world.write_store(b"{", agent="zebra")
    server = serve(state_dir=(str(world.state), str(world.folder / "no-such-state")))
    asked = [(path, headers) for path in ("/health", "/readyz", "/livez") for headers in ({}, DRAFT)]
    for path, headers in asked:
        text = server.bare.get(path, headers=headers).text
        for name in (STUCK_KEY, "s-error400", STUCK_SESSION_ID, "zebra", "main", str(world.folder), "sessions.json"):
            assert name not in text, path


def test_health_fails_while_the_audit_database_is_gone_and_recovers_with_it(world: World, serve: Serve) -> None:
    world.recording("success-done")
    server = serve()
    database = world.folder / "own" / "audit.db"
    away = database.with_name("away")

    database.rename(away)
    server.look()
    answer = server.bare.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "fail")
    assert answer.json()["checks"]["audit"]["status"] == "fail"
    assert server.bare.head("/health").status_code == 503
    assert server.bare.get("/readyz").status_code == 503
    assert server.bare.get("/livez").status_code == 200

    away.rename(database)
    server.look()
    assert server.bare.get("/health").status_code == 200
    assert server.bare.get("/readyz").status_code == 200


def test_health_fails_when_no_pass_comes_for_three_intervals_and_recovers_with_the_next(
    world: World, serve: Serve, hanging: Hanging
) -> None:
    world.stuck()
    server = serve(on_the_machines_clock(world, hanging, scan_interval_seconds=0.5, store_timeout_seconds=600))
    assert server.bare.get("/health").status_code == 200

    hanging.free.clear()
    wait_until(lambda: server.bare.get("/health").status_code == 503, "health fails")
    body = server.bare.get("/health").json()
    assert (body["status"], body["checks"]["passes"]["status"]) == ("fail", "fail")
    assert body["checks"]["passes"]["seconds_since_last"] >= 1.5, "three intervals, not fewer"
    assert server.bare.get("/readyz").status_code == 503
    assert server.bare.get("/livez").status_code == 200, "the process lives; a restart would help nobody"
    listed = server.http.get("/sessions/stuck")
    assert listed.json()["count"] == 1, "the last report is served meanwhile"

    hanging.free.set()
    wait_until(lambda: server.bare.get("/health").status_code == 200, "health recovers")


def test_a_store_whose_read_never_comes_back_is_left_out_and_the_passes_go_on(
    world: World, serve: Serve, hanging: Hanging
) -> None:
    world.stuck()
    server = serve(on_the_machines_clock(world, hanging, scan_interval_seconds=0.5, store_timeout_seconds=0.5))
    hanging.free.clear()

    def left_out() -> bool:
        checks = server.bare.get("/health").json()["checks"]
        return bool(checks["stores"]["problems"] == {"not_answering": 1} and checks["passes"]["status"] == "pass")

    wait_until(left_out, "the store is left out")


def test_the_service_is_not_ready_before_its_first_pass(world: World, serve: Serve, hanging: Hanging) -> None:
    world.stuck()
    hanging.free.clear()
    server = serve.start(on_the_machines_clock(world, hanging, scan_interval_seconds=60, store_timeout_seconds=600))
    assert server.bare.get("/readyz").status_code == 503
    assert server.bare.get("/livez").status_code == 200
    assert server.bare.get("/health").json()["last_pass_at"] is None

    hanging.free.set()
    wait_until(lambda: server.bare.get("/readyz").status_code == 200, "ready")


def test_asking_for_health_when_the_last_pass_is_too_old_starts_one(world: World, serve: Serve) -> None:
    world.stuck()
    server = serve(scan_interval_seconds=0.5)
    server.app.state.service._scheduler.pause()  # it stands for a scheduler that has died
    server.look()
    number = server.reconciler.report.number

    time.sleep(0.6)  # no luck in it: longer than the interval
    assert server.bare.get("/livez").status_code == 200
    assert server.reconciler.report.number == number, "nothing else starts one"
    server.bare.get("/health")
    wait_until(lambda: server.reconciler.report.number == number + 1, "the pass that was asked for")


# --- the last answer, given again ---


def whatever(world: World) -> Seen:
    """What a service sees that has looked at nothing yet."""
    return seen_in(Service(world.reconciler()))


OTHERWISE: dict[str, object] = {
    "report": Report(number=7, finished_at=1_795_337_371_114),
    "seconds_since_pass": 3.4,
    "late": True,
    "audit_answers": False,
    "links": {"somewhere": LinkState("up", ready=True)},
    "automatic": False,
    "failing": 2,
    "breaker": Opening("an-id", 1_795_337_371_114, "too many", 3),
    "repaired_total": 5,
}


def test_while_nothing_else_is_seen_the_answer_is_made_once(world: World) -> None:
    last, seen = LastHealth(), whatever(world)
    assert last.of(seen) is last.of(seen._replace())


@pytest.mark.parametrize("what", Seen._fields)
def test_whatever_is_seen_to_change_is_told_at_once(world: World, what: str) -> None:
    last, seen = LastHealth(), whatever(world)
    otherwise = seen._replace(**{what: OTHERWISE[what]})
    before = last.of(seen)
    told = last.of(otherwise)
    assert told.body != before.body
    assert (told.body, told.status_code) == (LastHealth().of(otherwise).body, LastHealth().of(otherwise).status_code)
    assert told.status_code == (503 if what in ("late", "audit_answers") else 200)
    assert last.of(seen).body == before.body


def test_health_grows_older_between_two_passes(world: World, serve: Serve) -> None:
    world.stuck()
    server = serve(auto_repair=False)

    def age() -> float:
        return float(server.bare.get("/health").json()["checks"]["passes"]["seconds_since_last"])

    first = age()
    wait_until(lambda: age() > first, "the age of the last pass grows")


# --- the gateway ---


def links(world: World, url: str, token: str = TOKEN) -> GatewayLinks:
    settings = world.settings(gateway=url, gateway_token=token)
    return GatewayLinks(settings, world.clock, world.env, state_dirs(settings, world.env))


def test_a_link_that_is_off_is_no_warning(world: World, serve: Serve) -> None:
    world.recording("success-done")
    body = serve().bare.get("/health").json()
    assert body["checks"]["gateway"] == {"status": "pass", "links": {"off": 1}, "ready": None, "plugins": None}
    assert body["status"] == "pass"


def test_a_link_that_is_up_passes_with_the_gateways_own_word_on_itself(world: World, serve: Serve) -> None:
    world.recording("success-done")
    peer = Peer(world.store())
    try:
        server = serve(world.reconciler(links=links(world, peer.url), scan_interval_seconds=3_600))

        def check() -> dict[str, object]:
            found: dict[str, object] = server.bare.get("/health").json()["checks"]["gateway"]
            return found

        wait_until(
            lambda: check() == {"status": "pass", "links": {"up": 1}, "ready": 1, "plugins": 0}, "the link is up"
        )
        server.stop()
        serve.running.remove(server)
    finally:
        peer.stop()


@pytest.mark.parametrize("code", ["no_gateway", "wrong_token", "other_protocol", "missing_scope", "starting"])
def test_a_link_that_does_not_come_up_is_a_warning_with_its_code_and_nothing_else(
    world: World, serve: Serve, code: str
) -> None:
    world.stuck()
    peer = Peer(world.store())
    if code == "other_protocol":
        peer.protocol = 5
    if code == "missing_scope":
        peer.grants = lambda _: []
    if code == "starting":
        peer.greet = lambda connection: connection.close(1013)
    url = "ws://127.0.0.1:1" if code == "no_gateway" else peer.url
    token = "another-token-of-ours" if code == "wrong_token" else TOKEN
    try:
        server = serve(world.reconciler(links=links(world, url, token), scan_interval_seconds=3_600))
        wait_until(
            lambda: server.bare.get("/health").json()["checks"]["gateway"]["links"] == {code: 1}, "the code is shown"
        )
        answer = server.bare.get("/health")
        assert (answer.status_code, answer.json()["checks"]["gateway"]["status"]) == (200, "warn")
        for word in (token, TOKEN, url, STUCK_KEY, STUCK_SESSION_ID, str(world.folder)):
            assert word not in answer.text
        server.stop()
        serve.running.remove(server)
    finally:
        peer.stop()


def test_a_session_that_ends_is_seen_at_once_and_a_message_starts_no_pass(world: World, serve: Serve) -> None:
    world.recording("success-done")
    peer = Peer(world.store())
    try:
        server = serve(world.reconciler(links=links(world, peer.url), scan_interval_seconds=3_600))
        reconciler = server.reconciler
        wait_until(lambda: "sessions.subscribe" in [a.method for a in peer.asked], "it listens")
        assert reconciler.links is not None
        wait_until(lambda: [s.code for s in reconciler.links.states().values()] == ["up"], "the link")
        server.look()
        number = reconciler.report.number
        peer.say("sessions.changed", sessionKey="agent:main:main", phase="message")
        peer.say("sessions.changed", sessionKey="agent:main:main", phase="end")
        wait_until(lambda: reconciler.report.number > number, "a pass that nobody else asked for")
        server.stop()
        serve.running.remove(server)
    finally:
        peer.stop()
