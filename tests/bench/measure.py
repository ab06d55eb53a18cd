"""Runs a command and writes down its wall time, CPU time and peak memory.

A process of its own, and a small one: Linux counts the memory of who forks into the peak of what is started.
"""

import json
import os
import sys
import time

began_s = time.monotonic()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
with open(sys.argv[1], "w") as out:  # noqa: PTH123  # pathlib would make this process larger
    figures = {
        "wall_s": time.monotonic() - began_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
    }
    json.dump(figures, out)
sys.exit(os.waitstatus_to_exitcode(status))
