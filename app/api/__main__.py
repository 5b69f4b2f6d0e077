"""Prints the OpenAPI document: python -m app.api > docs/reference/openapi.json"""

from __future__ import annotations

import sys
import tempfile

from app.api.app import create_app
from app.api.openapi import text_of
from app.building import build_reconciler
from app.settings import Settings

with tempfile.TemporaryDirectory() as folder:
    settings = Settings(database_url=f"sqlite:///{folder}/audit.db", state_dir=(folder,), gateway="off")
    reconciler = build_reconciler(settings)
    sys.stdout.write(text_of(create_app(reconciler, "a token that is not used").openapi()))
    reconciler.audit.dispose()
