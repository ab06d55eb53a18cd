"""The bird challenge's folder, made of other recordings: `python -m tests.model_export.make_calls --data D --out DIR`.

Roosters stand for the bird, whose clips are not at hand: `Parsed_Rooster_Clips`, `Parsed_Not_Rooster_Clips` and
`Forest Recordings`, in which roosters of other recordings crow on forest. `truth.csv` beside it says how often.
"""

import argparse
import csv
import hashlib
from pathlib import Path

import numpy as np
import soundfile

from model_export.datasets import Clip, read_sound
from model_export.layouts.read import read
from model_export.store import active_dbfs, without_zeros

CALL = "rooster"
OTHERS = ("crow", "hen", "chirping_birds", "insects", "frog", "crickets", "cat", "dog", "sheep", "rain", "wind", "pig")
RATE = 16_000
LOUD = 44_100
"""The challenge's own rate."""
FOREST_S = 180
LEVEL_DB = 8.0
"""Of a call over its forest."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    clips = read(options.data).clips
    calls = [clip for clip in clips if clip.kind == CALL]
    held = {clip.group for clip in calls if chance(clip.group) < 0.3}
    forests = [clip for clip in clips if clip.kind == "forest"]
    long_groups = sorted({clip.group for clip in forests}, key=chance)[:5]
    near = [clip for clip in forests if clip.group not in long_groups]
    write_clips(options.out / "Parsed_Rooster_Clips", [clip for clip in calls if clip.group not in held], near)
    others = [clip for clip in clips if clip.kind in OTHERS and clip.dataset == "esc50" and chance(clip.name) < 0.4]
    negative = options.out / "Parsed_Not_Rooster_Clips"
    write_clips(negative, others, near)
    write_forest(negative, near)
    long = [clip for clip in forests if clip.group in long_groups][:12]
    write_long(options.out, long, [clip for clip in calls if clip.group in held])


def chance(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64


def write_clips(folder: Path, clips: list[Clip], forests: list[Clip]) -> None:
    """As the challenge names them, recording, then a number: three of each clip, on other forest each time."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    numbers: dict[str, int] = {}
    grounds = [read_sound(clip.path) for clip in forests[:8]]
    for clip in clips:
        samples = without_zeros(read_sound(clip.path))[: 3 * RATE]
        if len(samples) < RATE // 2:
            continue
        for _ in range(3):
            number = numbers[clip.group] = numbers.get(clip.group, -1) + 1
            ground = grounds[int(rng.integers(len(grounds)))]
            first = int(rng.integers(len(ground) - 3 * RATE))
            window = ground[first : first + 3 * RATE].copy()
            put(window, samples, int(rng.integers(3 * RATE - len(samples) + 1)), rng.uniform(3.0, 18.0))
            soundfile.write(folder / f"{clip.group}-{number}.wav", window, RATE)


def put(ground: np.ndarray, call: np.ndarray, start: int, over_db: float) -> None:
    """Lay a call on the ground, so many decibels over what it covers."""
    covered = ground[start : start + len(call)]
    gain_db = active_dbfs(covered) + over_db - active_dbfs(call)
    covered += call[: len(covered)] * np.float32(10 ** (gain_db / 20))


def write_forest(folder: Path, forests: list[Clip]) -> None:
    for clip in forests:
        samples = read_sound(clip.path)
        for number in range(6):
            start = number * 25 * RATE
            soundfile.write(
                folder / f"{clip.group}x{clip.path.stem}-{number}.wav", samples[start : start + 3 * RATE], RATE
            )


def write_long(out: Path, forests: list[Clip], calls: list[Clip]) -> None:
    rng = np.random.default_rng(7)
    folder = out / "Forest Recordings"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [["recording", "calls"]]
    for idx, clip in enumerate(forests):
        forest = read_sound(clip.path)[: FOREST_S * RATE].copy()
        n_calls = int(rng.integers(0, 7))
        places = rng.permutation(np.arange(6, FOREST_S - 12, 15))[:n_calls]
        for place in places:
            call = without_zeros(read_sound(calls[int(rng.integers(len(calls)))].path))[: 3 * RATE]
            start = int((place + rng.uniform(0, 6)) * RATE)
            put(forest, call, start, LEVEL_DB)
        name = f"recording_{idx:02d}.mp3"
        write_mp3(folder / name, forest)
        rows.append([name, str(n_calls)])
    with (out / "truth.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_mp3(path: Path, samples: np.ndarray) -> None:
    length = len(samples) * LOUD // RATE
    loud = np.interp(np.arange(length) * (RATE / LOUD), np.arange(len(samples)), samples).clip(-1, 1)
    with soundfile.SoundFile(path, "w", LOUD, 1) as file:
        for start in range(0, length, LOUD):  # whole recordings at once end the encoder
            file.write(loud[start : start + LOUD])


if __name__ == "__main__":
    main()
