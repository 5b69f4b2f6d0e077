"""The command and its subcommands, as Typer reads them."""

from __future__ import annotations

import sys
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from app import __version__
from app.cli import audit, breaker, explain, plugin, repair, scan, serve, simulate, token, undo, webhooks
from app.cli.failures import Failure
from app.cli.run import PROGRAM, failed, guarded
from app.cli.watching import Watching


class _Guarded(TyperGroup):
    """Leaves no error of a command to Typer, which has exit codes of its own."""

    def invoke(self, ctx: Any) -> Any:
        return guarded(partial(super().invoke, ctx), as_json=ctx.obj, but=(typer.Exit, typer.TyperException))


app = typer.Typer(
    name=PROGRAM,
    cls=_Guarded,
    help="Proves which OpenClaw sessions are finished, and settles their rows.",
    rich_markup_mode=None,  # plain help: Rich would take longer to load than all of the rest
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("scan", cls=Watching)(scan.scan)
app.command("explain")(explain.explain)
app.command("repair")(repair.repair)
app.command("undo")(undo.undo)
app.command("audit", cls=Watching)(audit.audit)
app.command("simulate")(simulate.simulate)
app.add_typer(plugin.app, name="plugin")
app.add_typer(breaker.app, name="breaker")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(token.app, name="token")


def _version(asked: bool) -> None:
    if asked:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _clawmend(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version and exit.")
    ] = False,
) -> None:
    pass


def call(argv: list[str]) -> int:
    """Have Typer read `argv`, and call the command that it names; gives its exit code."""
    as_json = "--json" in argv
    try:
        code = get_command(app).main(argv or ["--help"], prog_name=PROGRAM, standalone_mode=False, obj=as_json)
        sys.stdout.flush()
    except typer.TyperException as error:
        return failed(_usage(error), as_json=as_json)
    except OSError as error:
        return failed(error, as_json=as_json)
    except SystemExit as end:  # Typer's own, of a help that nobody reads: 1 would say that something is stuck
        if not isinstance(end.__context__, OSError):
            raise
        return failed(end.__context__, as_json=as_json)
    return int(code or 0)


def _usage(error: typer.TyperException) -> Failure:
    """What is wrong with how the command was written, in one line."""
    said = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context else PROGRAM
    return Failure("usage", f"{said[:1].lower()}{said[1:]}; `{path} --help` tells more")
