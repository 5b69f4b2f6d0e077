"""Every step of the repair, a Clawmend without it, and the test that catches that Clawmend.

A step is taken out by changing the text of a module: what is tested is the program as it would be without the step.
"""

from __future__ import annotations

from dataclasses import dataclass

PUBLISH = "app/openclaw/publish.py"
STEPPING_BACK = "app/openclaw/stepping_back.py"
SWAP = "app/openclaw/swap.py"
FILE_HAND = "app/reconcile/file_hand.py"
CROSSINGS = "tests/integration/test_crossings.py::"


@dataclass(frozen=True, slots=True)
class Ablation:
    """The step, the module, the text that is taken out, what stands in its place, and the test that must fail."""

    step: str
    module: str
    text: str
    instead: str
    caught_by: str


ABLATIONS = (
    Ablation(
        "intent first",
        FILE_HAND,
        "        self._audit.open(attempt)\n        if better is",
        "        if better is",
        "tests/integration/test_audit.py::test_intent_and_plan_are_committed_before_the_store_is_touched",
    ),
    Ablation(
        "plan before the write",
        "app/reconcile/attempts.py",
        "        base_sha256=hashlib.sha256(plan.base).hexdigest(),\n",
        "",
        "tests/integration/test_recovery.py"
        "::test_killed_after_the_exchange_the_new_store_stands_and_the_attempt_is_applied",
    ),
    Ablation(
        "judge again",
        "app/reconcile/repair.py",
        "again = self._scanner().judge_row(finding.target, last.rows(base.data), finding.key)",
        "again = now_found",
        "tests/integration/test_hazards_store.py::test_hazard_24_a_turn_that_begins_between_our_read_and_our_write",
    ),
    Ablation(
        "judge again, each of those that are published together",
        "app/reconcile/together.py",
        "found_again, fields = agree(again, finding, ask)",
        "found_again, fields = agree(finding, finding, ask)",
        "tests/integration/test_together.py"
        "::test_one_whose_turn_went_on_since_the_pass_is_left_out_and_the_others_are_settled",
    ),
    Ablation(
        "find out about all that share a file before it is taken away",
        "app/reconcile/looks.py",
        "found.setdefault(attempt.files_named, [])",
        "found.setdefault(attempt.id, [])",
        "tests/integration/test_together.py"
        "::test_killed_at_any_step_the_next_start_says_of_each_of_them_what_the_disk_says",
    ),
    Ablation(
        "one Clawmend at a time",
        "app/openclaw/quiet.py",
        "            fcntl.flock(folder.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "",
        "tests/integration/test_publish_access.py::test_only_one_process_writes_below_a_folder_and_a_killed_one_lets_go",
    ),
    Ablation(
        "wait for a quiet store",
        "app/openclaw/quiet.py",
        "return rested and not _gateway_is_writing(folder, now)",
        "return True",
        "tests/integration/test_hazards_store.py"
        "::test_hazard_24_a_store_of_which_a_new_version_is_being_written_is_waited_for",
    ),
    Ablation(
        "fsync the file",
        PUBLISH,
        "            os.fsync(fd)\n        except OSError as error:\n            swap.unlink",
        "        except OSError as error:\n            swap.unlink",
        CROSSINGS + "test_the_folder_is_synced_before_a_displaced_version_is_taken_away",
    ),
    Ablation(
        "hold ours shut",
        "app/openclaw/lease.py",
        "        fcntl.fcntl(fd, _SET_LEASE, fcntl.F_WRLCK)\n",
        "",
        CROSSINGS + "test_who_opens_ours_in_a_crossing_reads_what_the_gateway_wrote_in_its_place",
    ),
    Ablation(
        "a signal that nobody dies of",
        "app/openclaw/lease.py",
        "        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)\n",
        "",
        CROSSINGS + "test_who_opens_ours_before_it_is_verified_waits_and_then_reads_ours",
    ),
    Ablation(
        "check before the exchange",
        PUBLISH,
        "    if folder.identity(name) != change.base.identity:\n        raise StoreChanged\n    try:\n        if held:",
        "    try:\n        if held:",
        "tests/integration/test_publish.py::test_a_store_that_changed_since_it_was_read_is_not_touched",
    ),
    Ablation(
        "exchange",
        PUBLISH,
        "            swap.exchange(folder, temp, name)\n            return",
        "            os.rename(temp, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)\n            return",
        "tests/integration/test_publish.py::test_a_deleted_store_is_never_brought_back",
    ),
    Ablation(
        "compare the displaced",
        PUBLISH,
        "if not _is_the_one_read(folder, temp, change.base):",
        "if False:",
        CROSSINGS + "test_a_write_between_the_check_and_the_exchange_is_live_again_to_the_byte",
    ),
    Ablation(
        "put the gateway's version back",
        STEPPING_BACK,
        "            kept, second_names = _put_back(folder, name, temp, shut, stack)\n",
        "            kept, second_names = [], []\n",
        CROSSINGS + "test_a_write_between_the_check_and_the_exchange_is_live_again_to_the_byte",
    ),
    Ablation(
        "only where ours is still live",
        STEPPING_BACK,
        "    while _lies(folder, name) == placed:",
        "    while True:",
        CROSSINGS + "test_a_newer_gateway_version_is_not_taken_out_of_its_place_for_an_instant",
    ),
    Ablation(
        "hold shut what is put back",
        STEPPING_BACK,
        "        held = _hold_shut_too(folder, temp, stack) if read is None else None\n",
        "        held = None\n",
        CROSSINGS + "test_who_opens_an_older_gateway_version_in_the_put_back_reads_the_newest",
    ),
    Ablation(
        "give the reader the gateway's version",
        STEPPING_BACK,
        "lease.say_instead(fd, newest)",
        "pass",
        CROSSINGS + "test_who_opens_ours_in_a_crossing_reads_what_the_gateway_wrote_in_its_place",
    ),
    Ablation(
        "fsync what is put back",
        STEPPING_BACK,
        "            swap.sync(folder, name)  # no power",
        "            # no power",
        CROSSINGS + "test_the_put_back_is_on_disk_before_ours_is_written_over",
    ),
    Ablation(
        "gone for good before the next try",
        SWAP,
        "        os.unlink(name, dir_fd=folder.fd)\n        os.fsync(folder.fd)\n",
        "        os.unlink(name, dir_fd=folder.fd)\n",
        CROSSINGS + "test_a_try_that_came_to_nothing_is_gone_for_good_before_the_next_one",
    ),
    Ablation(
        "quarantine: keep what is not known to live on",
        STEPPING_BACK,
        "    if kept:\n",
        "    if False:\n",
        CROSSINGS + "test_a_third_write_that_may_have_been_built_on_the_first_costs_no_version",
    ),
    Ablation(
        "quarantine: keep what is newer than a version that may have been read",
        STEPPING_BACK,
        "            newer += second_names[-1:] if read is not None else []\n",
        "",
        CROSSINGS + "test_a_write_that_was_built_on_the_first_and_comes_when_all_is_put_back_costs_no_version",
    ),
    Ablation(
        "quarantine: a second name for what crossed",
        STEPPING_BACK,
        "            os.link(temp, second_names[-1], ",
        "            _ = dict(",
        CROSSINGS + "test_killed_in_a_crossing_what_crossed_outlasts_what_a_reader_of_ours_writes",
    ),
    Ablation(
        "quarantine: keep it after a kill",
        "app/reconcile/leftovers.py",
        "            kept[ours] = digest\n",
        "            past.append(ours)\n",
        "tests/integration/test_recovery.py::test_a_gateway_that_wrote_on_ours_after_the_kill_keeps_its_write",
    ),
    Ablation(
        "quarantine: know what was taken back by its name",
        STEPPING_BACK,
        "            past = _named_as_past(folder, temp, shut)\n",
        "            past = temp\n",
        "tests/integration/test_recovery.py"
        "::test_killed_when_ours_says_what_the_gateway_wrote_nothing_is_left_for_a_person",
    ),
    Ablation(
        "fsync the folder",
        PUBLISH,
        "    try:\n        os.fsync(folder.fd)\n",
        "    try:\n",
        CROSSINGS + "test_the_folder_is_synced_before_a_displaced_version_is_taken_away",
    ),
    Ablation(
        "touch the store",
        PUBLISH,
        "        os.utime(ours, ns=(st.st_atime_ns, st.st_mtime_ns + 1_000_000))",
        "        pass",
        "tests/integration/test_publish.py"
        "::test_the_new_version_takes_the_place_of_the_old_one_and_leaves_nothing_behind",
    ),
    Ablation(
        "take the displaced away",
        PUBLISH,
        "        _make_durable(folder, ours)\n    swap.unlink(folder, temp)\n",
        "        _make_durable(folder, ours)\n",
        "tests/integration/test_publish.py"
        "::test_the_new_version_takes_the_place_of_the_old_one_and_leaves_nothing_behind",
    ),
    Ablation(
        "later looks",
        "app/reconcile/looks.py",
        "        for attempt in self._audit.to_look_at():\n",
        "        for attempt in ():\n",
        "tests/integration/test_looks.py"
        "::test_a_repair_that_a_stale_gateway_write_put_back_is_overwritten_and_repeated_at_once",
    ),
    Ablation(
        "write down what is found before it is taken away",
        "app/reconcile/looks.py",
        "                    self._resolve(attempt, outcome, why)  #",
        "                    take_away(folder, left)\n                    self._resolve(attempt, outcome, why)  #",
        "tests/integration/test_recovery.py"
        "::test_an_outcome_that_cannot_be_written_down_is_found_out_again_by_the_next_start",
    ),
    Ablation(
        "resolve from the disk after a crash",
        "app/reconcile/looks.py",
        "_together(self._audit.left_open())",
        "_together([])",
        "tests/integration/test_recovery.py"
        "::test_killed_after_the_exchange_the_new_store_stands_and_the_attempt_is_applied",
    ),
)
