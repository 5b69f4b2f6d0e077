"""schemathesis finds nothing on a running service: single calls and chains of them along the links of the document."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, from_schema
from schemathesis.engine.events import FatalError, Interrupted, NonFatalError, ScenarioFinished
from schemathesis.engine.recorder import ScenarioRecorder

from app.api.contract import HEADERS_SENT
from tests.api.conftest import FAILED, TOKEN, Serve, Served, add_row, one_of_each, wait_until
from tests.api.recorded import SECRET
from tests.receiver import Receiver
from tests.world import World

SEED = 6
MOST_WALKS = 8
"""Where a walk along the links leads is drawn by lot, also by which modules are loaded: until all is reached."""
ACCEPTED = ("2xx", "3xx", "401", "403", "404", "409", "429")
OFF = {"enabled": False}
_KEY = re.compile(HEADERS_SENT["Idempotency-Key"][1]["pattern"])
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def fresh_keys() -> Iterator[None]:
    """Every request with a valid key has one of its own: what is valid in itself would be answered by 422 where the key
    was used for another request. That is what test_idempotency.py is about.
    """

    @schemathesis.hook("before_call")
    def key_of_its_own(_: Any, case: schemathesis.Case, __: Any) -> None:
        key = (case.headers or {}).get("Idempotency-Key")
        if isinstance(key, str) and _KEY.fullmatch(key):
            case.headers["Idempotency-Key"] = f"{next(_numbers)}{key}"[:255]

    yield
    schemathesis.hooks.unregister(key_of_its_own)


def explored(served: Served, most: int, only: str = "^/", seed: int = SEED, **phases: Any) -> list[Any]:
    """What the engine of `schemathesis run` tells of `served`; of its paths that `only` matches."""
    cursor = served.http.get("/sessions", params={"limit": 1}).json()["next"]
    schemathesis.openapi.format("cursor", st.just(cursor))
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "base-url": str(served.http.base_url),
            "auth": {"openapi": {"token": {"bearer": TOKEN}}},
            "request-timeout": 60,
            "generation": {"max-examples": most, "deterministic": True, "no-shrink": True, "database": "none"},
            # 412: what is valid in itself may have a condition, If-Match, that does not hold
            "checks": {"positive_data_acceptance": {"expected-statuses": [*ACCEPTED, "412"]}},
            "phases": phases,
            "operations": [
                {"exclude-path-regex": only, "enabled": False},
                {"include-path": "/events", "enabled": False},  # an answer without an end: test_events.py
                # a session key may hold slashes: GET is served there too, for a session that is called so
                {"include-path-regex": "^/sessions/.*repair$", "checks": {"allow_header_conformance": OFF}},
            ],
        }
    )
    schema = schemathesis.openapi.from_dict(served.app.openapi(), config=config)
    return list(from_schema(schema).execute())


def walked(served: Served, most: int, only: str = "^/") -> Iterator[list[Any]]:
    """Walks along the links, each with another seed, in which nothing was found."""
    for seed in range(SEED, SEED + MOST_WALKS):
        events = explored(served, most, only, seed, examples=OFF, coverage=OFF, fuzzing=OFF)
        assert "\n\n".join(failures(events)) == ""
        yield events


def failures(events: list[Any]) -> Iterator[str]:
    for event in events:
        if isinstance(event, FatalError):
            yield f"fatal: {event.exception!r}"
        elif isinstance(event, NonFatalError):
            yield f"{event.label}: {event.value!r}"
        elif isinstance(event, Interrupted):
            yield "interrupted"
        elif isinstance(event, ScenarioFinished):
            yield from _failed(event.recorder)


def _failed(recorder: ScenarioRecorder) -> Iterator[str]:
    for case_id, checks in recorder.checks.items():
        if _not_http(recorder, case_id):
            continue
        for check in checks:
            if check.status is Status.FAILURE and check.failure_info is not None:
                told = check.failure_info
                yield f"{recorder.label}: {told.failure.title} {told.failure.message}\n{told.code_sample} ({case_id})"


def _not_http(recorder: ScenarioRecorder, case_id: str) -> bool:
    """uvicorn refuses an address that is too long before the application hears of it."""
    interaction = recorder.interactions.get(case_id)
    response = interaction.response if interaction is not None else None
    if response is None or response.status_code != 400 or "text/plain" not in str(response.headers):
        return False
    return response.content in (b"Invalid HTTP request received.", b"")  # nothing where HEAD was asked


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver(status=410)
    yield made
    made.close()


@pytest.fixture
def served(world: World, serve: Serve, receiver: Receiver) -> Served:
    """With each verdict, a repair and messages that could not be delivered, so that there is something to find."""
    one_of_each(world)
    made = serve(auto_repair=False, repairs_per_minute=6_000, webhook_urls=(receiver.url,), webhook_secret=SECRET)
    made.repair("id-ending", force=True, target_status="failed")
    wait_until(lambda: len(made.http.get("/webhooks/dead").json()["items"]) > 1, "messages are given up")
    return made


def called(events: list[Any]) -> Counter[tuple[str, str, int]]:
    """How often each call was answered by which status."""
    made: Counter[tuple[str, str, int]] = Counter()
    for event in events:
        if isinstance(event, ScenarioFinished):
            for case_id, interaction in event.recorder.interactions.items():
                operation = event.recorder.cases[case_id].value.operation
                if interaction.response is not None:
                    status = interaction.response.status_code
                    made[interaction.request.method, operation.path, status] += 1
    return made


def chains(events: list[Any]) -> Iterator[tuple[tuple[str, int], ...]]:
    """Of each call the way to it along the links: every call on it, with its status."""
    for event in events:
        if isinstance(event, ScenarioFinished):
            cases, interactions = event.recorder.cases, event.recorder.interactions
            for case_id in cases:
                way: list[tuple[str, int]] = []
                at: str | None = case_id
                while at is not None and (response := interactions[at].response) is not None:
                    way.insert(0, (cases[at].value.operation.label, response.status_code))
                    at = cases[at].parent_id
                yield tuple(way)


def test_schemathesis_finds_nothing_in_single_calls(served: Served) -> None:
    events = explored(served, 8, stateful=OFF)
    assert "\n\n".join(failures(events)) == ""
    answered = called(events)
    for path, methods in served.app.openapi()["paths"].items():
        for method in methods:
            if path != "/events":
                assert any(call[:2] == (method.upper(), path) for call in answered), (method, path)


def test_schemathesis_finds_nothing_along_the_links(served: Served) -> None:
    wanted = {
        ("GET", "/sessions/{name}"),
        ("GET", "/repairs/{attempt_id}"),
        ("POST", "/sessions/{name}/repair"),
        ("POST", "/repairs/{attempt_id}/undo"),
        ("POST", "/webhooks/dead/{message_id}/resend"),
    }
    for events in walked(served, 40):
        wanted -= {call[:2] for call in called(events)}
        if not wanted:
            return
    assert wanted == set()


@pytest.fixture
def meant() -> Iterator[None]:
    """What is asked for is asked for in earnest: no dry run, no force, no condition."""

    @schemathesis.hook("before_call")
    def in_earnest(_: Any, case: schemathesis.Case, __: Any) -> None:
        if case.method == "POST":
            case.body, case.media_type = {"reason": "a test"}, "application/json"
            case.headers.pop("If-Match", None)

    yield
    schemathesis.hooks.unregister(in_earnest)


@pytest.mark.usefixtures("meant")
def test_along_the_links_a_stuck_session_is_repaired_and_the_repair_undone(world: World, serve: Serve) -> None:
    one_of_each(world)
    for number in range(40):
        ended = (("session.started", 7_200), ("session.ended", 3_600, FAILED))
        add_row(world, f"agent:main:{number}", f"id-{number}", started_ago=7_200, events=ended)
    served = serve(auto_repair=False, repairs_per_minute=6_000)
    only = r"^/(sessions/stuck|sessions/\{name\}/repair|repairs/\{attempt_id\}/undo)$"
    way = ("GET /sessions/stuck", 200), ("POST /sessions/{name}/repair", 200), ("POST /repairs/{attempt_id}/undo", 200)
    assert any(way in set(chains(events)) for events in walked(served, 60, only))
