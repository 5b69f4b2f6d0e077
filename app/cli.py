"""The command `clawmend`. Exit codes: 0 nothing is stuck (or done), 1 something is, 2 it could not be told."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from app import __version__

if TYPE_CHECKING:
    from app.audit.models import Attempt
    from app.reconcile.reconciler import Reconciler
    from app.reconcile.report import Finding, Report
    from app.reconcile.scan import Scanner
    from app.settings import Settings

_LINK_PATIENCE = 2.0
NOTHING_STUCK, SOMETHING_STUCK, COULD_NOT_TELL = 0, 1, 2


class _Cannot(Exception):
    """Ends the command with exit code 2 and one line."""


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    os.umask(0o077)  # whatever we write is nobody else's to read
    from app.settings import SettingsError, load_settings

    try:
        return int(arguments.run(arguments, load_settings()))
    except (SettingsError, _Cannot) as error:
        print(f"clawmend: {error}", file=sys.stderr)
        return COULD_NOT_TELL
    except BrokenPipeError:
        return COULD_NOT_TELL
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clawmend", description="Proves which OpenClaw sessions are finished, and settles their rows."
    )
    parser.add_argument("--version", action="version", version=f"clawmend {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    serve = command("serve", _serve, "run the service")
    serve.add_argument("--demo", action="store_true", help="on a demo state, made from recordings of a real gateway")
    serve.add_argument("--or-demo", action="store_true", help="on the demo state where no OpenClaw state is found")
    scan = command("scan", _scan, "look once at every session")
    scan.add_argument("--json", action="store_true", help="the whole report as JSON")
    explain = command("explain", _explain, "show the verdict on one session and its evidence")
    explain.add_argument("id", metavar="ID", help="a sessionId or a session key")
    repair = command("repair", _repair, "settle one session (only says what it would do, unless --apply)")
    repair.add_argument("id", metavar="ID", help="a sessionId or a session key")
    repair.add_argument("--apply", action="store_true", help="do it")
    repair.add_argument("--reason", default="asked on the command line", help="for the audit")
    repair.add_argument(
        "--force",
        metavar="STATUS",
        choices=("done", "failed", "timeout", "killed"),
        help="settle it to STATUS though it is not proven finished",
    )
    undo = command("undo", _undo, "give a row back as it was before a repair")
    undo.add_argument("id", metavar="ID", help="the id of the repair (see `clawmend audit`)")
    undo.add_argument("--reason", default="asked on the command line", help="for the audit")
    audit = command("audit", _audit, "list what was repaired, the newest first")
    audit.add_argument("--limit", type=int, default=20)
    audit.add_argument("--json", action="store_true")
    plugin = command("plugin", _plugin, "the companion plugin inside the gateway: put it there, look, take it away")
    plugin.add_argument("what", choices=("install", "status", "remove"))
    plugin.add_argument("--openclaw", metavar="PATH", help="the command `openclaw`, where it is not in PATH")
    return parser


def _serve(arguments: argparse.Namespace, settings: Settings) -> int:
    from app.demo import NotADemo, demo_settings, no_state_found
    from app.main import CannotStart, serve

    try:
        if arguments.demo or (arguments.or_demo and no_state_found(settings)):
            settings = demo_settings(settings)
        serve(settings)
    except (CannotStart, NotADemo) as error:
        raise _Cannot(str(error)) from None
    return NOTHING_STUCK


def _scan(arguments: argparse.Namespace, settings: Settings) -> int:
    from app.domain.model import Code

    report = _look(settings)
    if arguments.json:
        from app.api.views import describe_finding, describe_problems, describe_scan

        now = report.finished_at or 0
        found = [describe_finding(f, settings.policy, now) for f in report.findings()]
        _print_json({"sessions": found, "problems": describe_problems(report), "scan": describe_scan(report)})
    else:
        _print_report(report)
    if report.with_code(Code.STUCK):
        return SOMETHING_STUCK
    return COULD_NOT_TELL if report.problems() else NOTHING_STUCK


def _explain(arguments: argparse.Namespace, settings: Settings) -> int:
    from app.api.views import describe_finding
    from app.domain.model import Code

    report = _look(settings)
    finding = _only_one(report, arguments.id)
    print(f"{finding.key}\n  {finding.verdict.code}: {finding.verdict.reason}")
    _print_json(describe_finding(finding, settings.policy, report.finished_at or 0))
    return SOMETHING_STUCK if finding.verdict.code is Code.STUCK else NOTHING_STUCK


def _repair(arguments: argparse.Namespace, settings: Settings) -> int:
    from app.audit.log import AuditUnavailable
    from app.main import CannotStart, build_reconciler
    from app.openclaw.quiet import StoreBusy
    from app.reconcile.asking import Ask, NotStuck, StoreUnfit

    ask = Ask("cli", _user(), _reason(arguments), not arguments.apply, arguments.force is not None, arguments.force)
    try:
        with _linked(build_reconciler(settings)) as reconciler:
            finding = _only_one(_look(settings, reconciler.scanner), arguments.id)
            attempt = reconciler.repairer.settle(finding, ask)
    except NotStuck as error:
        print(f"clawmend: not settled: {error}", file=sys.stderr)
        return COULD_NOT_TELL
    except (StoreUnfit, StoreBusy, AuditUnavailable, CannotStart) as error:
        raise _Cannot(str(error)) from None
    if not arguments.apply:
        print(f"would settle {finding.key}: {_change(attempt)}\nnothing was written; --apply does it")
        return SOMETHING_STUCK
    print(f"{attempt.outcome}: {finding.key}: {_change(attempt)}\nto take it back: clawmend undo {attempt.id}")
    if attempt.outcome != "applied":
        raise _Cannot(f"{attempt.outcome}: {attempt.outcome_reason}")
    return NOTHING_STUCK


def _undo(arguments: argparse.Namespace, settings: Settings) -> int:
    from app.audit.log import AuditUnavailable
    from app.main import CannotStart, build_reconciler
    from app.openclaw.quiet import StoreBusy
    from app.reconcile.asking import Ask, CannotUndo, StoreUnfit

    try:
        with _linked(build_reconciler(settings)) as reconciler:
            repair = reconciler.audit.get(arguments.id)
            if repair is None:
                raise _Cannot(f"no repair has the id {arguments.id}; `clawmend audit` lists them")
            attempt = reconciler.repairer.undo(repair, Ask("cli", _user(), _reason(arguments)))
    except (CannotUndo, StoreUnfit, StoreBusy, AuditUnavailable, CannotStart) as error:
        raise _Cannot(str(error)) from None
    if attempt.outcome != "applied":
        raise _Cannot(f"{attempt.outcome}: {attempt.outcome_reason}")
    print(f"{attempt.session_key} is again as it was; the scheduler leaves it alone until its next turn")
    return NOTHING_STUCK


def _audit(arguments: argparse.Namespace, settings: Settings) -> int:
    from app.api.views import describe_attempt
    from app.audit.log import AuditUnavailable
    from app.main import CannotStart, build_reconciler

    try:
        found, _ = build_reconciler(settings).audit.page(max(1, arguments.limit))
    except (AuditUnavailable, CannotStart) as error:
        raise _Cannot(str(error)) from None
    if arguments.json:
        _print_json([describe_attempt(a) for a in found])
        return NOTHING_STUCK
    for attempt in found:
        when = describe_attempt(attempt)["opened_at"]
        print(f"{when}  {attempt.id}  {attempt.outcome or 'open':<11} {attempt.kind:<6} {attempt.trigger:<9}", end=" ")
        print(f"{attempt.hand:<8} {attempt.session_key}: {_change(attempt)}")
    if not found:
        print("nothing was repaired yet")
    return NOTHING_STUCK


def _plugin(arguments: argparse.Namespace, settings: Settings) -> int:
    from app.openclaw.plugin_install import PluginInstaller, PluginProblem
    from app.reconcile.scan import state_dirs

    states = state_dirs(settings, os.environ)
    if len(states) != 1:
        raise _Cannot("CLAWMEND_STATE_DIR names several state dirs; name the one whose gateway is meant")
    try:
        installer = PluginInstaller(states[0], os.environ, arguments.openclaw)
        if arguments.what == "install":
            print(f"installed: version {installer.install().version}\nrestart the gateway, which then loads it")
            return NOTHING_STUCK
        installed = installer.look()
        if arguments.what == "remove" and installed is not None:
            installer.remove()
            print("removed\nrestart the gateway, which has it until then")
            return NOTHING_STUCK
    except PluginProblem as error:
        raise _Cannot(str(error)) from None
    if installed is None:
        print("not installed")
        return NOTHING_STUCK if arguments.what == "remove" else SOMETHING_STUCK
    how = "" if installed.enabled else ", but not enabled"
    print(f"installed: version {installed.version} in {installed.path}{how}")
    loaded, says = _loaded(settings)
    print(says)
    return NOTHING_STUCK if loaded else SOMETHING_STUCK


def _loaded(settings: Settings) -> tuple[bool, str]:
    """Whether the gateway that runs now has the plugin, and a sentence."""
    from app.clock import SystemClock
    from app.main import build_links

    links = build_links(settings, SystemClock())
    if links is None:
        return False, "CLAWMEND_GATEWAY is off, so it is not used"
    links.start()
    try:
        links.wait_until_settled(_LINK_PATIENCE)
        (state,) = links.states().values()
    finally:
        links.stop()
    if state.code != "up":
        return False, f"whether the gateway has loaded it is not known: {state.detail or state.code}"
    if state.plugin:
        return True, "the gateway has loaded it: it settles the rows from now on"
    return False, "the gateway that runs now has not loaded it: restart it"


@contextmanager
def _linked(reconciler: Reconciler) -> Iterator[Reconciler]:
    """With the links to the gateways up, or known not to come up."""
    if reconciler.links is None:
        yield reconciler
        return
    reconciler.links.start()
    try:
        reconciler.links.wait_until_settled(_LINK_PATIENCE)
        yield reconciler
    finally:
        reconciler.links.stop()


def _look(settings: Settings, scanner: Scanner | None = None) -> Report:
    """One pass that only looks."""
    from app.clock import SystemClock
    from app.reconcile.report import Report
    from app.reconcile.scan import Scanner

    clock = SystemClock()
    began = clock.now()
    scanner = scanner or Scanner(settings, clock, os.environ)
    progress = _Progress()
    sight = scanner.scan(progress)
    progress.clear()
    return Report(1, began, clock.now(), tuple(sight.stores), tuple(sight.state_problems), scanner.bytes_read)


class _Progress:
    """Says on a terminal what a long scan is at."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._shown = False

    def __call__(self, target: Any) -> None:
        if sys.stderr.isatty() and time.monotonic() - self._began > 1.0:
            print(f"\r\033[Klooking at {target.path}", end="", file=sys.stderr, flush=True)
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr)


