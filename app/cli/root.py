"""The command and its subcommands: how it is called, what an error becomes, and the exit code."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from app import __version__
from app.cli import audit, breaker, explain, plugin, repair, scan, serve, simulate, token, undo, webhooks
from app.cli.exits import COULD_NOT_TELL
from app.cli.failures import KINDS, Failure, failure_of, is_of_our_output, problem
from app.cli.screen import make_room, say_at_once, say_json, warn
from app.cli.watching import Watching

PROGRAM = "clawmend"


class _Guarded(TyperGroup):
    """Leaves no error of a command to Typer, which has exit codes of its own."""

    def invoke(self, ctx: Any) -> Any:
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except (typer.Exit, typer.TyperException):
            raise
        except Exception as error:  # noqa: BLE001  (the last place where it can become one line and an exit code)
            if os.environ.get("CLAWMEND_LOG_LEVEL", "").lower() == "debug":
                traceback.print_exc()
            return _failed(error, as_json=ctx.obj)
        return code


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


def run(argv: list[str]) -> int:
    """Run the command that `argv` names; gives its exit code. It is asked for help where it names none."""
    os.umask(0o077)  # whatever we write is nobody else's to read
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8
    as_json = "--json" in argv
    if _takes_a_while(argv):
        say_at_once()
    try:
        code = get_command(app).main(argv or ["--help"], prog_name=PROGRAM, standalone_mode=False, obj=as_json)
        sys.stdout.flush()
    except typer.TyperException as error:
        return _failed(_usage(error), as_json=as_json)
    except OSError as error:
        return _failed(error, as_json=as_json)
    except SystemExit as end:  # Typer's own, of a help that nobody reads: 1 would say that something is stuck
        if not isinstance(end.__context__, OSError):
            raise
        return _failed(end.__context__, as_json=as_json)
    finally:
        make_room()
    return int(code or 0) if argv else COULD_NOT_TELL


def _takes_a_while(argv: list[str]) -> bool:
    """Whether a command is named whose first words come late: Typer loads pydantic for its options already."""
    quick = {"serve", "-h", "--help", "--version"}
    return bool(argv) and not quick & set(argv) and f"_{PROGRAM.upper()}_COMPLETE" not in os.environ


def _failed(error: Exception, *, as_json: bool) -> int:
    failure = failure_of(error)
    if is_of_our_output(error):
        _write_no_more()
    elif as_json:
        say_json(problem(failure))
    if not isinstance(error, BrokenPipeError):  # who has gone away need not be told
        warn(failure.detail)
    return KINDS[failure.code].exit_code


def _usage(error: typer.TyperException) -> Failure:
    """What is wrong with how the command was written, in one line."""
    said = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context else PROGRAM
    return Failure("usage", f"{said[:1].lower()}{said[1:]}; `{path} --help` tells more")


def _write_no_more() -> None:
    """What is still to be written would fail again, at the latest when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
