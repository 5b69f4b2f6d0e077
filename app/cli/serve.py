"""`clawmend serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.exits import DONE


def serve(
    demo: Annotated[
        bool, typer.Option("--demo", help="On a demo state, made from recordings of a real gateway.")
    ] = False,
    or_demo: Annotated[
        bool, typer.Option("--or-demo", help="On the demo state where no OpenClaw state is found.")
    ] = False,
) -> int:
    """Run the service."""
    from app.settings import load_settings

    settings = load_settings()
    from app.demo import demo_settings, no_state_found
    from app.main import serve as run_service

    if demo or (or_demo and no_state_found(settings)):
        settings = demo_settings(settings)
    run_service(settings)
    return DONE
