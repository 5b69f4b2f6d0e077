"""For Prometheus: counts and ages of the last pass, from memory; no label holds a name of anything of the user's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from app import __version__
from app.api.health import health_checks
from app.domain.model import Code
from app.notify.webhooks import Webhooks
from app.reconcile.report import Report, age_order
from app.reconcile.service import Service

router = APIRouter(tags=["metrics"])

STATUSES = ("running", "done", "failed", "timeout", "killed")
"""Those that OpenClaw writes (spec/openclaw-2026.9.6.md, section 3.1); any other, or none, counts as `other`."""
Checks = dict[str, dict[str, Any]]
_PASSES = ("finished", "failed", "abandoned")


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """What `docs/reference/metrics.md` lists; in OpenMetrics for who accepts it. No login: it holds counts only."""
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(
        encode(request.app.state.metrics), headers={"content-type": media_type, "cache-control": "no-store"}
    )


def registry_of(service: Service) -> CollectorRegistry:
    """Of one service; there may be several in a process."""
    registry = CollectorRegistry()
    registry.register(_Ours(service))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


class _Ours(Collector):
    """Reads the last report each time it is asked."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily("clawmend", "The version of Clawmend", {"version": __version__})
        report = self._service.reconciler.report
        yield from _of_sessions(report)
        yield from self._of_passes(report)
        checks = health_checks(self._service)
        yield from self._of_repairs(checks)
        yield _by("clawmend_check", "A check of /health: 1 passes, 0.5 warns, 0 fails", "check", _scores(checks))
        yield _by("clawmend_gateway_links", "Links to gateways by how they stand", "state", checks["gateway"]["links"])

    def _of_passes(self, report: Report) -> Iterator[Metric]:
        service = self._service
        passes = CounterMetricFamily("clawmend_passes", "Passes since the start, by how they ended", labels=["result"])
        for result in _PASSES:
            passes.add_metric([result], service.passes[result])
        yield passes
        yield CounterMetricFamily("clawmend_pass_seconds", "Time spent in passes", service.seconds_in_passes)
        if report.finished_at is not None:
            finished = report.finished_at / 1000
            yield GaugeMetricFamily("clawmend_last_pass_timestamp_seconds", "When the last pass ended well", finished)
        yield CounterMetricFamily("clawmend_read_bytes", "Bytes of stores and trajectories read", report.bytes_read)

    def _of_repairs(self, checks: Checks) -> Iterator[Metric]:
        reconciler = self._service.reconciler
        attempts = GaugeMetricFamily(
            "clawmend_attempts", "Repairs and undos in the audit, as they stand", labels=["kind", "outcome", "trigger"]
        )
        for by, count in sorted(reconciler.attempts.items()):
            attempts.add_metric(list(by), count)
        yield attempts
        yield GaugeMetricFamily("clawmend_put_off_sessions", "Stuck, and their repairs fail", reconciler.failing)
        flapping = checks["sessions"]["flapping"]
        yield GaugeMetricFamily("clawmend_flapping_sessions", "Stuck again after too many settlements", flapping)
        breaker = checks["breaker"]
        yield GaugeMetricFamily("clawmend_breaker_open", "1: nothing is settled by itself", int(breaker["open"]))
        waiting = "Sessions that wait for a person to close the breaker"
        yield GaugeMetricFamily("clawmend_breaker_waiting_sessions", waiting, breaker["waiting"])
        modes = Counter(reconciler.repairer.file_hand.modes.copy().values())
        modes.update({"exchange": 0, "rename": 0})
        yield _by("clawmend_stores_written", "Stores written since the start, by the way", "mode", modes)


class OfWebhooks(Collector):
    """Of the messages to webhooks: how many stand how, and what came of the tries."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks

    def collect(self) -> Iterable[Metric]:
        states = {state: self._webhooks.counts[state] for state in ("waiting", "dead")}
        yield _by("clawmend_webhook_messages", "Messages that wait, and that could not be delivered", "state", states)
        tries = CounterMetricFamily("clawmend_webhook_tries", "Tries since the start", labels=["result"])
        for result in ("delivered", "failed"):
            tries.add_metric([result], sum(r.results[result] for r in self._webhooks.receivers))
        yield tries


def _of_sessions(report: Report) -> Iterator[Metric]:
    statuses = Counter(dict.fromkeys((*STATUSES, "other"), 0))
    verdicts = Counter(dict.fromkeys(map(str, Code), 0))
    for finding in report.findings():
        status = finding.evidence.row.status
        statuses[status if status in STATUSES else "other"] += 1
        verdicts[str(finding.verdict.code)] += 1
    yield _by("clawmend_sessions", "Rows by what stands in them", "status", statuses)
    yield _by("clawmend_findings", "Sessions by their verdict", "verdict", verdicts)
    stuck = report.with_code(Code.STUCK)
    oldest = max(0, (report.finished_at or 0) - age_order(stuck[0])[0]) / 1000 if stuck else 0.0
    yield GaugeMetricFamily("clawmend_oldest_stuck_seconds", "For how long the oldest stuck one has been over", oldest)
    problems = Counter(problem.code for problem in report.problems())
    yield _by("clawmend_store_problems", "Stores and state dirs that cannot be judged, by why", "code", problems)
    yield GaugeMetricFamily("clawmend_stores", "Stores that the last pass looked at", len(report.stores))


def _scores(checks: dict[str, dict[str, object]]) -> dict[str, float]:
    return {name: {"pass": 1.0, "warn": 0.5, "fail": 0.0}[str(check["status"])] for name, check in checks.items()}


def _by(name: str, text: str, label: str, values: dict[str, int] | dict[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family
