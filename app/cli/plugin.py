"""`clawmend plugin`: the companion plugin inside the gateway."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.exits import DONE, SOMETHING_STUCK
from app.cli.failures import Failure
from app.cli.looking import LINK_PATIENCE
from app.cli.options import Json
from app.cli.screen import say, say_json

if TYPE_CHECKING:
    from app.openclaw.plugin_install import Installed, PluginInstaller
    from app.settings import Settings

app = typer.Typer(help="The companion plugin in the gateway: install, status, remove.", rich_markup_mode=None)

Program = Annotated[
    str | None, typer.Option("--openclaw", metavar="PATH", help="The command `openclaw`, where it is not in PATH.")
]


@app.command()
def install(openclaw: Program = None, as_json: Json = False) -> int:
    """Have OpenClaw copy it into its state dir, over an older one."""
    from app.settings import load_settings

    installed = _installer(load_settings(), openclaw).install()
    if as_json:
        say_json(_described(installed))
    else:
        say(f"installed: version {installed.version}")
        say("restart the gateway, which then loads it")
    return DONE


@app.command()
def status(openclaw: Program = None, as_json: Json = False) -> int:
    """Say whether it is installed, and whether the gateway that runs has loaded it."""
    from app.settings import load_settings

    settings = load_settings()
    installed = _installer(settings, openclaw).look()
    if installed is None:
        _say_not_there(as_json=as_json)
        return SOMETHING_STUCK
    if not as_json:
        how = "" if installed.enabled else ", but not enabled"
        say(f"installed: version {installed.version} in {installed.path}{how}")
    loaded, says = _loaded(settings)
    if as_json:
        say_json({**_described(installed), "gateway": {"loaded": loaded, "detail": says}})
    else:
        say(says)
    return DONE if loaded else SOMETHING_STUCK


@app.command()
def remove(openclaw: Program = None, as_json: Json = False) -> int:
    """Have OpenClaw take it away."""
    from app.settings import load_settings

    installer = _installer(load_settings(), openclaw)
    if installer.look() is None:
        _say_not_there(as_json=as_json)
        return DONE
    installer.remove()
    if as_json:
        say_json(_described(None))
    else:
        say("removed")
        say("restart the gateway, which has it until then")
    return DONE


def _installer(settings: Settings, program: str | None) -> PluginInstaller:
    from app.openclaw.plugin_install import PluginInstaller
    from app.reconcile.places import state_dirs

    states = state_dirs(settings, os.environ)
    if len(states) != 1:
        raise Failure("ambiguous", "CLAWMEND_STATE_DIR names several state dirs; name the one whose gateway is meant")
    return PluginInstaller(states[0], os.environ, program)


def _say_not_there(*, as_json: bool) -> None:
    if as_json:
        say_json(_described(None))
    else:
        say("not installed")


def _described(installed: Installed | None) -> dict[str, Any]:
    if installed is None:
        return {"installed": False, "version": None, "path": None, "enabled": None}
    return {
        "installed": True,
        "version": installed.version,
        "path": installed.path,
        "enabled": installed.enabled,
    }


def _loaded(settings: Settings) -> tuple[bool | None, str]:
    """Whether the gateway that runs now has it (None: that is not known), and a sentence."""
    from app.building import build_links
    from app.clock import SystemClock

    links = build_links(settings, SystemClock())
    if links is None:
        return False, "CLAWMEND_GATEWAY is off, so it is not used"
    links.start()
    try:
        links.wait_until_settled(LINK_PATIENCE)
        (state,) = links.states().values()
    finally:
        links.stop()
    if state.code != "up":
        return None, f"whether the gateway has loaded it is not known: {state.detail or state.code}"
    if state.plugin:
        return True, "the gateway has loaded it: it settles the rows from now on"
    return False, "the gateway that runs now has not loaded it: restart it"