def _only_one(report: Report, name: str) -> Finding:
    found = report.find(name)
    if not found:
        raise _Cannot(f"no session has the id or key {name}")
    if len(found) > 1:
        raise _Cannot(
            f"{len(found)} sessions answer to {name}: {', '.join(f.key for f in found)}; "
            "give a key, or one CLAWMEND_STATE_DIR"
        )
    return found[0]


def _print_report(report: Report) -> None:
    from app.domain.model import Code

    running = [f for f in report.findings() if f.verdict.code is not Code.SETTLED]
    for finding in running:
        print(f"{finding.verdict.code:<13} {finding.key}\n              {finding.verdict.reason}")
    for path, problem in report.state_problems:
        print(f"{'cannot tell':<13} {path}\n              {problem.detail}")
    for store in report.stores:
        if store.problem:
            label = "cannot tell" if store.identity is None else "mind"
            print(f"{label:<13} {store.target.path}\n              {store.problem.detail}")
    stuck, total = len(report.with_code(Code.STUCK)), sum(1 for _ in report.findings())
    print(f"{total} sessions in {len(report.stores)} stores, {len(running)} running, {stuck} stuck")


def _change(attempt: Attempt) -> str:
    before, after = attempt.before, attempt.after
    changed = [f"{name} {before.get(name)} -> {after[name]}" for name in after if before.get(name) != after[name]]
    return ", ".join(changed) or "nothing changes"


def _reason(arguments: argparse.Namespace) -> str:
    """The reason as Unicode, whatever bytes the terminal sent."""
    return str(arguments.reason).encode("utf-8", "replace").decode("utf-8")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _print_json(value: object) -> None:
    import orjson

    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    sys.exit(main())
