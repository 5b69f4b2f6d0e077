"""From values to HTML: the templates, and the headers that every page of the console has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from app import __version__
from app.domain.describe import rfc3339
from app.web import words
from app.web.assets import PATHS

HEADERS = {
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with `no-referrer` a form would not say its origin
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
_HTMX = {
    "allowEval": False,
    "allowScriptTags": False,
    "historyEnabled": False,  # it would keep pages with session names in the browser's storage
    "includeIndicatorStyles": False,
    "selfRequestsOnly": True,
    "timeout": 60_000,
    "responseHandling": [{"code": "204", "swap": False}, {"code": "...", "swap": True}],
}


def _percent(x: float) -> str:
    return f"{100 * x:.3f}%"


def _pretty(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_environment.filters |= {
    "age": words.age,
    "span": words.span,
    "day": words.day,
    "deed": words.deed,
    "time": words.time_of_day,
    "exact": words.exact,
    "iso": rfc3339,
    "percent": _percent,
    "pretty": _pretty,
}
_environment.globals |= {
    "assets": PATHS,
    "htmx_config": orjson.dumps(_HTMX).decode(),
    "meaning": words.MEANING,
    "mark": words.MARK,
    "version": __version__,
}


def page(template: str, status: int = 200, headers: dict[str, str] | None = None, **values: Any) -> Response:
    """A page, or a part of one."""
    body = _environment.get_template(template).render(**values)
    return HTMLResponse(body, status, headers={**HEADERS, **(headers or {})})
