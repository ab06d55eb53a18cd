"""Held-out soundscapes: long recordings with events at known times, from recordings that training never saw.

Every level of a label is the same soundscape with the same events at the same times, so that levels and models can be
compared event by event. Each track is a WAV with its truth beside it as JSON.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from agent.errors import FieldError
from agent.features import Float32
from agent.fields import Fields
from agent.wav import write_wav
from model_export import heard
from model_export.datasets import SAMPLE_RATE
from model_export.errors import DataError
from model_export.mixing import faded_to, mixed
from model_export.store import Sound, Store, repeated

TRUTH_SCHEMA = 2
TRACKS_VERSION = 2
"""Goes up whenever the same recordings would give another track; 2: machines last as long as events."""
EVENT_S: Final = 12.0
SHORTEST_GAP_S: Final = 30.0
CONFUSER_S: Final = 8.0
"""Of animals, voices and whatever else does not run on; a machine lasts as long as an event, so that its length does
not tell it from an engine or a saw."""
CONFUSER_GAP_S: Final = 4.0
FAR_HZ: Final = 1_200.0
SAW_LEVELS_DB: Final = (20.0, 10.0, 5.0, 0.0, -5.0, -10.0)
ENGINE_LEVELS_DB: Final = (20.0, 10.0, 0.0, -5.0)
CONFUSER_DB: Final = 10.0
_PLACES: Final = ("forest", "jungle", "wind", "sea_waves", "crickets")
"""Backgrounds that are a place, not something that comes near."""
_PEAK = 0.95
_JOIN_S = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class TrueEvent:
    """A sound that is known to be in a track."""

    label: str
    """What it is; `other` for a confuser."""
    onset_s: float
    offset_s: float
    source: str
    """The clip it was made of."""
    recording: str
    """The group of that clip: intervals are over these."""
    ground: str
    """The forest recording under it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """What is known about a track."""

    name: str
    """The WAV's name without its suffix."""
    role: str
    """chainsaw, engine, background or confusers."""
    level: str
    """`10 dB`, `far`, or nothing."""
    duration_s: float
    events: tuple[TrueEvent, ...]
    marks: Mapping[str, str]
    """Mark -> name of every clip and recording in it, the forest too (`model_export/heard.py`)."""

    def to_json(self) -> str:
        """Return the text of the truth file."""
        return json.dumps({"schema": TRUTH_SCHEMA, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Truth":
        """Read a truth file; FieldError names what is wrong."""
        try:
            fields = Fields(json.loads(text))
        except ValueError as error:
            raise FieldError("document", f"is not JSON: {error}") from error
        fields.integer("schema", TRUTH_SCHEMA, TRUTH_SCHEMA)
        truth = cls(
            name=fields.text("name", shortest=1),
            role=fields.text("role", longest=40),
            level=fields.text("level", longest=40),
            duration_s=fields.number("duration_s", 0, 1e8),
            events=tuple(
                _event(Fields(value, f"events.{number}"))
                for number, value in enumerate(fields.sequence("events", longest=100_000))
            ),
            marks={mark: str(name) for mark, name in fields.mapping("marks").items()},
        )
        fields.done()
        return truth


def _event(fields: Fields) -> TrueEvent:
    event = TrueEvent(
        label=fields.text("label", longest=40),
        onset_s=fields.number("onset_s", 0, 1e8),
        offset_s=fields.number("offset_s", 0, 1e8),
        source=fields.text("source", longest=500),
        recording=fields.text("recording", longest=500),
        ground=fields.text("ground", longest=500),
    )
    fields.done()
    return event


@dataclass(frozen=True, slots=True)
class Ground:
    """Forest without end: held-out recordings in a row, joined by cross-fades, and from the first again."""

    samples: Float32
    names: tuple[str, ...]
    starts: tuple[int, ...]
    """Sample at which each recording begins."""
    marks: Mapping[str, str]
    """Of all its recordings."""

    @classmethod
    def of(cls, store: Store, forests: Sequence[Sound]) -> "Ground":
        """Join forest recordings, each at the level of -32 dBFS that it would have on one device."""
        fade = int(_JOIN_S * SAMPLE_RATE)
        ramp = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32))
        total = np.zeros(sum(forest.length - fade for forest in forests) + fade, np.float32)
        starts: list[int] = []
        at = 0
        for number, forest in enumerate(forests):
            piece = store.read(forest, 0, forest.length) * np.float32(10 ** ((-32 - forest.level_dbfs) / 20))
            if number > 0:
                piece[:fade] *= ramp
            if number < len(forests) - 1:
                piece[-fade:] *= ramp[::-1]
            total[at : at + len(piece)] += piece
            starts.append(at)
            at += len(piece) - fade
        return cls(total, tuple(forest.name for forest in forests), tuple(starts), marks_of(forests))

    def cut(self, start: int, length: int) -> Float32:
        """Return a part, beginning anew at the end."""
        rolled = np.take(self.samples, np.arange(start, start + length), mode="wrap")
        return np.asarray(rolled, np.float32)

    def name_at(self, sample: int) -> str:
        """Return the recording that lies at a sample."""
        idx = int(np.searchsorted(self.starts, sample % len(self.samples), side="right")) - 1
        return self.names[idx]


