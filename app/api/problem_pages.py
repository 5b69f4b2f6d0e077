"""The page that an error's `type` leads to: what it means and what to do next, as text, and as HTML for a browser."""

from __future__ import annotations

import re
from html import escape

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.problems import PROBLEMS, Problem

router = APIRouter(tags=["problems"])

MEANINGS: dict[str, str] = {
    "bad_request": "The body is not JSON, or the request breaks the rules of HTTP. Nothing was looked at.",
    "unauthorized": "The call needs a token, and the request carries none, one that nobody was given, or one that was revoked or has expired. `clawmend token list` shows which named tokens are live.",
    "forbidden_host": "The request names a host that is neither an address nor one that was allowed. This keeps a page of another site from reaching Clawmend by a name that it turned to 127.0.0.1.",
    "forbidden": "The token is known, but its scope does not open this call. `read` looks, `repair` settles what is proven and takes it back, `admin` also overrules: `clawmend token add NAME --scope SCOPE` makes one.",
    "foreign_form": (
        "What the console's buttons send is taken from the console's own page only: with the origin of this very host, and with the "
        "secret that the page of this login carries. This request had not both. Nothing was done."
    ),
    "foreign_origin": "A browser sent this for a page of another origin, which is not in CLAWMEND_CORS_ORIGINS, and it was to do more than read. Where CLAWMEND_AUTH is off any page that its user has open could else repair sessions. Nothing was done.",
    "not_found": "No such path, or no session or repair of this id. A session is found by its sessionId or its key as the last pass saw it: one that is new may take a few seconds.",
    "method_not_allowed": "The path is there, but takes other methods. The header `Allow` lists them.",
    "not_stuck": "The evidence does not show that the session is finished, so nothing was written. `detail` has the verdict, `evidence` what it rests on: docs/reference/verdicts.md explains each.",
    "ambiguous": "Two rows have this sessionId or key, in two stores, or one as its id and one as its key. `candidates` names them. Nothing was written.",
    "cannot_undo": "Since the repair the row was written by the gateway or by another repair, or the repair had changed nothing. What stands there now is newer than what an undo would put back, so it stays.",
    "not_open": "The breaker was to be closed, and it is not open: nothing keeps the scheduler from what is due, or another has closed it already.",
    "store_unfit": "The store is of a kind that Clawmend never writes to (a link, another user's file, a damaged one), or the row can only be written by a hand that is not there now. `detail` says which. Nothing was written.",
    "in_progress": "The same request, with the same Idempotency-Key, came before and has no answer yet. It is not begun a second time. One whose service was killed in the midst of it counts as under way for 30 s more, and is then carried out when it is sent again.",
    "precondition_failed": "The request had a condition, `If-Match`: to be carried out only while the session or the repair is what somebody has seen. It is not any more, so nothing was written. Of a session `session` and `evidence` say what it is now; `repair` is the attempt that was given up, where it had begun.",
    "too_large": "A body has more than 64 KiB, or the header that tells its length is not a number.",
    "invalid": "The request was read, but a parameter or a field has a value that is not taken, or a name that is not known. Nothing was done.",
    "key_reused": "Within the last 24 hours the same caller has sent this Idempotency-Key with another method, path, body or If-Match. Nothing was done: which of the two is meant cannot be told.",
    "store_busy": "The gateway, or another repair, is writing to this very store. Clawmend waits for a pause, and there was none for as long as CLAWMEND_STORE_PATIENCE_SECONDS says. Nothing was written.",
    "too_many_logins": (
        "Five wrong tokens came from this address to the login of the console; after them one is looked at every six seconds. "
        "The API counts none, and who has logged in stays so."
    ),
    "too_many": "One caller has asked for more repairs and undos within a minute than CLAWMEND_REPAIRS_PER_MINUTE allows. This one was not looked at, and nothing was written. Dry runs are not counted, nor are other callers.",
    "internal": "A fault of Clawmend itself. If it came of a repair, the audit has its attempt, and the next pass finds out from the disk what became of it.",
    "audit_unavailable": "Every repair is written down before a store is touched; where that cannot be done, no store is touched. The file may be gone, the disk full, or the server not reachable.",
}  # fmt: skip
"""What each problem means; docs/reference/errors.md has the same."""


@router.head("/problems/{code}", include_in_schema=False)
@router.get("/problems/{code}")
async def explain_problem(request: Request, code: str) -> Response:
    """What an error's `type` leads to."""
    if code not in PROBLEMS:
        raise Problem("not_found", f"no problem is called {code[:60]}")
    for_browser = "text/html" in request.headers.get("accept", "").lower()
    page, kind = (_html(code), "text/html") if for_browser else (_text(code), "text/plain")
    return Response(
        page,
        media_type=kind,
        headers={
            "cache-control": "max-age=3600",
            "vary": "accept",
            "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
        },
    )


def _text(code: str) -> str:
    status, title, next_step = PROBLEMS[code]
    return f"{code} ({status}): {title}.\n\nWhat it means\n{MEANINGS[code]}\n\nWhat to do\n{next_step}\n"


def _html(code: str) -> str:
    status, title, next_step = PROBLEMS[code]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"<title>{code}: {_marked(title)}</title></head>\n<body><main>\n<h1>{_marked(title)}</h1>\n"
        f"<p>HTTP {status}, <code>{code}</code></p>\n<h2>What it means</h2>\n<p>{_marked(MEANINGS[code])}</p>\n"
        f"<h2>What to do</h2>\n<p>{_marked(next_step)}</p>\n</main></body></html>\n"
    )


def _marked(text: str) -> str:
    """What stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
