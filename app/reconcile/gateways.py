"""The links to the gateways: asked before a repair, told after one, listened to between.

They live on an event loop in a thread of their own. Whoever asks waits a second at most, and not at all while a gateway
is known not to answer; a pass asks nobody, it goes by what was answered before and leaves its questions here.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, TypeVar

from app.clock import Clock
from app.domain.model import Liveness, Row
from app.openclaw.gateway_access import Access
from app.openclaw.gateway_calls import (
    ASK_SECONDS,
    BACKGROUND_SECONDS,
    TELL_SECONDS,
    Elsewhere,
    Told,
    ask_liveness,
    find_row,
    inject,
    tell,
)
from app.openclaw.gateway_config import read_access
from app.openclaw.gateway_frames import ADMIN, Event, session_row
from app.openclaw.gateway_link import HANDSHAKE_SECONDS, LinkFailed, Refused, open_link
from app.openclaw.gateway_place import GatewayPlace, LinkState
from app.openclaw.gateway_plugin import CHANGE_SECONDS, Changed, NotReached, Order, Unanswered
from app.openclaw.paths import StateDir, StoreTarget
from app.reconcile.answers import FRESH_SECONDS, JUST_NOW_SECONDS, Answers, Asked
from app.settings import Settings

logger = logging.getLogger("clawmend")

_HEALTH_SECONDS = 10.0
_ROUND_SECONDS, _LONGEST_ROUND = 2.0, 10.0
_SHARE = 20
"""A round has cost the gateway at most this part of the time, or `_LONGEST_ROUND` follow it."""
_MOST_ALONE = 5
_LIFECYCLE = ("start", "end", "error")
_T = TypeVar("_T")
_Whom = tuple[StoreTarget, Row, str]


class GatewayLinks:
    """Any number of threads. `start` once, `stop` once."""

    def __init__(self, settings: Settings, clock: Clock, env: Mapping[str, str], state_dirs: tuple[StateDir, ...]):
        self._settings = settings
        self._clock = clock
        self._env = env
        self._places = {state.path: GatewayPlace(state, self._access, clock) for state in state_dirs}
        self._changed: Callable[[], object] = lambda: None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._wished = asyncio.Event()
        self._answers = Answers(clock)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, changed: Callable[[], object] = lambda: None) -> None:
        """`changed` is called, on our own thread, when a session has changed or an answer is there."""
        self._changed = changed
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop,), name="gateways", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self._soon(self._cancel)
            self._thread.join(timeout=3.0)
            self._thread = None

    def states(self) -> dict[str, LinkState]:
        """By state dir."""
        return {path: place.known for path, place in self._places.items()}

    def wait_until_settled(self, patience: float) -> None:
        """Until every link is up or known not to come up, at most `patience` seconds."""
        until = self._clock.monotonic() + patience
        while self._clock.monotonic() < until and any(s.code == "connecting" for s in self.states().values()):
            self._clock.sleep(0.01)

    def remembered(self, target: StoreTarget, row: Row, agent_id: str) -> Liveness:
        """The last answer about this very row; the question is asked in the background."""
        self._answers.wish(target, row, agent_id)
        self._soon(self._wished.set)
        recent = self._answers.recent(target, row, FRESH_SECONDS)
        if recent is not None:
            return recent
        place = self._places.get(target.state_dir)
        return Liveness(why=place.known.detail or "not asked yet") if place else Liveness()

    def ask(self, target: StoreTarget, row: Row, agent_id: str) -> Liveness:
        """Ask now, unless it was answered just now. Waits ASK_SECONDS at most; of a gateway that is too busy to answer
        what it said in the last minute counts: a run that was over then cannot go on. Of a row in a database only an
        answer of this moment counts: beside a run that has begun since a write would make the gateway's own fail.
        """
        by_file = target.kind == "file"
        recent = self._answers.recent(target, row, JUST_NOW_SECONDS)
        if recent is not None and by_file:
            return recent
        place = self._places.get(target.state_dir)
        why = (place.known.detail if place else "") or "there is no link to its gateway"
        if place is not None and place.link is not None:
            if not place.hushed:
                try:
                    job = self._ask(place, [(target, row)], agent_id, ASK_SECONDS)
                    return self._wait_for(job, ASK_SECONDS + 0.5)[0]
                except (LinkFailed, Refused, TimeoutError, CancelledError) as error:
                    why = str(error)
            else:
                why = "its gateway did not answer a moment ago"
        recent = self._answers.recent(target, row, FRESH_SECONDS)
        if recent is not None and (by_file or recent.active):
            return recent
        return Liveness(why=why or "its gateway does not answer")

    def tell(
        self, target: StoreTarget, row: Row, agent_id: str, repaired: dict[str, Any], *, say: str | None = None
    ) -> Told:
        """Tell of a repair of `row`, which the caller has just seen on disk, and `say` it in its transcript where that
        is asked for. Waits TELL_SECONDS at most.
        """
        place = self._places.get(target.state_dir)
        if place is None or place.link is None:
            return Told("not_told", (place.known.detail if place else "") or "there is no link to its gateway")
        if place.hushed:
            return Told("not_told", "its gateway did not answer a moment ago")
        try:
            return self._wait_for(self._tell(place, (target, row, agent_id), repaired, say), TELL_SECONDS + 0.5)
        except (LinkFailed, Refused, Elsewhere, TimeoutError, CancelledError) as error:
            return Told("not_told", str(error) or "its gateway does not answer")

    def change(self, target: StoreTarget, order: Order) -> Changed:
        """Have the companion plugin change a row. Raises NotReached, Unanswered."""
        place = self._places.get(target.state_dir)
        if place is None:
            raise NotReached("there is no link to its gateway")
        try:
            return self._wait_for(place.change(order), HANDSHAKE_SECONDS * 2 + CHANGE_SECONDS + 2)
        except LinkFailed as error:
            raise NotReached(error.detail) from None
        except (TimeoutError, CancelledError):
            raise Unanswered("its gateway does not answer") from None

    # --- on the loop -------------------------------------------------------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(self._all())
        finally:
            loop.close()

    async def _all(self) -> None:
        jobs = [place.keep(self._heard, self._say) for place in self._places.values()]
        self._tasks = [asyncio.create_task(job) for job in (*jobs, self._answer_wishes(), self._watch_health())]
        await asyncio.gather(*self._tasks, return_exceptions=True)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _soon(self, function: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed: they have been stopped
                self._loop.call_soon_threadsafe(function)

    def _wait_for(self, job: Coroutine[Any, Any, _T], patience: float) -> _T:
        try:
            future = asyncio.run_coroutine_threadsafe(job, self._loop)  # type: ignore[arg-type]
        except RuntimeError:
            job.close()
            raise LinkFailed("closed", "the links have been stopped") from None
        try:
            return future.result(patience)
        except TimeoutError:
            future.cancel()
            raise

    def _access(self, state: StateDir) -> Access:
        word, own = self._settings.gateway, self._settings.gateway_token
        url = None if word == "auto" else word
        return read_access(state, self._env, url=url, token=own.get_secret_value() if own else None)

    def _say(self) -> None:
        with suppress(RuntimeError):  # whoever listens may be gone before us
            self._changed()

    def _heard(self, event: Event) -> None:
        """A session that begins or ends is worth a pass; what else is told of it is not."""
        if event.name != "sessions.changed":
            return
        if event.payload.get("phase") in _LIFECYCLE or event.payload.get("reason") in ("reset", "delete", "patch"):
            row = session_row(event.payload)
            if row is not None:
                self._answers.forget(row.key)
            self._say()

    async def _ask(self, place: GatewayPlace, asked: list[Asked], agent_id: str, seconds: float) -> list[Liveness]:
        link = place.linked()
        now, asked_at = self._clock.now(), self._clock.monotonic()
        async with place.patience(link, seconds, drop=seconds > ASK_SECONDS):
            answers = await ask_liveness(link, asked, agent_id, now)
        for (target, row), answer in zip(asked, answers, strict=True):
            if answer.asked_at is None and len(asked) > 1:
                continue  # it has its turn alone
            self._answers.keep(target, row, answer, asked_at)
        return answers

    async def _tell(
        self, place: GatewayPlace, whom: tuple[StoreTarget, Row, str], repaired: dict[str, Any], say: str | None
    ) -> Told:
        target, row, agent_id = whom
        link = place.linked()
        async with place.patience(link, TELL_SECONDS):
            await find_row(link, target, row, agent_id)
            admin = await open_link(link.access, ADMIN)  # for this one call: the link that stays may only read
            try:
                told = await tell(admin, target, row.key, repaired)
                if say is not None and told.answer == "as_repaired":
                    await inject(admin, row.key, say)
                return told
            finally:
                await admin.close()

    async def _answer_wishes(self) -> None:
        """Ask what the last pass wanted to know, all of one agent at once; say so where an answer is new."""
        while True:
            await self._wished.wait()
            self._wished.clear()
            self._answers.forget_stale()
            news, began = False, self._clock.monotonic()
            for (state_dir, agent_id), asked in self._answers.take_wishes().items():
                news = await self._answer(state_dir, agent_id, asked) or news
            if news:
                self._say()
            spent = self._clock.monotonic() - began
            await asyncio.sleep(min(_LONGEST_ROUND, max(_ROUND_SECONDS, _SHARE * spent)))

    async def _answer(self, state_dir: str, agent_id: str, asked: list[Asked]) -> bool:
        """Ask of one agent's rows together, and of those that the list is too short for one by one. Gives whether
        there is news.

        The oldest stand last in a list; a few of them are asked for in each round, those first that wait the longest.
        """
        place = self._places.get(state_dir)
        if place is None or place.link is None:
            return False
        before = self._answers.said(asked)
        try:
            answers = await self._ask(place, asked, agent_id, BACKGROUND_SECONDS)
            unlisted = [each for each, answer in zip(asked, answers, strict=True) if answer.asked_at is None]
            for each in unlisted[:_MOST_ALONE] if len(asked) > 1 else ():
                await self._ask(place, [each], agent_id, BACKGROUND_SECONDS)
        except (LinkFailed, Refused):
            return False
        except Exception as error:  # noqa: BLE001  (the next question may do better)
            logger.warning("asking the gateway of %s failed: %r", state_dir, error)
            return False
        return before != self._answers.said(asked)

    async def _watch_health(self) -> None:
        while True:
            for place in self._places.values():
                await place.ask_health()
            found = all(place.access is not None for place in self._places.values())
            await asyncio.sleep(_HEALTH_SECONDS if found else 1.0)