def build_tracks(
    store: Store, sounds: Sequence[Sound], folder: Path, *, events: int = 32, seed: int = 5
) -> list[Truth]:
    """Write all tracks of the test sounds, and return their truths.

    Args:
        store: decoded sounds.
        sounds: those of the test part.
        folder: where WAV and JSON files go; tracks that are there are left.
        events: saws, and engines, in a track.
        seed: of gaps and of which part of a clip is heard.

    Raises:
        DataError: no forest recording of a minute or more is among the sounds, or no saw or engine.
    """
    from tqdm import tqdm

    forests = _forests(sounds)
    ground = Ground.of(store, forests)
    folder.mkdir(parents=True, exist_ok=True)
    plans: list[tuple[str, str, str, float | None]] = [("background", "background", "", None)]
    plans += [(f"chainsaw_{level:+03.0f}dB", "chainsaw", f"{level:g} dB", level) for level in SAW_LEVELS_DB]
    plans += [("chainsaw_far", "chainsaw", "far", 0.0)]
    plans += [(f"engine_{level:+03.0f}dB", "engine", f"{level:g} dB", level) for level in ENGINE_LEVELS_DB]
    plans += [("confusers", "confusers", f"{CONFUSER_DB:g} dB", CONFUSER_DB)]
    truths: list[Truth] = []
    for name, role, level, snr_db in tqdm(plans, desc="tracks", unit="track"):
        path = folder / f"{name}.json"
        if path.is_file() and path.with_suffix(".wav").is_file():
            truths.append(read_truth(path))
            continue
        found: tuple[TrueEvent, ...] = ()
        clips: list[Sound] = []
        if snr_db is None:
            samples = ground.samples
        elif role == "confusers":
            clips = confusers(sounds)
            samples, found = _confusers(store, clips, ground, snr_db, seed)
        else:
            clips = by_recording(sounds, role, events)
            samples, found = _events(store, clips, ground, role, level, snr_db, seed)
        truth = Truth(
            name=name,
            role=role,
            level=level,
            duration_s=len(samples) / SAMPLE_RATE,
            events=found,
            marks={**ground.marks, **marks_of(clips)},
        )
        write_wav(path.with_suffix(".wav"), samples, SAMPLE_RATE)
        path.write_text(truth.to_json(), encoding="utf-8")
        truths.append(truth)
    return truths


def marks_of(sounds: Sequence[Sound]) -> dict[str, str]:
    """Return mark -> name of sounds and of the recordings that they come from."""
    clips = {sound.mark: sound.name for sound in sounds if sound.mark}
    return clips | {heard.group_mark(sound.group): sound.group for sound in sounds}


def read_truth(path: Path) -> Truth:
    """Read a track's truth; DataError names what is wrong."""
    try:
        return Truth.from_json(path.read_text(encoding="utf-8"))
    except (OSError, FieldError) as error:
        raise DataError(f"{path}: is no truth of a track: {error}; build the tracks anew") from error


def _forests(sounds: Sequence[Sound]) -> list[Sound]:
    forests = [sound for sound in sounds if sound.kind == "forest" and sound.length >= 60 * SAMPLE_RATE]
    if not forests:
        # a folder of one's own recordings: whatever is long and background
        forests = [sound for sound in sounds if sound.target == "background" and sound.length >= 60 * SAMPLE_RATE]
    if not forests:
        raise DataError(
            "the test part holds no background recording of a minute or more; add some, or change the split"
        )
    return sorted(forests, key=lambda sound: (sound.group, sound.name))


def by_recording(sounds: Sequence[Sound], target: str, count: int) -> list[Sound]:
    """Return so many clips of a target, taking from each recording in turn; DataError if there is none."""
    groups: dict[str, list[Sound]] = {}
    for sound in sorted(sounds, key=lambda sound: sound.name):
        if sound.target == target and not sound.kind.startswith("synth-"):
            groups.setdefault(sound.group, []).append(sound)
    if not groups:
        raise DataError(f"the test part holds no {target}; add recordings, or change the recipe's split")
    chosen: list[Sound] = []
    turn = 0
    while len(chosen) < count:
        chosen += [members[turn % len(members)] for members in groups.values()][: count - len(chosen)]
        turn += 1
    return chosen


