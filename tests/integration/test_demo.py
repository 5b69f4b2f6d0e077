"""The demo: what somebody without OpenClaw sees first."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from app.audit.log import AuditLog
from app.demo import demo_settings, no_state_found
from app.domain.model import Code, Gateway
from app.openclaw.trajectory import parse_ts
from app.reconcile.reconciler import Reconciler
from app.settings import Settings
from tests.integration.served import FROM_CHECKOUT, environment, run, served
from tests.world import ABSENT, STUCK_KEY, UNKNOWN, World, finding_of, run_pass, tree_unchanged


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without OpenClaw."""
    for name in os.environ:
        if name.startswith(("CLAWMEND_", "OPENCLAW_", "XDG_")):
            monkeypatch.delenv(name)
    home = tmp_path / "newcomer"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


def own_folder(home: Path) -> Path:
    return home / ".local" / "state" / "clawmend" / "demo"


def settings() -> Settings:
    return Settings()


def on_the_demo(world: World, gateway: Gateway) -> Reconciler:
    """A Clawmend on a fresh demo, with the world's held clock; the demo is made for the moment it begins at."""
    found = demo_settings(settings())
    world.state = Path(found.state_dir[0])
    world.database_url = found.database_url
    audit = AuditLog(found.database_url)
    audit.migrate()
    made = Reconciler(found, world.clock, audit, world.env, lambda _: gateway)
    world._open.append(made)
    return made


@pytest.mark.parametrize("gateway", [ABSENT, UNKNOWN], ids=["absent", "unknown"])
def test_one_session_of_the_demo_is_really_stuck_and_is_settled_within_a_minute(
    home: Path, world: World, gateway: Gateway
) -> None:
    reconciler = on_the_demo(world, gateway)
    rows = world.rows()
    (last,) = world.trajectory().read_bytes().splitlines()[-1:]
    ended_at = parse_ts(json.loads(last)["ts"])
    seen = []
    for _ in range(12):
        seen.append(finding_of(run_pass(reconciler)).verdict.code)
        world.clock.advance(5)

    assert Code.STUCK in seen
    assert seen[-1] is Code.SETTLED
    assert (world.row()["status"], world.row()["endedAt"]) == ("failed", ended_at)
    assert reconciler.repaired_total == 1
    others = set(rows) - {STUCK_KEY}
    assert others
    assert {k: world.rows()[k] for k in others} == {k: rows[k] for k in others}


def test_the_line_that_the_demo_prints_shows_the_session_from_the_first_pass_on(
    home: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    reconciler = on_the_demo(world, ABSENT)
    (query,) = re.findall(r"/sessions/stuck(\S*)", capsys.readouterr().out)
    shown = {"stuck", *query.rpartition("=")[2].split(",")}
    assert finding_of(run_pass(reconciler)).verdict.code in shown


def test_the_demo_is_clearly_labelled(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo_settings(settings())
    said = capsys.readouterr().out
    assert "DEMO: no OpenClaw state is looked at" in said
    assert str(own_folder(home)) in said
    assert (own_folder(home) / "DEMO.txt").read_text().startswith("A DEMO")


def test_the_demo_promises_no_repair_where_nothing_is_settled_by_itself(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo_settings(settings())
    assert "it is settled about 30 s from now" in capsys.readouterr().out
    demo_settings(settings().model_copy(update={"auto_repair": False}))
    assert "it is settled when you ask for it" in capsys.readouterr().out


def test_the_demo_lies_in_a_folder_of_its_own_and_touches_no_real_state(home: Path) -> None:
    (home / ".openclaw").mkdir()
    (home / ".openclaw" / "openclaw.json").write_text("{}")
    own_folder(home).parent.mkdir(parents=True)
    (own_folder(home).parent / "audit.db").write_text("the real audit")
    with tree_unchanged(home / ".openclaw"):
        found = demo_settings(settings())
    assert {p for p in home.rglob("*") if p.is_file() and own_folder(home) not in p.parents} == {
        home / ".openclaw" / "openclaw.json",
        own_folder(home).parent / "audit.db",
    }
    assert found.state_dir == (str(own_folder(home) / "openclaw"),)
    assert found.database_url == f"sqlite:///{own_folder(home) / 'audit.db'}"


def test_the_demo_is_made_anew_at_every_start(home: Path, world: World) -> None:
    demo_settings(settings())
    world.state = own_folder(home) / "openclaw"
    world.store().write_text("{}")
    world.trajectory("left-over").write_text("")
    on_the_demo(world, ABSENT)
    assert world.row()["status"] == "running"
    assert not world.trajectory("left-over").exists()


@pytest.mark.parametrize("thing", ["openclaw/agents/main/sessions/sessions.json", "notes.txt"])
def test_a_folder_that_is_not_a_demo_is_refused_in_one_line_and_left_as_it_is(home: Path, thing: str) -> None:
    precious = own_folder(home) / thing
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    with tree_unchanged(home):
        done = run(*FROM_CHECKOUT, "serve", "--demo", env=environment(home, CLAWMEND_PORT="0"), cwd=home)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("clawmend: ")
    assert str(own_folder(home)) in line


def test_a_real_state_dir_is_used_where_there_is_one(home: Path) -> None:
    (home / ".openclaw").mkdir()
    with served(*FROM_CHECKOUT, "serve", "--or-demo", env=environment(home), cwd=home) as service:
        assert service.get("/health")["checks"]["stores"]["problems"] == {}
    assert f"looks at {home / '.openclaw'}\n" in service.said
    assert "DEMO" not in service.said
    assert not own_folder(home).exists()


@pytest.mark.parametrize(
    ("folders", "env", "given", "demo"),
    [
        ([], {}, (), True),
        ([".openclaw"], {}, (), False),
        ([".clawdbot"], {}, (), False),
        ([".openclaw-work"], {"OPENCLAW_PROFILE": "work"}, (), False),
        ([".openclaw"], {"OPENCLAW_STATE_DIR": "~/elsewhere"}, (), True),
        ([], {}, ("/nowhere/at/all",), False),
    ],
)
def test_the_demo_stands_in_only_where_openclaw_has_no_state_and_none_was_named(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    folders: list[str],
    env: dict[str, str],
    given: tuple[str, ...],
    demo: bool,
) -> None:
    for folder in folders:
        (home / folder).mkdir()
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert no_state_found(Settings(state_dir=given)) is demo
