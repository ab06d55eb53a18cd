"""The agent with a wall clock that a test owns: `python -m tests.torture.clocked FILE WORDS...`.

FILE holds the seconds by which the clock is off, read anew each time that anybody asks for the time.
"""

import runpy
import sys
import time
from pathlib import Path

true_time = time.time
OFFSET = Path(sys.argv[1])


def wall() -> float:
    """Return what the clock says."""
    return true_time() + float(OFFSET.read_text())


if __name__ == "__main__":
    time.time = wall
    sys.argv = ["agent", *sys.argv[2:]]
    runpy.run_module("agent", run_name="__main__", alter_sys=True)
