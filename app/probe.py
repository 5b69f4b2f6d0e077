"""`python -m app.probe /readyz`: whether the service of this machine answers with 200, for containers without curl.

Reads `CLAWMEND_HOST` and `CLAWMEND_PORT` as the service does. Exit code 0: it does; 1: it does not, and why on stderr.
Needs nothing but the standard library: it is started every few seconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException

_PATIENCE = 4.0
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def address(env: Mapping[str, str]) -> tuple[str, int]:
    """Where to ask: a service that listens on every address is asked on loopback."""
    host = env.get("CLAWMEND_HOST", "")
    return _ANY.get(host, host), int(env.get("CLAWMEND_PORT") or 8787)


def ask(path: str, env: Mapping[str, str]) -> str | None:
    """None when the answer is 200; else what came instead."""
    host, port = address(env)
    connection = HTTPConnection(host, port, timeout=_PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.read(1_000).decode("utf-8", "replace")
    except (OSError, HTTPException) as error:
        return f"{host}:{port} does not answer: {error or type(error).__name__}"
    finally:
        connection.close()
    return None if answer.status == 200 else f"{path}: {answer.status} {said}"


def main(arguments: list[str]) -> int:
    wrong = ask(arguments[0] if arguments else "/readyz", os.environ)
    if wrong is not None:
        sys.stderr.write(f"{wrong}\n")
    return 0 if wrong is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
