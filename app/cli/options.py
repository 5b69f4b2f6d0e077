"""Options that several commands have, each written once."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, an error too.")]
SessionId = Annotated[str, typer.Argument(metavar="ID", help="A sessionId or a session key.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="For the audit.", show_default=False)]
Watch = Annotated[
    float | None,
    typer.Option("--watch", metavar="[SECONDS]", min=0.1, max=86_400, help="Look again every so many seconds (2)."),
]

NO_REASON = "asked on the command line"