def _events(
    store: Store,
    clips: Sequence[Sound],
    ground: Ground,
    role: str,
    level: str,
    snr_db: float,
    seed: int,
) -> tuple[Float32, tuple[TrueEvent, ...]]:
    """Return a soundscape with events of one label, far enough apart that one does not hide the next."""
    rng = np.random.default_rng([seed, len(role)])  # the same for every level of a label
    length = int(EVENT_S * SAMPLE_RATE)
    gaps = [int(rng.uniform(SHORTEST_GAP_S, SHORTEST_GAP_S + 10) * SAMPLE_RATE) for _ in range(len(clips) + 1)]
    shift = int(rng.integers(len(ground.samples)))
    samples = ground.cut(shift, sum(gaps) + len(clips) * length)
    found: list[TrueEvent] = []
    at = gaps[0]
    for clip, gap in zip(clips, gaps[1:], strict=True):
        event = _piece(store, clip, EVENT_S, rng)
        if level == "far":
            event = low_passed(event, FAR_HZ)
        samples[at : at + length] = _limited(mixed(samples[at : at + length], event, snr_db, 0))
        found.append(_truth(role, at, length, clip, ground.name_at(shift + at)))
        at += length + gap
    return samples, tuple(found)


def confusers(sounds: Sequence[Sound]) -> list[Sound]:
    """Return one clip of each recording that is no saw, engine, rain or forest: machines, voices, animals, aircraft."""
    first: dict[str, Sound] = {}
    for sound in sorted(sounds, key=lambda sound: sound.name):
        near = sound.target == "background" and sound.kind not in _PLACES and sound.length < 30 * SAMPLE_RATE
        if sound.target in ("machine", "other") or (near and not sound.kind.startswith("synth-")):
            first.setdefault(sound.group, sound)
    return [first[group] for group in sorted(first)]


def _confusers(
    store: Store, clips: Sequence[Sound], ground: Ground, snr_db: float, seed: int
) -> tuple[Float32, tuple[TrueEvent, ...]]:
    """Return a soundscape in which every confuser is heard once."""
    rng = np.random.default_rng([seed, 99])
    gap = int(CONFUSER_GAP_S * SAMPLE_RATE)
    seconds = [EVENT_S if clip.target == "machine" else CONFUSER_S for clip in clips]
    lengths = [int(one * SAMPLE_RATE) for one in seconds]
    shift = int(rng.integers(len(ground.samples)))
    samples = ground.cut(shift, sum(lengths) + (len(clips) + 1) * gap)
    found: list[TrueEvent] = []
    at = gap
    for clip, duration_s, length in zip(clips, seconds, lengths, strict=True):
        event = _piece(store, clip, duration_s, rng)
        samples[at : at + length] = _limited(mixed(samples[at : at + length], event, snr_db, 0))
        found.append(_truth("other", at, length, clip, ground.name_at(shift + at)))
        at += length + gap
    return samples, tuple(found)


def _truth(label: str, at: int, length: int, clip: Sound, ground: str) -> TrueEvent:
    return TrueEvent(
        label=label,
        onset_s=at / SAMPLE_RATE,
        offset_s=(at + length) / SAMPLE_RATE,
        source=clip.name,
        recording=clip.group,
        ground=ground,
    )


def _piece(store: Store, sound: Sound, seconds: float, rng: np.random.Generator) -> Float32:
    """Return part of a clip, joined to itself until it lasts, without a click at its ends."""
    length = int(seconds * SAMPLE_RATE)
    start = int(rng.integers(max(1, sound.length - length + 1)))
    piece = repeated(store.read(sound, start, min(sound.length - start, length)), length)
    # faded_to leaves a whole event as it is: a sample is spared at each end
    return faded_to(piece, (1, length - 1), fade=800)


def low_passed(samples: Float32, corner_hz: float) -> Float32:
    """Return samples through an eighth-order low-pass: what is left of a saw far away."""
    spectrum = np.fft.rfft(samples)
    ratio = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE) / corner_hz
    passed: Float32 = np.fft.irfft(spectrum / np.sqrt(1 + ratio**16), len(samples)).astype(np.float32)
    return passed


def _limited(samples: Float32) -> Float32:
    """Return samples that fit into 16 bits, turned down where they would clip: the ratio stays."""
    peak = float(np.abs(samples).max())
    return samples * np.float32(_PEAK / peak) if peak > _PEAK else samples
