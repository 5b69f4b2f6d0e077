"""A header of a request, from the bytes that came: Starlette's own look for one that is not there takes 5 us."""

from __future__ import annotations

from starlette.requests import HTTPConnection


def header_of(connection: HTTPConnection, name: bytes) -> str:
    """The first header of this name (in small letters); empty where there is none."""
    for given, value in connection.scope["headers"]:
        if given == name:
            return str(value, "latin-1")
    return ""


def list_of(connection: HTTPConnection, name: bytes) -> str | None:
    """What all headers of this name (in small letters) say, parted by commas: a list may be parted into several."""
    given = [value for sent, value in connection.scope["headers"] if sent == name]
    return str(b", ".join(given), "latin-1").strip() if given else None
