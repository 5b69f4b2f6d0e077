"""The documents say what the program does: every name in them is held against the code that it stands for."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from app.api.problem_pages import MEANINGS
from app.api.problems import PROBLEMS
from app.audit.models import Outcome
from app.cli import exits, root
from app.cli.failures import KINDS
from app.domain.caller import Scope
from app.domain.model import FORCEABLE, Code, End, Event, Evidence, FileIdentity, Gateway, Policy, Row, Trail
from app.domain.settlement import target_status
from app.domain.simulation import Change
from app.domain.verdict import judge
from app.settings import Settings
from tests.world import World

TOP = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([TOP / "README.md", *TOP.glob("docs/**/*.md"), *TOP.glob("deploy/*.md")])


def text(name: str) -> str:
    return (TOP / name).read_text(encoding="utf-8")


def table(name: str, first_cell: str) -> list[list[str]]:
    """The cells of every table in a document whose heading row begins with `first_cell`; code marks taken off."""
    rows: list[list[str]] = []
    inside = False
    for line in text(name).splitlines():
        cells = [c.strip() for c in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            inside = False
        elif cells[0] == first_cell:
            inside = True
        elif inside and not set(cells[0]) <= set("-"):
            rows.append([c.replace("`", "") for c in cells])
    assert rows, f"{name} has no table that begins with {first_cell!r}"
    return rows


# --- verdicts ---

NOW = 1_800_000_000_000
FILE = FileIdentity(1, 1, 1, (NOW - 7_200_000) * 1_000_000)
MINUTE = 60_000


def evidence(*, age: int, end: str | None = None, full: bool = False, **more: object) -> Evidence:
    """A running row whose last event is `age` ms old: an end that says `end`, or an open prompt."""
    at = NOW - age
    trail = Trail(
        "a.trajectory.jsonl",
        "a",
        FILE,
        (Event("session.ended" if end else "prompt.submitted", at),),
        End(at, end, session_id="a") if end else None,
        full=full,
    )
    row = Row("agent:main:main", "a", "running", started_at=at, updated_at=at)
    return Evidence(**{"row": row, "trails": (trail,), **more})  # type: ignore[arg-type]


EXAMPLES = {
    Code.SETTLED: Evidence(Row("agent:main:main", "a", "done")),
    Code.WORKING: evidence(age=4 * MINUTE),
    Code.ENDING: evidence(age=12_000, end="success"),
    Code.STUCK: evidence(age=3 * MINUTE, end="error"),
    Code.ORPHANED: evidence(age=4 * MINUTE, gateway=Gateway("absent")),
    Code.SILENT: evidence(age=120 * MINUTE),
    Code.NEVER_STARTED: evidence(age=20 * MINUTE, trails=()),
    Code.WAITING: evidence(age=4 * MINUTE, children=("agent:main:subagent:1", "agent:main:subagent:2")),
    Code.RECOVERING: Evidence(Row("agent:main:main", "a", "running", recovery=("abortedLastRun",))),
    Code.UNPROVABLE: evidence(age=4 * MINUTE, full=True),
}


def test_the_verdicts_page_has_every_code_with_a_sentence_that_is_really_said() -> None:
    rows = table("docs/reference/verdicts.md", "verdict")
    assert [row[0] for row in rows] == [str(c) for c in Code]
    said = {code: judge(example, Policy(), NOW) for code, example in EXAMPLES.items()}
    assert {code: v.code for code, v in said.items()} == {code: code for code in Code}
    assert {row[0]: row[2] for row in rows} == {str(code): v.reason for code, v in said.items()}


def test_the_verdicts_page_says_what_a_person_may_force() -> None:
    (sentence,) = re.findall(r"Of the ten, (.*?) can be forced", text("docs/reference/verdicts.md"), re.S)
    assert set(re.findall(r"`(\w+)`", sentence)) == {str(c) for c in FORCEABLE}


def sentence(node: ast.expr) -> str | None:
    """A literal string; a gap in it becomes `…`."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def literal_reasons() -> set[str]:
    """Every sentence in the code that makes a session unprovable."""
    found = set()
    for module in (
        "domain/verdict",
        "openclaw/trails",
        "openclaw/trajectory",
        "openclaw/sessions_database",
        "openclaw/database_trails",
    ):
        for call in calls(module):
            words = [said for argument in call.args if (said := sentence(argument))]
            unprovable = name_of(call.func) in ("_Lost", "broken") or (
                name_of(call.func) == "Verdict" and ast.unparse(call.args[0]) == "Code.UNPROVABLE"
            )
            found.update(words if unprovable else ())
            found.update(s for k in call.keywords if k.arg == "problem" and (s := sentence(k.value)))
            found.update(words if name_of(call.func) == "Trails" else ())
    for module in ("openclaw/sessions_json", "openclaw/sessions_database"):
        for function in ast.walk(ast.parse(text(f"app/{module}.py"))):
            if isinstance(function, ast.FunctionDef) and function.name == "_problem":
                returned = [n.value for n in ast.walk(function) if isinstance(n, ast.Return) and n.value]
                found.update(said for value in returned if (said := sentence(value)))
    return found


