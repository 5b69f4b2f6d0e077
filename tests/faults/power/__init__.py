"""A power cut at each step of a repair, on real file systems.

disk: small images of file systems, mounted, and copied at the instant of the cut;
steps: a word after every system call of a repair that changes something, and every variant of the protocol;
scenes: a repair, an undo, a crossed repair and two settled together, played on an image;
versions: what the store may say then, to the byte;
claims: what must hold of a copy that is mounted again.

`python -m tests.faults.power` prints the table of docs/explanation/safety.md.
"""
