"""Prints the OpenAPI document: python -m app.api > docs/reference/openapi.json"""

from __future__ import annotations

import sys
import tempfile

from app.api.app import create_app
from app.api.openapi import text_of
from app.audit.log import AuditLog
from app.clock import SystemClock
from app.reconcile.reconciler import Reconciler
from app.settings import Settings

with tempfile.TemporaryDirectory() as folder:
    settings = Settings(database_url=f"sqlite:///{folder}/audit.db", state_dir=(folder,), gateway="off")
    audit = AuditLog(settings.database_url)
    app = create_app(Reconciler(settings, SystemClock(), audit, {}), "a token that is not used")
    sys.stdout.write(text_of(app.openapi()))
    audit.dispose()
