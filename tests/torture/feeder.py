"""A recorder for tests: raw sound to standard output, so many times faster than it sounds, with a fault if asked for.

`python feeder.py FILE SPEED [MODE AFTER_S MARK]`; modes, from AFTER_S seconds of wall time on: `zeros`, `dies` (in the
middle of a sample), `hangs`, `floods` (as fast as the pipe takes it), `rate` (three times as fast). It is faulty once:
not when there is a file MARK.
"""

import os
import sys
import time

CHUNK = 3_200  # bytes: 0.1 s at 16 kHz


def main() -> None:
    """Write until the reader goes away."""
    path, speed = sys.argv[1], float(sys.argv[2])
    mode, after_s, mark = (sys.argv[3], float(sys.argv[4]), sys.argv[5]) if len(sys.argv) > 5 else ("sound", 0.0, "")
    if mark and os.path.exists(mark):  # noqa: PTH110  # as above
        mode = "sound"
    with open(path, "rb") as file:  # noqa: PTH123  # pathlib costs a tenth of the start
        content = file.read()
    out = sys.stdout.buffer
    began = time.monotonic()
    sent, at = 0, 0
    while True:
        faulty = mode != "sound" and time.monotonic() - began >= after_s
        if faulty:
            os.close(os.open(mark, os.O_CREAT | os.O_WRONLY))
        if faulty and mode == "dies":
            out.write(content[:1])
            out.flush()
            return
        if faulty and mode == "hangs":
            time.sleep(3_600)
        chunk = bytes(CHUNK) if faulty and mode == "zeros" else content[at : at + CHUNK]
        at = at + CHUNK if at + CHUNK < len(content) else 0
        out.write(chunk)
        out.flush()
        sent += 1
        if faulty and mode == "rate":
            time.sleep(0.1 / speed / 3)
        elif not (faulty and mode == "floods"):
            time.sleep(max(0.0, began + sent * 0.1 / speed - time.monotonic()))


try:
    main()
except BrokenPipeError:
    sys.stderr.close()
