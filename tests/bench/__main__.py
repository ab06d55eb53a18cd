"""`make bench`: the agent beside the tutorials' way and YAMNet, on the same minute of forest, in one run.

Every contender is a process of its own that is given a WAV file. It is run on nothing (start-up alone), and on the
minute as often as makes its cost stand clear of the start-up; CPU and peak memory are what the system accounts.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent import synth
from agent.wav import write_wav

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RATE = 16_000
MINUTE = 60 * RATE


@dataclass(frozen=True)
class Contender:
    """Somebody who listens to a WAV file."""

    name: str
    command: tuple[str, ...]
    repeats: int
    """How often the minute is heard."""
    remark: str = ""


@dataclass(frozen=True)
class Figures:
    """What it cost."""

    start_s: float
    cpu_per_hour_s: float
    peak_mb: float


def contenders(peers: Path) -> list[Contender]:
    """Return who takes part; a peer whose model is not here is left out, and said so."""
    agent = (sys.executable, "-m", "agent", "replay", "--json")
    found = [
        Contender("agent, gate on", agent, 60, "stride 1.5 s"),
        Contender("agent, every window", (*agent, "--no-gate"), 60, "stride 1.5 s"),
        Contender(
            "tutorial",
            (sys.executable, str(HERE / "tutorial.py")),
            1,
            "librosa.load, melspectrogram, PNG by matplotlib, load at 224 x 224, Keras MobileNetV2; 3 s, no overlap",
        ),
    ]
    model = peers / "yamnet.tflite"
    if model.is_file():
        command = (sys.executable, str(HERE / "yamnet.py"), str(model))
        remark = "class Chainsaw (and Engine), a patch of 0.975 s every 0.5 s, mean over 3 s, 2 of 3 at a 1.5 s stride"
        found.append(Contender("YAMNet", command, 20, remark))
    else:
        print(f"YAMNet is left out: no {model}; give --peers FOLDER", file=sys.stderr)
    return found


def measured(command: tuple[str, ...], wav: Path) -> tuple[float, float, float]:
    """Run one process and return wall seconds, CPU seconds and peak MB."""
    environment = dict(os.environ, OPENBLAS_NUM_THREADS="1", TF_CPP_MIN_LOG_LEVEL="3")
    with tempfile.NamedTemporaryFile("r") as noted:
        measure = [sys.executable, "-S", "-E", str(HERE / "measure.py"), noted.name]
        result = subprocess.run(
            [*measure, *command, str(wav)], capture_output=True, text=True, env=environment, cwd=ROOT, check=False
        )
        if result.returncode:
            raise SystemExit(
                f"error: {' '.join(command)} ended with exit code {result.returncode}: {result.stderr[-500:]}"
            )
        found = json.load(noted)
    return found["wall_s"], found["cpu_s"], found["peak_mb"]


def figures(contender: Contender, minute: np.ndarray, folder: Path, runs: int) -> Figures:
    """Return a contender's figures, medians over several runs."""
    nothing, sound = folder / "nothing.wav", folder / "sound.wav"
    write_wav(nothing, minute[:1_000], RATE)
    write_wav(sound, np.tile(minute, contender.repeats), RATE)
    measured(contender.command, nothing)  # warm the disk cache
    starts = [measured(contender.command, nothing) for _ in range(runs)]
    heards = [measured(contender.command, sound) for _ in range(runs)]
    start_cpu_s = statistics.median(cpu_s for _, cpu_s, _ in starts)
    cpu_s = statistics.median(cpu_s for _, cpu_s, _ in heards)
    return Figures(
        start_s=statistics.median(wall_s for wall_s, _, _ in starts),
        cpu_per_hour_s=(cpu_s - start_cpu_s) * 60 / contender.repeats,
        peak_mb=max(peak_mb for _, _, peak_mb in heards),
    )


def forest_minute(data: Path) -> tuple[np.ndarray, str]:
    """Return a minute of forest: real where the development audio is, synthesised elsewhere."""
    recording = data / "audio" / "capuchin-forest" / "recording_02.ogg"
    with contextlib.suppress(ImportError):
        import soundfile

        if recording.is_file():
            samples, _ = soundfile.read(recording, frames=MINUTE, dtype="float32")
            return samples, recording.name
    return synth.forest(60.0, np.random.default_rng(7)), "synthesised forest"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--peers", type=Path, default=ROOT.parent / "shared" / "peers")
    parser.add_argument("--runs", type=int, default=3, help="of each contender; medians are shown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    minute, what = forest_minute(options.data)
    rows: dict[str, Figures] = {}
    print(f"{what}, 60 s; {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| | CPU-s per hour of audio | as a multiple of the agent | peak memory | start-up |")
    print("|---|---|---|---|---|")
    everyone = contenders(options.peers)
    with tempfile.TemporaryDirectory() as folder:
        for contender in everyone:
            row = rows[contender.name] = figures(contender, minute, Path(folder), options.runs)
            ratio = row.cpu_per_hour_s / rows["agent, gate on"].cpu_per_hour_s
            cells = f"{row.cpu_per_hour_s:.2f} | {ratio:.1f} | {row.peak_mb:.0f} MB | {row.start_s:.2f} s"
            print(f"| {contender.name} | {cells} |", flush=True)
    print()
    for contender in everyone:
        print(f"{contender.name}: {contender.remark}; heard {contender.repeats} times")
    if options.json:
        options.json.write_text(json.dumps({name: vars(row) for name, row in rows.items()}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
