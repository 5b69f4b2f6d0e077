"""The audit: its schema, its file, its order of events, and what it keeps the scheduler away from."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import RFC_4122, UUID

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, inspect, text

from app.audit import openings, replays, tokens, webhooks  # noqa: F401  (their tables are of the schema)
from app.audit.log import AuditLog, AuditUnavailable, make_engine, new_id
from app.audit.migrate import HEAD, migrate
from app.audit.models import METADATA
from app.openclaw import swap
from app.reconcile.asking import Ask, CannotUndo
from tests.world import STUCK_KEY, World, attempts, finding_of, run_for, run_pass, tree_unchanged

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "alembic"
PERSON = Ask("api", "a person", "a test")


def schema(engine: Engine) -> dict[str, Any]:
    """Every table but Alembic's own, as the database itself tells it."""
    looked = inspect(engine)
    return {
        table: {
            "columns": {
                c["name"]: (str(c["type"]), c["nullable"], c["primary_key"]) for c in looked.get_columns(table)
            },
            "indexes": {i["name"]: tuple(i["column_names"]) for i in looked.get_indexes(table)},
            "key": looked.get_pk_constraint(table)["constrained_columns"],
        }
        for table in looked.get_table_names()
        if table != "alembic_version"
    }


def test_the_migrations_lead_up_and_down_to_nothing_and_up_again(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'audit.db'}")
    assert schema(engine) == {}
    migrate(engine)
    up = schema(engine)
    assert set(up) == set(METADATA.tables)
    migrate(engine, "base")
    assert schema(engine) == {}
    migrate(engine)
    migrate(engine)
    assert schema(engine) == up
    engine.dispose()


def test_a_database_of_the_first_version_keeps_its_rows_on_the_way_up_and_down(world: World) -> None:
    world.stuck()
    reconciler = world.reconciler()
    (finding,) = run_pass(reconciler).find(STUCK_KEY)
    reconciler.repairer.settle(finding, PERSON)
    engine = make_engine(world.database_url)

    def row() -> dict[str, Any]:
        with engine.connect() as connection:
            return dict(connection.execute(text("select * from repair_attempts")).mappings().one())

    newest = row()
    migrate(engine, "0001")
    assert row() == {name: value for name, value in newest.items() if name not in ("told", "hand", "published_with")}
    migrate(engine)
    assert row() == newest
    assert (newest["told"], newest["hand"]) == (None, "file")
    engine.dispose()
    reconciler.audit.change(newest["id"], told={"at": None, "answer": "not_told", "why": None})
    (attempt,) = reconciler.audit.page(5)[0]
    assert attempt.told == {"at": None, "answer": "not_told", "why": None}


def test_the_migrated_schema_is_the_one_that_the_models_say(tmp_path: Path) -> None:
    migrated = make_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    migrate(migrated)
    modelled = make_engine(f"sqlite:///{tmp_path / 'modelled.db'}")
    METADATA.create_all(modelled)
    assert schema(migrated) == schema(modelled)
    reflected = MetaData()
    reflected.reflect(migrated)
    assert set(reflected.tables) == {*METADATA.tables, "alembic_version"}
    migrated.dispose()
    modelled.dispose()


def test_head_is_the_newest_script() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_a_database_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'audit.db'}")
    migrate(engine)
    with sqlite3.connect(tmp_path / "audit.db") as other:
        other.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(RuntimeError, match="newer"):
        migrate(engine)
    assert set(schema(engine)) == set(METADATA.tables)
    engine.dispose()


def test_who_stays_has_it_migrated_by_a_process_that_ends_and_loads_nothing_for_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'audit.db'}"
    stays = "import sys; from app.audit.log import AuditLog; AuditLog(sys.argv[1]).migrate(apart=True)"
    said = f"{stays}; print('alembic' in sys.modules)"
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run([sys.executable, "-c", said, url], capture_output=True, text=True, check=True, env=here)
    assert shown.stdout == "False\n"
    engine = make_engine(url)
    assert set(schema(engine)) == set(METADATA.tables)
    engine.dispose()


def test_what_the_process_that_migrates_says_is_said(tmp_path: Path) -> None:
    log = AuditLog(f"sqlite:///{tmp_path / 'audit.db'}")
    log.migrate()
    with sqlite3.connect(tmp_path / "audit.db") as other:
        other.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(RuntimeError, match="of a newer Clawmend"):
        log.migrate(apart=True)
    log.dispose()


