"""The modules that are mutated, and for each the tests that are tried, the quickest and likeliest first."""

from __future__ import annotations

_DECISION = (
    "tests/unit/test_verdict.py",
    "tests/unit/test_verdict_calm.py",
    "tests/unit/test_verdict_liveness.py",
    "tests/unit/test_verdict_sentences.py",
    "tests/unit/test_settlement.py",
)
_SPLICE = ("tests/unit/test_splice.py", "tests/unit/test_splice_edits.py")
_ASKED = ("tests/integration/test_repair_asked.py", "tests/integration/test_repair.py")
_ATTEMPTS = ("tests/integration/test_attempt_outcomes.py",)
_TOGETHER = ("tests/integration/test_together.py",)
_LOOKS = ("tests/integration/test_looks.py", "tests/integration/test_looks_at_many.py")
_FOUND = (
    "tests/integration/test_look_outcomes.py",
    "tests/integration/test_look_due.py",
    "tests/integration/test_look_puts_away.py",
    "tests/integration/test_left_open.py",
    "tests/integration/test_leftovers.py",
)
_RECOVERY = ("tests/integration/test_recovery.py",)
_PLUGIN_WORDS = ("tests/integration/test_plugin_hand_words.py",)
_PLUGIN = ("tests/integration/test_plugin_hand.py",)
_DATABASE = (
    "tests/integration/test_database_hand_words.py",
    "tests/integration/test_database_hand.py",
    "tests/integration/test_database_hand_live.py",
)
_DATABASE_WORDS = (
    "tests/unit/test_database_library.py",
    "tests/integration/test_database_write_words.py",
    "tests/integration/test_database_write_disk.py",
)
_DATABASE_WRITE = ("tests/integration/test_database_write.py",)
_STATE = ("tests/integration/test_state_database.py", "tests/unit/test_database_library.py")
_LEASE = ("tests/integration/test_lease.py",)
_PUBLISH = (
    "tests/integration/test_publish.py",
    "tests/integration/test_publish_access.py",
    "tests/integration/test_publish_words.py",
    "tests/integration/test_publish_edges.py",
    "tests/integration/test_crossings.py",
    "tests/integration/test_crossing_others.py",
    "tests/integration/test_crossing_names.py",
)

TRIED: dict[str, tuple[tuple[str, ...], ...]] = {
    "app/domain/verdict.py": (_DECISION,),
    "app/domain/settlement.py": (_DECISION,),
    "app/domain/splice.py": (_SPLICE,),
    "app/domain/json_text.py": (
        _SPLICE,
        ("tests/unit/test_json_text.py", "tests/unit/test_sessions_json.py"),
        ("tests/property/test_store_properties.py",),
    ),
    "app/domain/model.py": (("tests/unit/test_model.py", *_DECISION),),
    "app/domain/describe.py": (("tests/unit/test_describe.py",),),
    "app/openclaw/lease.py": (_LEASE, _PUBLISH),
    "app/openclaw/publish.py": (_PUBLISH, _RECOVERY),
    "app/openclaw/stepping_back.py": (_PUBLISH, _RECOVERY),
    "app/openclaw/swap.py": (_PUBLISH, _RECOVERY),
    "app/openclaw/quiet.py": (("tests/integration/test_quiet.py",),),
    "app/domain/entry.py": (("tests/unit/test_entry.py",),),
    "app/openclaw/database_row.py": (("tests/integration/test_database_row.py",),),
    "app/openclaw/database_write.py": (_DATABASE_WORDS, _DATABASE_WRITE),
    "app/openclaw/replacement.py": (_DATABASE_WORDS, _DATABASE_WRITE, _DATABASE),
    "app/openclaw/database_process.py": (("tests/integration/test_database_process.py",),),
    "app/own_process.py": (("tests/integration/test_own_process.py", "tests/integration/test_database_process.py"),),
    "app/openclaw/database_leases.py": (_STATE,),
    "app/openclaw/claims.py": (("tests/integration/test_claims.py", *_STATE),),
    "app/openclaw/state_database.py": (_STATE,),
    "app/openclaw/agent_databases.py": (_STATE,),
    "app/openclaw/gateway_plugin.py": (("tests/integration/test_gateway_plugin.py",), _PLUGIN_WORDS),
    "app/reconcile/asking.py": (_ASKED, _LOOKS, _PLUGIN, _DATABASE),
    "app/reconcile/attempts.py": (_ATTEMPTS, _ASKED, _LOOKS, _PLUGIN, _DATABASE, _TOGETHER),
    "app/reconcile/due.py": (("tests/integration/test_due.py",),),
    "app/reconcile/put_off.py": (("tests/unit/test_put_off.py",),),
    "app/reconcile/leftovers.py": (_FOUND, _ATTEMPTS, _RECOVERY),
    "app/reconcile/looks.py": (_FOUND, _LOOKS, _RECOVERY, _PLUGIN, _DATABASE),
    "app/reconcile/repair.py": (_ASKED, _LOOKS, _PLUGIN, _DATABASE, ("tests/integration/test_telling.py",)),
    "app/reconcile/together.py": (_TOGETHER,),
    "app/reconcile/file_hand.py": (_ATTEMPTS, _LOOKS, _PLUGIN),
    "app/reconcile/database_hand.py": (_DATABASE[:1], _DATABASE[1:]),
    "app/reconcile/plugin_hand.py": (_PLUGIN_WORDS, _PLUGIN, _DATABASE),
}

EVERYTHING = ("tests", "--ignore=tests/faults", "--ignore=tests/live", "--ignore=tests/browser")
"""What a mutant must survive to count as a survivor."""
