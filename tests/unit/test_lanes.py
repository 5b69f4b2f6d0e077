"""Which sessions are settled side by side."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Literal

import pytest

from app.domain.model import Code, Evidence, Row, Verdict
from app.openclaw.paths import StoreTarget
from app.reconcile.hands import Hand
from app.reconcile.lanes import LARGE, lanes, side_by_side
from app.reconcile.report import Finding

PATIENCE = 30.0


def due(
    folder: Path, key: str, *, name: str = "sessions.json", hand: Literal["file", "plugin", "database"] = "file"
) -> Finding:
    target = StoreTarget(
        str(folder.parent), None, str(folder / name), str(folder), "database" if hand == "database" else "file"
    )
    return Finding(target, Evidence(Row(key)), Verdict(Code.STUCK, "a test says so"), Hand(hand))


def keys(found: list[list[Finding]]) -> list[list[str]]:
    return [[finding.key for finding in lane] for lane in found]


def test_sessions_of_one_folder_are_in_one_lane_in_their_order_and_the_lane_with_the_oldest_is_the_first(
    tmp_path: Path,
) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    found = lanes([due(b, "1"), due(a, "2"), due(b, "3"), due(c, "4"), due(a, "5")])
    assert keys(found) == [["1", "3"], ["2", "5"], ["4"]]


def test_two_stores_in_one_folder_do_not_run_into_each_other(tmp_path: Path) -> None:
    assert keys(lanes([due(tmp_path, "1"), due(tmp_path, "2", name="other.json")])) == [["1", "2"]]


def test_a_folder_that_has_two_names_is_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    assert keys(lanes([due(tmp_path / "a", "1"), due(tmp_path / "link", "2")])) == [["1", "2"]]


def test_what_the_plugin_or_the_hand_for_databases_writes_is_one_lane_in_its_order(tmp_path: Path) -> None:
    a, b, c, d = (tmp_path / name for name in "abcd")
    found = lanes([due(a, "1", hand="plugin"), due(b, "2"), due(c, "3", hand="database"), due(d, "4", hand="database")])
    assert keys(found) == [["1", "3", "4"], ["2"]]


def test_two_large_stores_are_never_in_memory_at_once(tmp_path: Path) -> None:
    for name, size in (("a", LARGE + 1), ("b", LARGE), ("c", LARGE + 1)):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "sessions.json").open("wb") as file:
            file.truncate(size)
    a, b, c, gone = (tmp_path / name for name in ("a", "b", "c", "gone"))
    assert keys(lanes([due(a, "1"), due(b, "2"), due(c, "3"), due(gone, "4")])) == [["1", "3"], ["2"], ["4"]]


def test_a_folder_in_which_two_hands_write_is_not_in_two_lanes(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    found = lanes([due(a, "1"), due(b, "2", hand="plugin"), due(a, "3", hand="plugin")])
    assert keys(found) == [["1", "2", "3"]]


def test_nothing_due_is_no_lane() -> None:
    assert lanes([]) == []
    assert side_by_side(lambda _: True, [], 8) is False


def lane(name: str) -> list[Finding]:
    return [due(Path("/nowhere"), name)]


def test_all_lanes_are_walked_at_once_as_far_as_that_is_allowed() -> None:
    together, most, now, lock = threading.Barrier(3), [0], [0], threading.Lock()

    def walk(_: list[Finding]) -> bool:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        together.wait(PATIENCE)  # so that three are needed, and the next three after them
        with lock:
            now[0] -= 1
        return False

    assert side_by_side(walk, [lane(str(n)) for n in range(6)], 3) is False
    assert most == [3]


@pytest.mark.parametrize("changed", [{"a"}, {"c"}, set()])
def test_it_says_whether_any_walk_has_changed_anything(changed: set[str]) -> None:
    assert side_by_side(lambda lane: lane[0].key in changed, [lane("a"), lane("b"), lane("c")], 8) is bool(changed)
    for name in ("a", "c"):
        assert side_by_side(lambda lane: lane[0].key in changed, [lane(name)], 8) is (name in changed)


def test_a_single_lane_is_walked_by_the_callers_own_thread() -> None:
    walked: list[int] = []
    side_by_side(lambda _: bool(walked.append(threading.get_ident())), [lane("a")], 8)
    assert walked == [threading.get_ident()]


def test_no_lane_keeps_the_process_from_ending() -> None:
    walked: list[bool] = []
    side_by_side(lambda _: bool(walked.append(threading.current_thread().daemon)), [lane("a"), lane("b")], 8)
    assert walked == [True, True]


def test_an_error_of_one_lane_is_raised_when_the_others_have_come_to_their_end() -> None:
    walked: list[str] = []

    def walk(lane: list[Finding]) -> bool:
        if lane[0].key == "a":
            raise RuntimeError("a fails")
        walked.append(lane[0].key)
        return True

    with pytest.raises(RuntimeError, match="a fails"):
        side_by_side(walk, [lane("a"), lane("b"), lane("c")], 1)
    assert walked == ["b", "c"]