def test_the_file_is_for_its_owner_only_and_so_is_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "own" / "audit.db"
    log = AuditLog(f"sqlite:///{path}")
    log.migrate()
    assert {stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    log.dispose()


def test_every_commit_is_on_disk_before_it_is_said_to_be(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'audit.db'}")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2, "FULL"
    engine.dispose()


@pytest.mark.parametrize("now", [0, 1, 1_795_327_558_006, (1 << 48) - 1])
def test_an_id_is_a_uuid_of_version_7_that_carries_its_time(now: int) -> None:
    made = UUID(new_id(now))
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == now
    assert str(made) == str(UUID(new_id(now)))[:15] + str(made)[15:], "the canonical form"


def test_ids_sort_as_their_times_do() -> None:
    times = [0, 1, 255, 256, 65_535, 65_536, 1_795_327_558_006, 1_795_327_558_007, (1 << 48) - 1]
    ids = [new_id(t) for t in times]
    assert sorted(ids) == ids


def test_intent_and_plan_are_committed_before_the_store_is_touched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stuck()
    before = world.store().read_bytes()
    reconciler = world.reconciler()
    seen: list[Any] = []
    real = swap.exchange

    def exchange(*args: Any) -> None:
        with sqlite3.connect(f"file:{world.folder}/own/audit.db?mode=ro", uri=True) as other:
            seen.extend(other.execute("SELECT outcome, session_key, new_sha256 IS NULL, edit FROM repair_attempts"))
        assert world.store().read_bytes() == before
        real(*args)

    monkeypatch.setattr(swap, "exchange", exchange)
    run_for(reconciler, world.clock, 120, step=30)
    ((outcome, key, no_plan, edit),) = seen
    assert (outcome, key, no_plan) == (None, STUCK_KEY, 0)
    assert '"before": "\\"running\\""' in edit


def _file_gone(world: World) -> None:
    for file in (world.folder / "own").iterdir():
        file.unlink()


def _file_is_noise(world: World) -> None:
    for file in (world.folder / "own").iterdir():
        file.write_bytes(b"noise" * 2_000)


def _table_gone(world: World) -> None:
    with sqlite3.connect(world.folder / "own" / "audit.db") as other:
        other.execute("DROP TABLE repair_attempts")


@pytest.mark.parametrize("break_it", [_file_gone, _file_is_noise, _table_gone])
def test_without_the_audit_nothing_is_repaired(world: World, break_it: Any) -> None:
    world.stuck()
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 110, step=55)
    break_it(world)
    with tree_unchanged(world.state):
        report = run_for(reconciler, world.clock, 60, step=20)
        with pytest.raises(AuditUnavailable):
            reconciler.repairer.settle(finding_of(report), PERSON)
    assert reconciler.audit_problem is not None


def test_the_row_that_is_written_down_as_before_is_the_one_that_was_replaced(world: World) -> None:
    world.stuck()
    reconciler = world.reconciler()
    report = run_for(reconciler, world.clock, 60, step=30)
    world.write_store(world.store().read_bytes(), written_ago=0)
    real_sleep = world.clock.sleep

    def sleep(seconds: float) -> None:
        if "abortedLastRun" in world.row():  # the gateway writes while the repair waits for a quiet store
            world.edit_row(abortedLastRun=None)
        real_sleep(seconds)

    world.clock.sleep = sleep  # type: ignore[method-assign]
    forced = replace(PERSON, force=True, target_status="failed")
    attempt = reconciler.repairer.settle(finding_of(report), forced)
    assert attempt.outcome == "applied"
    assert attempt.before == {"status": "running", "endedAt": None, "runtimeMs": None, "abortedLastRun": None}


def undone(world: World) -> tuple[Any, Any]:
    world.stuck()
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 200, step=20)
    (repair,) = attempts(reconciler)
    undo = reconciler.repairer.undo(repair, PERSON)
    assert finding_of(run_pass(reconciler)).held_by == undo.id
    return reconciler, undo


@pytest.mark.parametrize("field", ["sessionId", "startedAt"])
def test_a_hold_ends_with_the_turn_that_it_is_for(world: World, field: str) -> None:
    reconciler, undo = undone(world)
    old = world.row()[field]
    world.edit_row(**{field: old + 1 if field == "startedAt" else "another-session"})
    if field == "startedAt":
        assert finding_of(run_pass(reconciler)).held_by is None
    assert reconciler.audit.hold(undo.store_path, STUCK_KEY, world.row()["sessionId"], world.row()["startedAt"]) is None
    world.edit_row(**{field: old})
    assert finding_of(run_pass(reconciler)).held_by == undo.id, "the same turn again"


def test_a_hold_ends_when_a_person_repairs_the_row(world: World) -> None:
    reconciler, undo = undone(world)
    world.clock.advance(1)
    reconciler.repairer.settle(finding_of(reconciler.report), PERSON)
    assert reconciler.audit.hold(undo.store_path, STUCK_KEY, undo.session_id, undo.started_at) is None


def test_a_hold_outlives_a_restart(world: World) -> None:
    _, undo = undone(world)
    assert finding_of(run_for(world.reconciler(), world.clock, 300, step=60)).held_by == undo.id


def test_an_undo_holds_though_the_wall_clock_was_set_back_since_the_repair(world: World) -> None:
    world.stuck(ended_ago=7_200)
    reconciler = world.reconciler()
    run_for(reconciler, world.clock, 200, step=20)
    (repair,) = attempts(reconciler)
    world.clock.jump(-3_600)
    undo = reconciler.repairer.undo(repair, PERSON)
    report = run_for(reconciler, world.clock, 400, step=50)
    assert finding_of(report).held_by == undo.id
    assert world.row()["status"] == "running"
    with pytest.raises(CannotUndo):
        reconciler.repairer.undo(repair, PERSON)
