"""Coverage-guided fuzzing of whatever reads bytes that others wrote: `python -m tests.fuzz [TARGET...] --seconds 60`.

Needs atheris (`make fuzz`); hypothesis looks at the same readers in `make test`. A reader may refuse, with its own
error; anything else ends the run with the input that did it.
"""

import argparse
import copy
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
import numpy as np

with atheris.instrument_imports(include=["agent"]):
    from agent.alert import Alert, Clock, Heartbeat, LogMelImage, Position
    from agent.capture import AudioFile
    from agent.config import read_config
    from agent.errors import AudioError, ConfigError, FieldError
    from agent.journal import read
    from agent.manifest import Manifest, manifest_path
    from agent.mirror import Mirror

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
TINY = Path(__file__).parent / "golden" / "tiny.tflite"


def alert(content: bytes) -> None:
    """An alert that is read is written as it was read, whatever its form was."""
    try:
        found = Alert.from_json(content)
    except FieldError:
        return
    assert Alert.from_json(found.to_json()) == found


def heartbeat(content: bytes) -> None:
    """The same for a heartbeat."""
    try:
        found = Heartbeat.from_json(content)
    except FieldError:
        return
    assert Heartbeat.from_json(found.to_json()) == found


def manifest(content: bytes) -> None:
    """A model's manifest."""
    try:
        Manifest.from_json(content)
    except FieldError:
        return


def config(content: bytes) -> None:
    """A configuration by hand."""
    path = FOLDER / "config.yaml"
    path.write_bytes(content)
    try:
        read_config(path)
    except ConfigError:
        return


def wav(content: bytes) -> None:
    """A sound file by anybody's hand: its blocks are whole, or it is refused."""
    path = FOLDER / "sound.wav"
    path.write_bytes(content)
    try:
        for block in AudioFile(path).blocks():
            assert block.samples.ndim == 1
    except AudioError:
        return


def journal(content: bytes) -> None:
    """A journal from a card: never an error, damaged lines are counted."""
    folder = FOLDER / "journal"
    folder.mkdir(exist_ok=True)
    (folder / "journal-00000001.jsonl").write_bytes(content)
    for _ in read(folder):
        pass


def outbox_copy(content: bytes) -> None:
    """The outbox's copy: never an error."""
    path = FOLDER / "copy"
    path.write_bytes(content)
    mirror = Mirror(path)
    assert {key for key, _ in mirror.entries()} == set(mirror.keys())


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function for function in (alert, heartbeat, manifest, config, wav, journal, outbox_copy)
}
"""By name; each takes any bytes."""


def mutated(document: object, content: bytes) -> bytes:
    """Return a JSON document with up to four of its values replaced, as the bytes say: text alone hardly parses."""
    data = atheris.FuzzedDataProvider(content)
    document = copy.deepcopy(document)
    for _ in range(data.ConsumeIntInRange(0, 4)):
        place: Any = document
        while isinstance(place, dict | list) and place:
            key = data.PickValueInList(list(place) if isinstance(place, dict) else list(range(len(place))))
            if data.ConsumeBool() or not isinstance(place[key], dict | list):
                place[key] = value(data)
                break
            place = place[key]
    return json.dumps(document).encode()


def value(data: "atheris.FuzzedDataProvider") -> object:
    """Return what somebody may write in the place of anything."""
    makers: list[Callable[[], object]] = [
        lambda: data.ConsumeUnicodeNoSurrogates(40),
        lambda: data.ConsumeInt(9),
        data.ConsumeFloat,
        lambda: None,
        data.ConsumeBool,
        lambda: [data.ConsumeInt(2)] * data.ConsumeIntInRange(0, 300),
        lambda: {data.ConsumeUnicodeNoSurrogates(5): 1},
    ]
    made: object = data.PickValueInList(makers)()
    return made


def documents() -> dict[str, object]:
    """Return what the JSON readers begin with."""
    clock = Clock(boot_id="5d0c-11", monotonic_s=8.0, utc="2026-11-20T11:42:07.250Z", utc_certainty="synced")
    alert = Alert(
        alert_id="0b9d8b6e-2a0b-4b43-9c2f-5a8e3c1f9d10",
        revision=0,
        state="open",
        device_id="ipe-07",
        label="chainsaw",
        score=0.97,
        onset_s=12.0,
        raised_s=15.0,
        clock=clock,
        model_digest="9f2c51d0a7b3e844",
        level_dbfs=-31.5,
        position=Position(latitude=-3.1, longitude=-60.0),
        log_mel=LogMelImage.of(np.zeros((40, 16), np.float32), hop_s=0.03, mel_min_hz=50.0, mel_max_hz=7_600.0),
    )
    beat = Heartbeat(
        device_id="ipe-07",
        version="0.1",
        clock=clock,
        model_digest="9f2c51d0a7b3e844",
        uptime_s=10.0,
        audio_s=9.0,
        audio_per_wall=0.9,
        windows=6,
        classified=3,
        top_scores={"chainsaw": 0.1},
        level_dbfs=-40.0,
        states=("zeros",),
        queue=0,
        dropped_s=0.0,
        disk_free_mb=100.0,
        rss_mb=64.0,
    )
    return {
        "alert": json.loads(alert.to_json()),
        "heartbeat": json.loads(beat.to_json()),
        "manifest": json.loads(manifest_path(TINY).read_bytes()),
    }


def seeds(name: str) -> list[bytes]:
    """Return what to begin from, where bytes are bytes."""
    config = b"schema: 1\ndevice: {id: tree}\ncapture: {source: pipe, command: [a, b], sample_rate: 48000}\n"
    silence = b"RIFF\x44\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\x20\0\0\0" + bytes(32)
    return {"config": [config], "wav": [silence], "outbox_copy": [b"- 6f6f6f6f a/0\n"]}.get(name, [])


def fuzz(name: str, seconds: float) -> None:
    """Fuzz one target in this process, and end it as libFuzzer does."""
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds(name)):
        (corpus / str(number)).write_bytes(seed)
    options = [
        f"-max_total_time={seconds:g}",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-verbosity=0",
        "-print_final_stats=1",
    ]
    target, example = TARGETS[name], documents().get(name)
    aimed = target if example is None else lambda content: target(mutated(example, content))
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={FOLDER}/", str(corpus)], aimed)
    atheris.Fuzz()


def main() -> int:
    """Fuzz the targets one after the other, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (all)")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each (%(default)g)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"unknown targets {', '.join(sorted(unknown))}; expected some of {', '.join(TARGETS)}")
    if options.here:
        fuzz(options.targets[0], options.seconds)
    failed = []
    for name in options.targets or list(TARGETS):
        command = [sys.executable, "-m", "tests.fuzz", name, "--here", "--seconds", str(options.seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        print(f"{name}: {'holds' if done.returncode == 0 else 'FAILS'}, {runs[1] if runs else '?'} inputs", flush=True)
        if done.returncode != 0:
            failed.append(name)
            print(done.stderr[-3_000:], file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
