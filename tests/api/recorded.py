"""Real answers, one of every kind: a test holds them against the schema, and the OpenAPI document shows them.

python -m tests.api.recorded > app/api/examples.json
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from app.api.contract import HEALTH_JSON, JSON
from app.api.problems import MEDIA_TYPE
from tests.api.conftest import Serve, Served, one_of_each, wait_until
from tests.receiver import Receiver
from tests.turns import WINDOW, lost_turns
from tests.world import World

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
Answer = tuple[str, httpx.Response]
"""The operation that was called, and what it answered."""


def answers(served: Served) -> Iterator[Answer]:
    """Of a service on `one_of_each`, with a stuck session to spare."""
    for accept in (JSON, HEALTH_JSON):
        for call in ("health", "livez", "readyz"):
            yield call, served.bare.get(f"/{call}", headers={"accept": accept})
    extras = "ending,orphaned,silent,never_started,unprovable"
    yield "stuck", served.http.get("/sessions/stuck", params={"limit": 1})
    yield "stuck", served.http.get("/sessions/stuck", params={"include": extras})
    yield "sessions", served.http.get("/sessions", params={"limit": 2})
    yield "sessions", served.http.get("/sessions")
    yield "session", served.http.get("/sessions/id-stuck")
    yield "session", served.http.get("/sessions/id-nowhere")
    yield "session", served.bare.get("/sessions/id-stuck")
    yield "repairSessions", served.http.post("/sessions/repair", json={})
    yield "repairSession", served.http.post("/sessions/id-stuck/repair", json={"dry_run": True})
    yield "repairSession", served.http.post("/sessions/id-stuck/repair", json={"target_status": "done"})
    yield "repairSession", served.http.post("/sessions/id-stuck/repair", content=b"{", headers={"content-type": JSON})
    yield "repairSession", served.http.post("/sessions/id-stuck/repair", headers={"if-match": '"another"'})
    yield "repairSession", served.http.post("/sessions/id-working/repair")
    repaired = served.http.post("/sessions/id-stuck/repair", json={"reason": "the user waits"})
    yield "repairSession", repaired
    one = f"/repairs/{repaired.json()['id']}"
    yield "repair", served.http.get(one)
    yield "repair", served.http.get("/repairs/not-an-id")
    yield "undo", served.http.post(f"{one}/undo", json={"reason": "it was not over"})
    yield "undo", served.http.post(f"{one}/undo", json={"reason": "it was not over"})
    yield "repairs", served.http.get("/repairs")
    yield "breaker", served.http.get("/breaker")
    yield "closeBreaker", served.http.post("/breaker/close", json={"reason": "it is not open"})
    wait_until(lambda: len(served.http.get("/webhooks/dead").json()["items"]) > 1, "messages are given up")
    dead = served.http.get("/webhooks/dead", params={"limit": 1})
    yield "deadMessages", dead
    again = f"/webhooks/dead/{dead.json()['items'][0]['id']}/resend"
    key = {"idempotency-key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
    yield "resend", served.http.post(again, headers=key)
    yield "resend", served.http.post(again, headers=key)
    yield "resend", served.http.post(again, headers=key, json={"another": "body"})
    yield "resend", served.http.post("/webhooks/dead/01a20273-2848-789b-a3d2-f31657f27dbf/resend")
    for accept in ("text/plain", "application/openmetrics-text"):
        yield "metrics", served.bare.get("/metrics", headers={"accept": accept})
    for accept in ("text/plain", "text/html"):
        yield "problem", served.bare.get("/problems/store_busy", headers={"accept": accept})
    yield "problem", served.bare.get("/problems/nothing")
    yield "events", first_event(served)


def first_event(served: Served) -> httpx.Response:
    """The answer as far as its first event."""
    with served.http.stream("GET", "/events", headers={"last-event-id": "of an earlier life"}) as stream:
        text = next(chunk for chunk in stream.iter_text() if chunk.strip())
    return httpx.Response(stream.status_code, headers={"content-type": stream.headers["content-type"]}, text=text)


def answers_of_an_open_breaker(world: World, served: Served) -> Iterator[Answer]:
    """Of a service on four lost turns, of which three are too many."""
    world.clock.advance(WINDOW)
    served.look()
    yield "health", served.bare.get("/health")
    yield "health", served.bare.get("/health", headers={"accept": HEALTH_JSON})
    yield "breaker", served.http.get("/breaker")
    yield "closeBreaker", served.http.post("/breaker/close", json={"reason": "the disk was full"})
    database = world.folder / "own" / "audit.db"
    away = database.rename(database.with_name("away"))
    served.look()
    for accept in (JSON, HEALTH_JSON):
        for call in ("health", "readyz"):
            yield call, served.bare.get(f"/{call}", headers={"accept": accept})
    yield "repairs", served.http.get("/repairs")
    yield "repairSessions", served.http.post("/sessions/repair", json={"dry_run": False})
    yield "repairSession", served.http.post("/sessions/id-0/repair")
    away.rename(database)


def everything(folder: Path) -> Iterator[tuple[World, Answer]]:
    """Both, each in a world of its own below `folder`; the service of each ends with it."""
    for name in ("each", "breaker"):
        (folder / name).mkdir()
        world = World(folder / name)
        serve = Serve(world)
        receiver = Receiver(status=410)
        try:
            if name == "each":
                one_of_each(world)
                told = answers(serve(auto_repair=False, webhook_urls=(receiver.url,), webhook_secret=SECRET))
            else:
                lost_turns(world, range(4))
                told = answers_of_an_open_breaker(world, serve(breaker_repairs=3))
            for answer in told:
                yield world, answer
        finally:
            for served in serve.running:
                served.stop()
            receiver.close()
            world.close()


def media_type(answer: httpx.Response) -> str:
    return answer.headers["content-type"].partition(";")[0]


def shortened(text: str) -> str:
    """Of the metrics those on sessions: an example is not the whole."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if "clawmend_sessions" in line) or text


def _main() -> None:
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for world, (call, answer) in everything(Path(folder)):
            media = media_type(answer)
            if media != MEDIA_TYPE:
                text = answer.text.replace(str(world.state), "/home/me/.openclaw")
                kept = found.setdefault(call, {}).setdefault(str(answer.status_code), {})
                kept.setdefault(media, json.loads(text) if media.endswith("json") else shortened(text))
    json.dump(found, sys.stdout, indent=1, ensure_ascii=False, sort_keys=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    _main()