def test_the_verdicts_page_explains_every_reason_for_unprovable() -> None:
    explained = [re.escape(row[0]).replace("…", ".+") for row in table("docs/reference/verdicts.md", "sentence")]
    reasons = literal_reasons()
    assert len(reasons) > 10
    assert [r for r in reasons if not any(re.fullmatch(e, r) for e in explained)] == []


def test_the_verdicts_page_says_what_each_end_is_settled_to() -> None:
    ends = {
        "success": End(0, "success"),
        "a timeout, not an abort from outside": End(0, "error", aborted=True, timed_out=True),
        "an abort, or interrupted": End(0, "interrupted"),
        "error or cleanup, neither of the two above": End(0, "error"),
        "anything else": End(0, "paused"),
    }
    rows = {row[0]: row[1] for row in table("docs/reference/verdicts.md", "the end says")}
    assert rows == {end: target_status(value) or "not settled" for end, value in ends.items()}


# --- errors, outcomes, calls, commands ---


def calls(module: str) -> Iterator[ast.Call]:
    tree = ast.parse(text(f"app/{module}.py"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def store_codes() -> set[str]:
    """Every code that a store, a folder or a state dir can be given."""
    from app.openclaw import folder

    found = {code for code, _ in folder._WORDS.values()} | {folder.problem_of(OSError(5, "x")).code}
    looking = (
        "folder",
        "sessions_json",
        "database",
        "sessions_database",
        "agent_databases",
        "state_database",
        "claims",
        "era",
        "publish",
    )
    for module in (*(f"openclaw/{name}" for name in looking), "reconcile/places", "reconcile/scan", "reconcile/stores"):
        for call in calls(module):
            if name_of(call.func) in ("FileProblem", "StoreProblem", "Problem") and call.args:
                first = call.args[0]
                found.update([first.value] if isinstance(first, ast.Constant) else [])
    return found


def test_the_errors_page_has_every_problem_and_every_code_of_a_store() -> None:
    rows = table("docs/reference/errors.md", "code")
    answers = {row[0]: (int(row[1]), *row[2:]) for row in rows if row[1].isdigit()}
    plain = {code: [words.replace("`", "") for words in (t, MEANINGS[code], n)] for code, (_, t, n) in PROBLEMS.items()}
    assert answers == {code: (PROBLEMS[code][0], *words) for code, words in plain.items()}
    assert set(MEANINGS) == set(PROBLEMS)
    stores = [row[0] for row in rows if not row[1].isdigit()]
    assert sorted(stores) == sorted(store_codes())


def test_the_repair_page_explains_every_outcome_and_every_look() -> None:
    assert {row[0] for row in table("docs/explanation/repair.md", "outcome")} == {str(o) for o in Outcome}
    said: set[str] = set()
    modules = [ast.parse(text(f"app/reconcile/{name}.py")) for name in ("looks", "standing")]
    for node in (node for module in modules for node in ast.walk(module)):
        if isinstance(node, ast.FunctionDef) and node.name in ("what_stands", "_found"):
            said.update(w for n in ast.walk(node) if isinstance(n, ast.Return) and n.value for w in results(n.value))
        elif isinstance(node, ast.Call) and name_of(node.func) == "_note":
            said.update(results(node.args[1]))
    assert {row[0] for row in table("docs/explanation/repair.md", "found")} == said


def results(node: ast.expr) -> list[str]:
    """The words that an expression may be."""
    if isinstance(node, ast.IfExp):
        return results(node.body) + results(node.orelse)
    return [node.value] if isinstance(node, ast.Constant) else []


def test_the_api_page_has_a_heading_for_every_call_and_for_no_other(world: World) -> None:
    from app.api.app import create_app

    schema = create_app(world.reconciler(), None).openapi()
    served = {(m.upper(), path) for path, methods in schema["paths"].items() for m in methods if m != "head"}
    served.add(("GET", "/openapi.json"))
    written = set(re.findall(r"^### `([A-Z]+) (\S+)`$", text("docs/reference/api.md"), re.M))
    assert {(m, re.sub(r"{.*?}", "{}", p)) for m, p in written} == {(m, re.sub(r"{.*?}", "{}", p)) for m, p in served}


def test_the_api_page_says_which_scope_each_call_that_changes_something_needs() -> None:
    rows = {row[0]: row[1] for row in table("docs/reference/api.md", "scope")}
    assert list(rows) == [str(scope) for scope in Scope]
    changing = re.findall(r"^### `(POST \S+)`$", text("docs/reference/api.md"), re.M)
    assert [call for call in changing if not any(call in opens for opens in rows.values())] == []


def options_of(command: Any) -> set[str]:
    """The long options of a command, those of its subcommands among them."""
    named = (o for parameter in command.params for o in (*parameter.opts, *parameter.secondary_opts))
    own = {option for option in named if option.startswith("--")}
    return own.union(*(options_of(c) for c in getattr(command, "commands", {}).values()))


def test_the_cli_page_has_every_command_with_its_options_and_the_exit_codes() -> None:
    commands = get_command(root.app).commands  # type: ignore[attr-defined]
    rows = {row[0].split()[1]: row[1] for row in table("docs/reference/cli.md", "command")}
    assert set(rows) == set(commands)
    for name, command in commands.items():
        assert options_of(command) == set(re.findall(r"--[a-z-]+", rows[name])), name
        assert all(f"{name} {inner}" in rows[name] for inner in getattr(command, "commands", {})), name
    own = {row[0] for row in table("docs/reference/cli.md", "option of the command itself")}
    assert own == {o for parameter in get_command(root.app).params for o in parameter.opts if o.startswith("--")}
    codes = [int(row[0]) for row in table("docs/reference/cli.md", "code")]
    said = {value for name, value in vars(exits).items() if name.isupper()}
    assert codes == sorted(said)


def test_the_errors_page_has_every_error_of_the_command_with_its_exit_code() -> None:
    rows = {row[0]: (int(row[1]), row[2]) for row in table("docs/reference/errors.md", "error of the command")}
    assert rows == {code: (kind.exit_code, kind.title) for code, kind in KINDS.items()}


def test_the_page_on_other_policies_explains_every_change_and_names_the_setting_of_each_option() -> None:
    page = "docs/how-to/try-another-policy.md"
    said = {word.strip() for row in table(page, "change") for word in row[0].split(",")}
    assert said == {str(c) for c in Change}
    rows = {name.strip(): row[1] for row in table(page, "option") for name in row[0].split(",")}
    windows = options_of(get_command(root.app).commands["simulate"]) - {"--since", "--recordings", "--json"}  # type: ignore[attr-defined]
    assert set(rows) == windows
    assert set(rows.values()) <= {f"CLAWMEND_{name}".upper() for name in Settings.model_fields}


# --- the gateway ---


def link_codes() -> set[str]:
    """Every word that a link's state may be."""
    from app.openclaw.gateway_link import _CODES
    from app.reconcile.gateways import LinkState

    found = {LinkState().code, *_CODES.values()}
    wing = [f"openclaw/gateway_{part}" for part in ("access", "config", "link", "place", "tls")]
    for module in (*wing, "reconcile/gateways"):
        for call in calls(module):
            place = {"NoAccess": 0, "LinkFailed": 0, "_note": 0}.get(name_of(call.func))
            if place is not None and len(call.args) > place:
                found.update(results(call.args[place]))
        for node in ast.walk(ast.parse(text(f"app/{module}.py"))):
            if isinstance(node, ast.Assign) and name_of(node.targets[0]) == "code":
                found.update(w for v in ast.walk(node.value) if isinstance(v, ast.IfExp) for w in results(v))
    return found


def test_the_gateway_page_has_every_word_for_a_link_and_what_to_do() -> None:
    rows = table("docs/explanation/gateway.md", "link")
    assert sorted(row[0] for row in rows) == sorted(link_codes())
    assert all(row[1] and row[2] for row in rows)


def test_the_plugin_page_has_everything_that_the_plugin_says_and_what_becomes_of_it() -> None:
    from app.openclaw.plugin_install import FOLDER
    from app.reconcile.plugin_hand import _MOVED_ON

    source = (FOLDER / "index.js").read_text()
    said = set(re.findall(r'(?:{ reason:|decision.reason =) "([a-z-]+)"', source)) | set(
        re.findall(r'"(active-run|unknown-shape)"', source)
    )
    rows = {row[0]: row[2] for row in table("docs/how-to/plugin.md", "the plugin says")}
    assert rows == {word: "superseded" if word in _MOVED_ON else "refused" for word in said}


def test_the_gateway_page_has_every_answer_to_the_telling() -> None:
    made = [c for m in ("openclaw/gateway_calls", "reconcile/gateways") for c in calls(m) if name_of(c.func) == "Told"]
    assert {row[0] for row in table("docs/explanation/gateway.md", "told")} == {
        w for c in made for w in results(c.args[0])
    }


def test_the_api_page_shows_health_with_every_check(world: World) -> None:
    from app.api.health import health_checks
    from app.reconcile.service import Service

    (shown,) = re.findall(r"\$ curl -s \$B/health\n((?:    .*\n)+)", text("docs/reference/api.md"))
    checks = {name: set(check) for name, check in json.loads(shown)["checks"].items()}
    assert checks == {name: set(check) for name, check in health_checks(Service(world.reconciler())).items()}


# --- links ---


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(TOP)))
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (document.parent / file).resolve() if file else document
        assert target.exists(), link
        assert target.is_relative_to(TOP), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [TOP / "README.md"]
    while waiting:
        document = waiting.pop()
        if document in seen or document.suffix != ".md":
            continue
        seen.add(document)
        links = re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
        waiting += [(document.parent / link).resolve() for link in links if "://" not in link]
    assert [d for d in DOCUMENTS if d not in seen and "decisions" not in d.parts] == []
