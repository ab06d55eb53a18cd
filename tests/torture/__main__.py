"""`make torture`: the fault suite in its long form, as a table; exit 1 if anything was lost or invented."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.torture import faults
from tests.torture.faults import Outcome

WARM_UP_H = 4.0
LARGEST_SLOPE_MB = 1.0
"""Growth of resident memory a day, after the warm-up."""


def main() -> int:
    """Run everything, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="kill -9 of the agent (%(default)s)")
    parser.add_argument("--link-s", type=float, default=200.0, help="seconds of the bad link (%(default)s)")
    parser.add_argument("--rot", type=int, default=20, help="damaged outboxes (%(default)s)")
    parser.add_argument("--queue", type=int, default=10_000, help="alerts that wait (%(default)s)")
    parser.add_argument("--soak-h", type=float, default=24.0, help="hours of sound in the soak (%(default)s)")
    options = parser.parse_args()
    began_s = time.monotonic()
    rows: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        folder = Path(name)
        scenarios: list[Callable[[], Outcome | None]] = [
            lambda: faults.kills(folder / "kills", times=options.kills),
            lambda: faults.bad_link(folder / "link", seconds=options.link_s, through_share=0.05),
            lambda: faults.full_disk(folder / "full"),
            lambda: faults.read_only_disk(folder / "read-only"),
            lambda: faults.long_queue(folder / "queue", count=options.queue),
            lambda: faults.rotten_outbox(folder / "rot", times=options.rot),
            lambda: faults.clock_jumps(folder / "clock"),
            lambda: faults.wrong_certificate(folder / "certificate"),
            *(lambda mode=mode: faults.bad_microphone(folder / mode, mode) for mode in faults.MICROPHONES),
            lambda: faults.stopped(folder / "sleep"),
            lambda: faults.little_memory(folder / "memory", megabytes=160),
        ]
        for scenario in scenarios:
            outcome = scenario()
            if outcome is None:
                print("skipped: a small disk can be mounted by root alone", file=sys.stderr, flush=True)
                continue
            print(f"{outcome.fault}: {'holds' if outcome.holds else 'DOES NOT HOLD'}", file=sys.stderr, flush=True)
            rows.append(outcome)
        (folder / "soak").mkdir()
        soaked = soak(options.soak_h, folder / "soak")
    print(table(rows))
    print(f"\n{soaked}\n\n{(time.monotonic() - began_s) / 60:.1f} minutes in all.")
    return 0 if all(row.holds for row in rows) else 1


def soak(hours: float, folder: Path) -> str:
    """Soak in a process of its own; return a line about it, raise if it grew."""
    command = [sys.executable, "-m", "tests.torture.soak", str(hours), str(folder)]
    began_s = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    took_s = time.monotonic() - began_s
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    warm_h = min(WARM_UP_H, hours / 2)
    rss = np.array([line["rss_mb"] for line in lines if line["hour"] >= warm_h])
    slope = float(np.polyfit(np.arange(len(rss)), rss, 1)[0]) * 24 if len(rss) > 2 else 0.0
    descriptors = {line["descriptors"] for line in lines}
    last = lines[-1]
    if slope > LARGEST_SLOPE_MB or len(descriptors) > 1:
        raise SystemExit(f"the soak grew: {slope:.2f} MB a day, descriptors {sorted(descriptors)}")
    return (
        f"Soak: {hours:g} h of sound in {took_s:.0f} s; {last['windows']} windows, {last['classified']} classified, "
        f"{last['beats']} heartbeats; resident memory {rss.min():.1f} to {rss.max():.1f} MB after {warm_h:g} h, slope "
        f"{slope:+.2f} MB a day; {descriptors.pop()} descriptors throughout; {last['disk_kb']} kB on disk in the end."
    )


def table(rows: list[Outcome]) -> str:
    """Return the outcomes as Markdown."""
    lines = [
        "| fault | injected | revisions kept | lost | invented | named after | working again after | remark |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        noticed = "" if row.noticed_s is None else f"{row.noticed_s:g} s"
        recovered = "" if row.recovered_s is None else f"{row.recovered_s:g} s"
        lines.append(
            f"| {row.fault} | {row.injected} | {row.kept} | {row.lost} | {row.invented} | {noticed} | {recovered} "
            f"| {row.remark} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
