"""The files that a browser loads of the console: in memory, each under a name that changes with its content."""

from __future__ import annotations

import hashlib
from pathlib import Path

_FOLDER = Path(__file__).parent / "static"
_KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
PREFIX = "/console/static/"


def _load() -> tuple[dict[str, str], dict[str, tuple[bytes, str]]]:
    paths: dict[str, str] = {}
    found: dict[str, tuple[bytes, str]] = {}
    for file in sorted(_FOLDER.iterdir()):
        if file.suffix in _KINDS:
            content = file.read_bytes()
            name = f"{file.stem}.{hashlib.sha256(content).hexdigest()[:12]}{file.suffix}"
            paths[file.name] = PREFIX + name
            found[name] = (content, _KINDS[file.suffix])
    return paths, found


PATHS, _FILES = _load()
"""By the name of a file the path under which it is served."""


def asset(name: str) -> tuple[bytes, str] | None:
    """Content and media type of what is served under `name`."""
    return _FILES.get(name)
