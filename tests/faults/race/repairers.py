"""The second process of a race: one of those who repair.

    python -m tests.faults.race.repairers '{"who": "ours", "state_dir": DIR, "store": FILE, ...}'

Repairs until its input ends; then takes its later looks and says what it published.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

from tests.faults.race.common_fixes import CommonFix


def main(given: dict[str, Any]) -> None:
    over = threading.Event()
    begin = threading.Event()

    def wait() -> None:
        sys.stdin.readline()
        begin.set()
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    if given["who"] == "ours":
        from tests.faults.race.our_repair import OurRepair

        ours = OurRepair(
            Path(given["state_dir"]),
            Path(given["database"]),
            quiet=given["quiet"],
            patience=given["patience"],
            linger_ms=given["linger_ms"],
            cross_ms=given["cross_ms"],
            looks=given["looks"],
        )
        _say({"ready": True})
        begin.wait()
        while not over.is_set():
            ours.repair_one()
            over.wait(given["between_ms"] / 1000)
        ours.take_later_looks()
        _say(ours.result())
        return
    fix = CommonFix(Path(given["store"]), verify=given["who"] == "verify_then_rename")
    _say({"ready": True})
    begin.wait()
    while not over.is_set():
        fix.repair_one()
    _say({"published": fix.published, "by_outcome": {"given up": fix.given_up}})


def _say(word: dict[str, Any]) -> None:
    print(json.dumps(word), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
