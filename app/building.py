"""From settings to what works by them: the audit, the links to the gateways, the reconciler. No server is needed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from app.audit.log import AuditLog
from app.clock import Clock, SystemClock
from app.settings import Settings

if TYPE_CHECKING:
    from app.reconcile.gateways import GatewayLinks
    from app.reconcile.reconciler import Reconciler


class CannotStart(Exception):
    """The service cannot come up; the message says why and what to do."""


def open_audit(settings: Settings, *, stays: bool = False) -> AuditLog:
    """The audit database, migrated; `stays`: for a service, whose memory is to stay small. Raises CannotStart."""
    try:
        audit = AuditLog(settings.database_url)
        audit.migrate(apart=stays)
    except Exception as error:
        raise CannotStart(f"the audit database {_shown(settings.database_url)} cannot be opened: {error}") from error
    return audit


def build_reconciler(settings: Settings, *, stays: bool = False) -> Reconciler:
    """A reconciler on the real clock and a migrated audit database (`stays`: as there). Raises CannotStart."""
    from app.reconcile.reconciler import Reconciler  # noqa: PLC0415  (who only reads the audit does without)

    audit = open_audit(settings, stays=stays)
    clock = SystemClock()
    return Reconciler(settings, clock, audit, os.environ, links=build_links(settings, clock))


def build_links(settings: Settings, clock: Clock) -> GatewayLinks | None:
    """Links to the gateways of the state dirs, not started yet; None where the setting says so."""
    if settings.gateway == "off":
        return None
    from app.reconcile.gateways import GatewayLinks  # noqa: PLC0415
    from app.reconcile.places import state_dirs  # noqa: PLC0415

    return GatewayLinks(settings, clock, os.environ, state_dirs(settings, os.environ))


def _shown(url: str) -> str:
    """A database URL without its password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
