"""Prints the table of docs/explanation/safety.md: file system x protocol -> what a power cut leaves."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from tests.faults.power.claims import judged
from tests.faults.power.disk import DISKS, Disk, missing
from tests.faults.power.scenes import BYSTANDER, NOBODY, REPAIR, SCENES, Play, Stage
from tests.faults.power.steps import ABLATIONS, PROTOCOL, Variant

WORST = {
    "the store is the old or the new version": "store without bytes, or torn",
    "the row is settled in the end, every other byte as it was": "a gateway write lost",
    "a success that was reported survives": "a reported success undone",
    "a new version in place has its intent in the audit": "a change without an intent",
    "an intent that was confirmed is there": "an intent gone",
    "no litter is left": "litter",
}
"""What a broken claim means to the reader of the table, the worst first."""


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--scene", default=REPAIR, choices=SCENES)
    asked.add_argument("--worst", action="store_true", help="print what was found at each step, too")
    args = asked.parse_args()
    logging.disable(logging.CRITICAL)
    print("| protocol |", " | ".join(d.name for d in DISKS), "|")
    print("|---|", "---|" * len(DISKS), sep="")
    for variant in (PROTOCOL, *ABLATIONS):
        print(f"| {variant.name} |", end="", flush=True)
        for disk in DISKS:
            print(f" {_cell(disk, variant, args.scene, tell=args.worst)} |", end="", flush=True)
        print()


def _cell(disk: Disk, variant: Variant, scene: str, *, tell: bool) -> str:
    cuts, bad, claims = 0, 0, set[str]()
    for adversary in (NOBODY, BYSTANDER):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            why_not = missing(disk, folder)
            if why_not is not None:
                return why_not
            played = Play(Stage(disk, variant, scene, adversary), folder).run()
            broken = judged(played, folder, next_start=variant == PROTOCOL)
        cuts += len(played.moments)
        bad += len({b.number for b in broken})
        claims.update(b.claim for b in broken)
        if tell:
            print(*(f"{disk.name}, {variant.name}, {adversary}: {b}" for b in broken), sep="\n", file=sys.stderr)
    worst = next((words for claim, words in WORST.items() if claim in claims), "other")
    return f"**{worst}** ({bad} of {cuts} cuts)" if bad else f"holds ({cuts} cuts)"


main()
