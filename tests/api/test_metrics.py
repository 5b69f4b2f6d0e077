"""What Prometheus scrapes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.conftest import Serve, Served, one_of_each, wait_until
from tests.world import STUCK_KEY, STUCK_SESSION_ID, World

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(served: Served) -> Samples:
    answer = served.bare.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_sessions_are_counted_by_status_and_by_verdict(world: World, serve: Serve) -> None:
    one_of_each(world)
    served = serve(auto_repair=False)
    samples = scrape(served)
    items = served.http.get("/sessions").json()["items"]
    verdicts = [item["verdict"] for item in items]
    for verdict in set(verdicts):
        assert value(samples, "clawmend_findings", verdict=verdict) == verdicts.count(verdict)
    running = sum(1 for item in items if item["status"] == "running")
    assert running > 1
    assert value(samples, "clawmend_sessions", status="running") == running
    assert value(samples, "clawmend_stores") == 1


def test_a_status_that_openclaw_does_not_write_is_no_label_of_its_own(world: World, serve: Serve) -> None:
    world.stuck()
    world.edit_row(status="+49 170 1234567")
    answer = serve(auto_repair=False).bare.get("/metrics")
    assert "1234567" not in answer.text
    assert 'clawmend_sessions{status="other"} 1.0' in answer.text


def test_the_oldest_stuck_session_has_its_age(world: World, serve: Serve) -> None:
    world.stuck(ended_ago=600)
    served = serve(auto_repair=False)
    assert value(scrape(served), "clawmend_oldest_stuck_seconds") == 600
    assert served.repair(STUCK_SESSION_ID).status_code == 200
    assert value(scrape(served), "clawmend_oldest_stuck_seconds") == 0


def test_repairs_are_counted_as_they_stand_by_outcome_and_by_who_asked(world: World, serve: Serve) -> None:
    world.stuck()
    served = serve(auto_repair=False)
    made = served.repair(STUCK_SESSION_ID).json()
    samples = scrape(served)
    assert value(samples, "clawmend_attempts", kind="settle", outcome="applied", trigger="api") == 1
    assert value(samples, "clawmend_stores_written", mode="exchange") == 1

    world.edit_row(**made["before"])  # as a gateway write that began before ours would
    world.clock.advance(2)
    served.look()
    samples = scrape(served)
    assert value(samples, "clawmend_attempts", kind="settle", outcome="overwritten", trigger="api") == 1


def test_passes_are_counted_and_dated(world: World, serve: Serve) -> None:
    world.stuck()
    served = serve(auto_repair=False)
    before = scrape(served)
    world.clock.advance(5)
    served.look()
    after = scrape(served)
    name = "clawmend_passes_total"
    assert value(after, name, result="finished") == value(before, name, result="finished") + 1
    assert value(after, name, result="failed") == value(after, name, result="abandoned") == 0
    assert value(after, "clawmend_last_pass_timestamp_seconds") == world.clock.wall / 1000
    wait_until(
        lambda: (
            scrape(served)["clawmend_pass_seconds_total", frozenset()]
            > before["clawmend_pass_seconds_total", frozenset()]
        ),
        "the pass is added to the time spent",
    )
    assert value(after, "clawmend_read_bytes_total") > 0


def test_what_cannot_be_read_and_what_warns_is_shown(world: World, serve: Serve) -> None:
    world.stuck()
    world.write_store(b"{", agent="broken")
    samples = scrape(serve(auto_repair=False))
    assert value(samples, "clawmend_store_problems", code="not_json") == 1
    assert value(samples, "clawmend_check", check="stores") == 0.5
    assert value(samples, "clawmend_check", check="audit") == 1
    assert value(samples, "clawmend_gateway_links", state="off") == 1


def test_no_name_of_the_users_is_in_it_and_who_accepts_openmetrics_gets_it(world: World, serve: Serve) -> None:
    one_of_each(world)
    world.write_store(b"{", agent="zebra")
    served = serve(auto_repair=False)
    for accept in ("*/*", "application/openmetrics-text; version=1.0.0"):
        answer = served.bare.get("/metrics", headers={"accept": accept})
        for name in (STUCK_KEY, "id-stuck", "zebra", "agent:main", str(world.folder)):
            assert name not in answer.text
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_every_metric_is_documented_and_nothing_else_is(world: World, serve: Serve) -> None:
    one_of_each(world)
    served = serve(auto_repair=False)
    assert served.repair("id-stuck").status_code == 200
    world.write_store(b"{", agent="broken")
    served.look()
    shown = {(name, tuple(sorted(k for k, _ in labels))) for name, labels in scrape(served) if name.startswith("clawm")}
    documented = set()
    for name, labels in re.findall(r"^\| `(clawmend_\w+)` \| ([^|]*)\|", DOCS.read_text(), re.MULTILINE):
        documented.add((name, tuple(sorted(re.findall(r"`(\w+)`", labels)))))
    assert shown == documented


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_is_for_reading(world: World, serve: Serve, method: str) -> None:
    world.stuck()
    assert serve(auto_repair=False).http.request(method, "/metrics").status_code == 405
