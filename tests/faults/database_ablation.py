"""The same for a write to a database (tests.faults.ablation): every step, a Clawmend without it, and who catches it."""

from __future__ import annotations

from tests.faults.ablation import Ablation

WRITE = "app/openclaw/database_write.py"
HAND = "app/reconcile/database_hand.py"
WRITING = "tests/integration/test_database_write.py::"
DECIDING = "tests/integration/test_database_hand.py::"
WHOLE = WRITING + "test_a_settled_row_is_whole_in_node_and_window_and_valid"

_CERTIFY = '    connection.execute("UPDATE session_nodes SET entry_valid = 1 WHERE session_key = ?", (key,))\n'
_NODE = """CAST(? AS TEXT), updated_at = ?, status = ? WHERE session_key = ?",
        (after.text, after.updated_at, after.status, key),
    )
"""
_WINDOW = """    connection.execute(
        "UPDATE session_windows SET status = ?, started_at = ?, ended_at = ?, updated_at = ?"
        " WHERE session_id = ? AND session_key = ?",
        (after.status, after.started_at, after.ended_at, after.updated_at, after.session_id, key),
    )
"""

DATABASE_ABLATIONS = (
    Ablation(
        "database: intent first",
        HAND,
        "        self._audit.open(attempt)\n        if better is",
        "        if better is",
        DECIDING + "test_the_intent_and_the_plan_are_in_the_audit_before_anything_is_written",
    ),
    Ablation(
        "database: plan before the write",
        HAND,
        "            write_plan(self._audit, attempt, plan, new_sha256=hashlib.sha256(plan.new).hexdigest())\n",
        "",
        DECIDING + "test_the_intent_and_the_plan_are_in_the_audit_before_anything_is_written",
    ),
    Ablation(
        "database: judge again what was written meanwhile",
        HAND,
        'if (said.kind, said.code) != ("changed", "changed"):',
        "if said.kind:",
        DECIDING + "test_a_row_that_was_written_since_is_judged_again_and_nothing_of_that_write_is_lost",
    ),
    Ablation(
        "database: a process of its own",
        "app/openclaw/database_process.py",
        "    texts = {name: base64.b64encode(",
        "    return replace_entry(what, now)\n    texts = {name: base64.b64encode(",
        WRITING + "test_this_process_which_reads_the_database_never_has_it_open_to_write",
    ),
    Ablation(
        "database: a library that damages no log",
        WRITE,
        "    if not is_safe_library(apsw.sqlite_lib_version()):",
        "    if False:",
        WRITING + "test_a_library_that_may_damage_a_log_writes_nothing",
    ),
    Ablation(
        "database: ask who else is at work before waiting for the lock",
        WRITE,
        "        _nobody_else(what, before, now)\n        with _opened(",
        "        with _opened(",
        WRITING + "test_nothing_is_written_while_openclaw_maintains_its_databases",
    ),
    Ablation(
        "database: ask it again in the transaction",
        WRITE,
        "                _nobody_else(what, before, now)\n                if time",
        "                if time",
        WRITING + "test_a_maintenance_that_begins_while_it_waits_for_the_lock_goes_first",
    ),
    Ablation(
        "database: the same file, asked in the transaction",
        WRITE,
        "                if _identity(folder, os.path.basename(real)) != found:",
        "                if False:",
        WRITING + "test_a_database_whose_place_another_has_taken_meanwhile_is_not_written_to",
    ),
    Ablation(
        "database: a second name is refused",
        WRITE,
        "    if st.st_nlink > 1:",
        "    if False:",
        WRITING + "test_a_file_that_is_not_ours_alone_is_not_written_to",
    ),
    Ablation(
        "database: a known schema",
        WRITE,
        '    if schema not in KNOWN_SCHEMAS or meta != ("agent", schema):',
        "    if False:",
        WRITING + "test_a_schema_that_we_do_not_know_is_not_written_to",
    ),
    Ablation(
        "database: compare the whole entry",
        WRITE,
        "    if text != what.before:",
        "    if False:",
        WRITING + "test_a_row_that_has_been_written_since_it_was_judged_is_left_alone",
    ),
    Ablation(
        "database: only a row that OpenClaw has found valid",
        WRITE,
        "    if valid != 1:",
        "    if False:",
        WRITING + "test_a_row_that_openclaw_would_not_take_as_it_is_is_not_written_to",
    ),
    Ablation(
        "database: certify the row",
        WRITE,
        _CERTIFY,
        "",
        WHOLE,
    ),
    Ablation(
        "database: certify it by itself",
        WRITE,
        _NODE + _CERTIFY,
        _NODE.replace("updated_at = ?", "entry_valid = 1, updated_at = ?"),
        WHOLE,
    ),
    Ablation(
        "database: the window too",
        WRITE,
        _WINDOW,
        "",
        WHOLE,
    ),
    Ablation(
        "database: nothing waits to be validated",
        WRITE,
        "    if _validates(connection):  # it",
        "    if False:  # it",
        WRITING + "test_no_row_waits_to_be_validated_after_it",
    ),
    Ablation(
        "database: a limit to each statement",
        WRITE,
        "    connection.set_progress_handler(lambda: time.monotonic() - began > hold_seconds, _STEP)\n",
        "",
        WRITING + "test_a_statement_that_does_not_end_is_broken_off",
    ),
    Ablation(
        "database: a limit to them all",
        WRITE,
        "                if time.monotonic() - began > what.hold_seconds:",
        "                if False:",
        WRITING + "test_a_write_that_would_keep_the_gateway_waiting_is_given_up",
    ),
    Ablation(
        "database: no checkpoint at the close",
        WRITE,
        "        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(keeps_log))\n",
        "",
        WRITING + "test_a_log_that_a_killed_gateway_left_behind_is_neither_emptied_nor_taken_away",
    ),
    Ablation(
        "database: no checkpoint in between",
        WRITE,
        '"wal_autocheckpoint=0", ',
        "",
        WRITING + "test_a_log_of_any_length_is_left_to_the_gateway_to_bring_in",
    ),
    Ablation(
        "database: resolve from the row after a crash",
        "app/reconcile/looks.py",
        "_together(self._audit.left_open())",
        "_together([])",
        DECIDING + "test_a_crash_around_the_write_is_resolved_from_the_database",
    ),
)
