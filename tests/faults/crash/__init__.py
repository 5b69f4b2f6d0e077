"""A repair that is killed, or refused by the kernel, at each of its system calls in turn.

1. scene: state dirs as they stand before, and the one thing that is done to them;
2. trace: which system calls that is, from a recording run under strace;
3. sweep: one run for each call and fault, a fresh copy of the scene every time;
4. judge: what must be true on the disk and in the audit then, after the next start, and in the end.
"""
