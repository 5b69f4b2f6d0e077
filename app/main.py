"""The composition root: settings in, a running service out."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from app.api.app import create_app
from app.api.auth import load_or_make_token
from app.audit.log import sqlite_path
from app.building import CannotStart, build_reconciler
from app.reconcile.reconciler import Reconciler
from app.settings import Settings, own_state_folder, unknown_settings
from app.systemd import Telling, manager_of, send
from app.web.console import add_console

logger = logging.getLogger("clawmend")

_SWITCH_SECONDS = 0.0005
"""For so long a pass keeps the interpreter while the event loop wants it, which asks for it anew for each connection
that has something to say: at Python's 5 ms, 32 of them waited 160 ms for an answer beside a large store.
"""


def token_file(settings: Settings) -> Path:
    """Beside the audit database, or in our own state folder where that is a server."""
    database = sqlite_path(settings.database_url)
    return (database.parent if database else own_state_folder(os.environ)) / "token"


def serve(settings: Settings) -> None:
    """Run until told to stop. Raises CannotStart."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("alembic", "apscheduler", "httpcore", "httpx", "watchfiles", "websockets"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in unknown_settings(os.environ):
        logger.warning("%s is no setting of Clawmend; is it misspelt?", name)
    sys.setswitchinterval(_SWITCH_SECONDS)
    reconciler = build_reconciler(settings, stays=True)
    app = create_app(reconciler, _token(settings))
    add_console(app)
    logger.info("Clawmend on http://%s:%d looks at %s", settings.host, settings.port, _places(reconciler))
    if not settings.auto_repair:
        logger.info("CLAWMEND_AUTO_REPAIR is off: sessions are settled only when somebody asks")
    try:
        _run(settings, app)
    except SystemExit:
        where = f"{settings.host}:{settings.port}"
        raise CannotStart(f"nothing can be served on {where}: is the port taken? (CLAWMEND_PORT)") from None
    finally:
        reconciler.audit.dispose()


class Server(uvicorn.Server):
    """Lets those go who follow /events before it waits for the last answers: they would stay for ever. Tells systemd,
    where that started us: ready when it serves and the first pass is over.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._manager = manager_of(os.environ, os.getpid())
        self._telling: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._manager is not None:
            service = self.config.app.state.service  # type: ignore[union-attr]
            self._telling = asyncio.create_task(Telling(self._manager, service).run())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._manager is not None and self._telling is not None:
            self._telling.cancel()
            send(self._manager, "STOPPING=1", "STATUS=a pass that is under way comes to its end")
        await self.config.app.state.events.end()  # type: ignore[union-attr]
        await super().shutdown(sockets)


def _run(settings: Settings, app: FastAPI) -> None:
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        access_log=False,  # a path holds session keys
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    server = Server(config)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise SystemExit


def _token(settings: Settings) -> str | None:
    if settings.auth == "off":
        logger.warning("CLAWMEND_AUTH is off: everybody on this machine may read and repair sessions")
        return None
    if settings.api_token is not None:
        return settings.api_token.get_secret_value()
    path = token_file(settings)
    try:
        token, made = load_or_make_token(path)
    except OSError as error:
        raise CannotStart(f"the token file {path} cannot be used: {error}") from None
    if made:
        logger.info("a token was made for this installation (it is in %s): %s", path, token)
    else:
        logger.info("the token is in %s", path)
    return token


def _places(reconciler: Reconciler) -> str:
    return ", ".join(state.path for state in reconciler.scanner.state_dirs)
