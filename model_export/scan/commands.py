"""`python -m model_export scan`."""

import argparse
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from agent.capture import audio_files
from agent.errors import ConfigError
from agent.manifest import BUNDLED_MODEL, load_model
from model_export.errors import DataError
from model_export.scan import tables, work
from model_export.scan.hear import Heard, Job, job_of
from model_export.scan.kept import Kept
from model_export.scan.recorders import origin_of

log = logging.getLogger(__name__)

Add = Callable[[str, str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]

_NAMED = 20
"""So many files that failed are named at the end; all are in recordings.csv."""


def describe(add: Add) -> None:
    """Add the command."""
    scan = add("scan", "hear weeks of recorder files, on all cores or on a cluster; goes on where it stopped", command)
    scan.add_argument("folder", type=Path, metavar="DIR", help="recordings: WAV, FLAC, MP3, Ogg, any depth of folders")
    scan.add_argument("--out", type=Path, metavar="DIR", help="where tables go (var/scans/NAME)")
    scan.add_argument("--model", type=Path, default=BUNDLED_MODEL, metavar="FILE", help="(%(default)s)")
    scan.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (all cores: %(default)s)"
    )
    scan.add_argument("--scheduler", metavar="URL", help="of a Dask cluster, tcp://host:8786, instead of this machine")
    scan.add_argument("--no-gate", action="store_true", help="classify every window (to count calls, say)")
    scan.add_argument("--no-vad", action="store_true", help="gate by band energy alone")
    scan.add_argument("--resume", action="store_true", help="go on where it stopped, which is what it does anyhow")


def command(options: argparse.Namespace) -> int:
    """Hear every recording of a folder; exit 1 where some could not be heard."""
    if not options.folder.is_dir():
        raise ConfigError(f"{options.folder}: is no folder; give the one with the recordings")
    if options.workers < 1:
        raise ConfigError(f"--workers is {options.workers}, expected 1 or more")
    root = options.folder.resolve()
    manifest, content = load_model(options.model)
    job = job_of(manifest, content, gate=not options.no_gate, vad=not options.no_vad)
    out = options.out or Path("var/scans") / root.name
    names = [path.relative_to(root).as_posix() for path in audio_files(root) if out.resolve() not in path.parents]
    kept = Kept(out / "scan.jsonl", job)
    left = kept.left(root, names)
    began_s = time.monotonic()
    fresh = _hear(options, root, left, job, kept)
    wall_s = time.monotonic() - began_s
    heard = [kept.done[name][2] for name in sorted(names)]
    origins = {one.path: origin_of(root / one.path) for one in heard}
    labels = [label for label in manifest.labels if manifest.rules[label].alert]
    written = tables.write(out, heard, origins, labels)
    _say(heard, fresh, wall_s, labels)
    print("\n".join(str(path) for path in written))
    return 1 if any(one.error for one in heard) else 0


def _hear(options: argparse.Namespace, root: Path, left: list[str], job: Job, kept: Kept) -> list[Heard]:
    from tqdm import tqdm

    if not left:
        return []
    logging.getLogger("agent").setLevel(logging.WARNING)
    found = (
        work.there(str(root), left, job, options.scheduler)
        if options.scheduler
        else work.here(str(root), left, job, min(options.workers, len(left)))
    )
    fresh: list[Heard] = []
    hours = 0.0
    with tqdm(total=len(left), desc="scan", unit="file", mininterval=1) as bar:
        for one in found:
            kept.keep(root, one)
            fresh.append(one)
            hours += one.seconds / 3_600
            bar.set_postfix(hours=f"{hours:.1f}", events=sum(len(each.events) for each in fresh))
            bar.update(1)
    if not any(one.seconds for one in fresh) and len(fresh) > 1:
        raise DataError(f"{root}: not one of {len(fresh)} recordings could be heard; the first: {fresh[0].error}")
    return fresh


def _say(heard: list[Heard], fresh: list[Heard], wall_s: float, labels: list[str]) -> None:
    hours = sum(one.seconds for one in heard) / 3_600
    counts = {label: sum(event.label == label for one in heard for event in one.events) for label in labels}
    print(f"{len(heard)} recordings, {hours:.2f} h: " + ", ".join(f"{n} {label}" for label, n in counts.items()))
    seconds, cpu_s = sum(one.seconds for one in fresh), sum(one.cpu_s for one in fresh)
    if fresh:
        print(
            f"heard {len(fresh)} now: {seconds / 3_600:.2f} h in {wall_s:.1f} s, "
            f"{seconds / max(wall_s, 1e-9):.0f} times real time; {seconds / max(cpu_s, 1e-9):.0f} times per CPU-second"
        )
    failed = [one for one in heard if one.error]
    for one in failed[:_NAMED]:
        log.error("failed: %s: %s", one.path, one.error)
    if failed:
        log.error("%d of %d recordings failed; the same command tries them again", len(failed), len(heard))
