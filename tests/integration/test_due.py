"""Which sessions a pass settles now: the ripe ones, the oldest first, of stores that rest."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from app.openclaw.folder import Folder
from app.reconcile.due import Due
from app.reconcile.file_hand import FileHand
from app.reconcile.hands import FILE, Hand
from app.reconcile.put_off import PutOff
from app.reconcile.report import Finding, Report
from tests.world import STUCK_KEY, STUCK_SESSION_ID, World, run_for

PATIENCE = 10.0


class Bench:
    """Two stuck sessions in two stores, found ripe; the older one is `agent:work:older`."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.stuck(ended_ago=600)
        row = world.row()
        older, older_id = "agent:work:older", "older"
        moved = {**row, "sessionId": older_id, "startedAt": row["startedAt"] - 60_000}
        moved["sessionFile"] = str(world.sessions("work") / f"{older_id}.jsonl")
        world.write_store(json.dumps({older: moved}).encode(), "work")
        told = world.trajectory().read_text()
        told = told.replace(STUCK_SESSION_ID, older_id).replace(STUCK_KEY, older)
        world.trajectory(older_id, "work").write_text(told)
        reconciler = world.reconciler(auto_repair=False, store_patience_seconds=PATIENCE)
        self.report: Report = run_for(reconciler, world.clock, 125)
        self.file_hand = FileHand(reconciler.settings, world.clock, reconciler.audit)
        self.put_off = PutOff(world.clock)
        self.due = Due(reconciler.settings, world.clock, self.file_hand, self.put_off)

    def keys(self) -> list[str]:
        return [finding.key for finding in self.due.of(self.report)]

    def change(self, key: str, **fields: object) -> None:
        """Find something else of the session `key`."""

        def changed(finding: Finding) -> Finding:
            return replace(finding, **fields) if finding.key == key else finding  # type: ignore[arg-type]

        stores = (replace(s, open=tuple(map(changed, s.open))) for s in self.report.stores)
        self.report = replace(self.report, stores=tuple(stores))

    def gateway_writes(self, agent: str) -> None:
        self.world.write_store(self.world.store(agent).read_bytes(), agent, written_ago=0)


@pytest.fixture
def bench(world: World) -> Bench:
    return Bench(world)


@pytest.fixture
def older(bench: Bench) -> str:
    """The older of the two, which comes first by the time of its end."""
    (finding,) = bench.report.find("older")
    settlement = finding.verdict.settlement
    assert settlement is not None
    verdict = replace(finding.verdict, settlement=replace(settlement, ended_at=settlement.ended_at - 60_000))
    bench.change(finding.key, verdict=verdict)
    return finding.key


def test_the_ripe_ones_come_the_oldest_first(bench: Bench, older: str) -> None:
    assert bench.keys() == [older, STUCK_KEY]


def test_one_whose_window_has_not_passed_is_not_due(bench: Bench, older: str) -> None:
    (finding,) = bench.report.find(older)
    bench.change(older, verdict=replace(finding.verdict, ripe=False))
    assert bench.keys() == [STUCK_KEY]


@pytest.mark.parametrize("kept_away", [{"held_by": "an undo"}, {"hand": Hand(None, "nobody can write to it")}])
def test_one_that_is_held_or_that_nobody_can_write_to_is_not_due(
    bench: Bench, older: str, kept_away: dict[str, object]
) -> None:
    bench.change(older, **kept_away)
    assert bench.keys() == [STUCK_KEY]


def test_one_that_is_put_off_is_not_due_until_its_time(bench: Bench, older: str) -> None:
    (finding,) = bench.report.find(older)
    bench.put_off.add(finding.name)
    assert bench.keys() == [STUCK_KEY]
    bench.world.clock.advance(30)
    assert bench.keys() == [older, STUCK_KEY]


def test_a_store_that_was_just_written_is_waited_for_and_the_others_are_not(bench: Bench, older: str) -> None:
    bench.gateway_writes("work")
    assert bench.keys() == [STUCK_KEY]
    bench.world.clock.advance(1)
    assert bench.keys() == [older, STUCK_KEY]


def test_a_store_that_never_rests_is_tried_all_the_same_once_we_have_waited_long_enough(
    bench: Bench, older: str
) -> None:
    for waited in (0, 5, 4.9):
        bench.world.clock.advance(waited)
        bench.gateway_writes("work")
        assert bench.keys() == [STUCK_KEY]
    bench.world.clock.advance(0.1)
    bench.gateway_writes("work")
    assert bench.keys() == [older, STUCK_KEY]
    bench.gateway_writes("work")
    assert bench.keys() == [STUCK_KEY], "it was tried: the waiting begins anew"


def test_all_sessions_of_a_store_that_does_not_rest_wait_with_the_first(bench: Bench, older: str) -> None:
    (finding,) = bench.report.find(STUCK_KEY)
    (first,) = bench.report.find(older)
    bench.change(STUCK_KEY, target=first.target, hand=FILE, verdict=finding.verdict)
    bench.gateway_writes("work")
    assert bench.keys() == []


def test_a_store_that_does_not_rest_keeps_no_other_waiting_however_many_sessions_it_has(
    bench: Bench, older: str
) -> None:
    (first,) = bench.report.find(older)
    work, main = (next(s for s in bench.report.stores if f"/{name}/" in s.target.path) for name in ("work", "main"))
    again = replace(first, evidence=replace(first.evidence, row=replace(first.evidence.row, key="agent:work:twin")))
    bench.report = replace(bench.report, stores=(replace(work, open=(first, again)), main))
    bench.gateway_writes("work")
    assert bench.keys() == [STUCK_KEY]


def test_our_own_write_is_no_reason_to_wait(bench: Bench, older: str) -> None:
    bench.gateway_writes("work")
    (finding,) = bench.report.find(older)
    with Folder(finding.target.folder, finding.target.root) as folder:
        identity = folder.identity(finding.target.name)
    assert identity is not None
    bench.file_hand.left[finding.target.path] = identity
    assert bench.keys() == [older, STUCK_KEY]


@pytest.mark.parametrize("hand", [Hand("plugin"), Hand("database")])
def test_where_another_hand_writes_the_file_need_not_rest(bench: Bench, older: str, hand: Hand) -> None:
    bench.gateway_writes("work")
    bench.change(older, hand=hand)
    assert bench.keys() == [older, STUCK_KEY]


def test_a_folder_that_is_now_a_link_out_of_the_tree_is_not_due(bench: Bench, older: str) -> None:
    elsewhere = bench.world.folder / "elsewhere"
    bench.world.sessions("work").rename(elsewhere)
    bench.world.sessions("work").symlink_to(elsewhere)
    assert bench.keys() == [STUCK_KEY]
    assert older == "agent:work:older"


def test_a_store_that_is_gone_is_not_due_and_ends_nothing(bench: Bench, older: str) -> None:
    bench.world.store("work").unlink()
    assert bench.keys() == [STUCK_KEY]
    bench.world.sessions("work").joinpath("older.trajectory.jsonl").unlink()
    bench.world.sessions("work").rmdir()
    assert bench.keys() == [STUCK_KEY]
    assert older == "agent:work:older"
