"""Runs a command and prints its seconds and its largest resident memory in bytes.

A process of its own, and a small one: what a process held before it became another counts as that other's memory
(`ru_maxrss`), and whoever starts it by vfork lends it all of its own. So this file imports nothing of ours.
"""

import os
import sys
import time

began = time.perf_counter()
child = os.posix_spawn(
    sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
)
_, status, used = os.wait4(child, 0)
print(time.perf_counter() - began, used.ru_maxrss * 1024, os.waitstatus_to_exitcode(status))
