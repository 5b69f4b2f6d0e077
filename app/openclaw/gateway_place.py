"""One gateway as we stand with it: the link that is kept to it, what is known of it, and how long it is waited for."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import httpx

from app.clock import Clock
from app.openclaw.gateway_access import Access, NoAccess
from app.openclaw.gateway_calls import TELL_SECONDS
from app.openclaw.gateway_frames import ADMIN, READ, Event
from app.openclaw.gateway_link import Link, LinkFailed, Refused, open_link
from app.openclaw.gateway_plugin import CHANGE_SECONDS, Changed, NotReached, Order, Unanswered, carry_out, has_plugin
from app.openclaw.gateway_tls import trust
from app.openclaw.paths import StateDir

logger = logging.getLogger("clawmend")

_FIRST_DELAY, _LONGEST_DELAY = 0.5, 60.0
_STEADY_SECONDS = 10.0
_HUSH_SECONDS = 10.0
"""A gateway that did not answer is not waited for, and told nothing, for so long."""


@dataclass(frozen=True, slots=True)
class LinkState:
    """How it stands with one gateway; `code` is one of docs/explanation/gateway.md."""

    code: str = "connecting"
    detail: str = ""
    version: str = ""
    ready: bool | None = None
    """What its own /readyz says; None: it does not answer."""
    plugin: bool = False
    """The companion plugin is in there."""


class GatewayPlace:
    """The gateway of one state dir. Lives on one event loop; `known` and `link` may be read from any thread."""

    def __init__(self, state: StateDir, find_access: Callable[[StateDir], Access], clock: Clock) -> None:
        """`find_access` reads the configuration anew each time; it raises NoAccess."""
        self._state = state
        self._find_access = find_access
        self._clock = clock
        self._hushed_until = 0.0
        self.known = LinkState()
        self.access: Access | None = None
        self.link: Link | None = None

    @property
    def hushed(self) -> bool:
        """It did not answer a moment ago."""
        return self._clock.monotonic() < self._hushed_until

    def linked(self) -> Link:
        """The link. Raises LinkFailed with what is known where there is none."""
        if self.link is None:
            raise LinkFailed(self.known.code, self.known.detail or "there is no link to its gateway")
        return self.link

    async def keep(self, hear: Callable[[Event], None], is_up: Callable[[], None]) -> None:
        """Connect, and connect again whenever it breaks, ever later. Ends only when it is cancelled."""
        delay = _FIRST_DELAY
        while True:
            began = self._clock.monotonic()
            try:
                self.access = await asyncio.to_thread(self._find_access, self._state)
                link = await open_link(self.access, READ, hear)
                try:
                    await link.call("sessions.subscribe", {}, TELL_SECONDS)
                    self.link = link
                    self._note("up", "", link)
                    is_up()
                    why = await link.wait_closed()
                    if self.link is link:
                        self._note("closed", why)
                finally:
                    self.link = None
                    await link.close()
            except (LinkFailed, NoAccess) as error:
                self._note(error.code, error.detail)
            except Refused as error:
                self._note("refused", str(error))
            except Exception as error:  # noqa: BLE001  (/health shows it, and the next try may do better)
                self._note("broken", repr(error))
            if self._clock.monotonic() - began > _STEADY_SECONDS:
                delay = _FIRST_DELAY
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311
            delay = min(delay * 2, _LONGEST_DELAY)

    @asynccontextmanager
    async def patience(self, link: Link, seconds: float, *, drop: bool = True) -> AsyncIterator[None]:
        """Who does not answer within `seconds` in all is hushed, and has to shake hands anew where `drop` says so."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except (LinkFailed, TimeoutError) as error:
            if isinstance(error, LinkFailed) and error.code != "not_answering":
                raise
            detail = str(error) or f"no answer within {seconds:g} s"
            self._hushed_until = self._clock.monotonic() + _HUSH_SECONDS
            if not drop:
                raise LinkFailed("not_answering", detail) from None
            if self.link is link:
                self.link = None
                self._note("not_answering", detail)
            link.drop()
            raise LinkFailed("not_answering", detail) from None

    async def change(self, order: Order) -> Changed:
        """Have the companion plugin change a row. Raises NotReached, Unanswered."""
        try:
            link = self.linked()
            if self.hushed:
                raise NotReached("its gateway did not answer a moment ago")
            admin = await open_link(link.access, ADMIN)  # for this one call: the link that stays may only read
        except LinkFailed as error:
            raise NotReached(error.detail) from None
        try:
            async with self.patience(link, CHANGE_SECONDS, drop=False):
                return await carry_out(admin, order)
        except LinkFailed as error:
            raise Unanswered(error.detail) from None
        finally:
            await admin.close()

    async def ask_health(self) -> None:
        """The gateway's own word on itself. The body is not read: it may have no end."""
        ready: bool | None = None
        if self.access is not None:
            client = httpx.AsyncClient(
                timeout=2.0, trust_env=False, follow_redirects=False, verify=trust(self.access) or False
            )
            try:
                async with client, client.stream("GET", f"{self.access.http}/readyz") as answer:
                    ready = answer.status_code == httpx.codes.OK
            except (httpx.HTTPError, httpx.InvalidURL):
                ready = None
        self.known = replace(self.known, ready=ready)

    def _note(self, code: str, detail: str, link: Link | None = None) -> None:
        was = self.known
        plugin = link is not None and has_plugin(link)
        if link is not None and was.code != code:
            of = f"OpenClaw {link.version}{', with our plugin' if plugin else ''}"
            logger.info("linked with the gateway of %s (%s)", self._state.path, of)
        elif was.code != code and was.code in ("up", "connecting"):
            logger.warning("no link with the gateway of %s: %s (%s)", self._state.path, detail, code)
        version = link.version if link else was.version
        self.known = replace(was, code=code, detail=detail, version=version, plugin=plugin)
