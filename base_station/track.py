"""What one file of a journal says along time, as arrays: a week of windows is drawn from them in a blink.

A track is made while its file is imported and is kept beside it (`journal_tracks`), in the time of the boot's own
clock: a better date for the boot moves it without a change. Files from before there were tracks get theirs when they
are first asked for.
"""

import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, insert, select

from agent.decide import Int8, LabelRule
from agent.errors import FieldError
from agent.fieldlog import is_whole, rules_of, sample_rate
from agent.journal import Line, Setting
from agent.manifest import Quantisation, score_table
from base_station import tables
from base_station.database import Database

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

MEASURES = ("level_dbfs", "percent", "temperature_c", "queue")
"""What a minute's line measures, in the order of the columns."""
TOLD = ("start", "stop", "power", "state_begins", "state_ends", "alert")
"""Events that a track carries; the others are in `field_events`."""
_TOLD_FIELDS = ("reason", "level", "state", "alert_id", "revision", "label", "score", "onset_s", "raised_s")
_LONGEST = 120
_FORMAT = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Lost:
    """Sound that is not there."""

    at_s: float
    """When it went on; seconds of the boot's clock."""
    lost_s: float
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """One event of those that are drawn."""

    at_s: float
    """Seconds of the boot's clock."""
    kind: str
    fields: Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """One file of a journal; all times are seconds of the boot's clock."""

    run: str
    labels: tuple[str, ...] = ()
    """Columns of the outputs; empty where no model was loaded, or the file's first line is damaged."""
    rules: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Of each label that is reported: the numbers of `agent.decide.LabelRule`, as the device had them."""
    model_digest: str = ""
    stride_s: float = 0.0
    scores: Float32
    """Score of each output byte, shape (256,); index = byte + 128."""
    end_s: Float64
    """When each window ended, shape (n_windows,)."""
    gated: Bool
    """Whether the gate was closed, shape (n_windows,)."""
    heard: Bool
    """Whether the model saw it, shape (n_windows,)."""
    outputs: Int8
    """The model's bytes, shape (n_windows, n_labels); -128 where it did not see the window."""
    line_s: Float64
    """When each line was written, shape (n_lines,)."""
    minute_s: Float64
    """When each minute's line was written, shape (n_minutes,)."""
    minutes: Float32
    """MEASURES of each minute, shape (n_minutes, 4); NaN where it is not known."""
    lost: tuple[Lost, ...] = ()
    told: tuple[Told, ...] = ()

    def packed(self) -> bytes:
        """Return it as it is kept."""
        meta = {
            "format": _FORMAT,
            "run": self.run,
            "labels": self.labels,
            "rules": self.rules,
            "model_digest": self.model_digest,
            "stride_s": self.stride_s,
            "lost": [asdict(one) for one in self.lost],
            "told": [asdict(one) for one in self.told],
        }
        content = io.BytesIO()
        np.savez_compressed(
            content,
            meta=np.frombuffer(json.dumps(meta).encode(), np.uint8),
            flags=self.gated.astype(np.uint8) + 2 * self.heard.astype(np.uint8),
            **{name: getattr(self, name) for name in _ARRAYS},
        )
        return content.getvalue()

    @classmethod
    def unpacked(cls, content: bytes) -> "Track | None":
        """Read one that was kept; None if another version of the station made it."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as found:
                meta = json.loads(found["meta"].tobytes())
                flags = found["flags"]
                arrays = {name: found[name] for name in _ARRAYS}
            if meta.pop("format") != _FORMAT:
                return None
            lost = tuple(Lost(**one) for one in meta.pop("lost"))
            told = tuple(Told(**one) for one in meta.pop("told"))
            meta["labels"] = tuple(meta["labels"])
            return cls(**meta, lost=lost, told=told, gated=flags % 2 == 1, heard=flags >= 2, **arrays)
        except (KeyError, TypeError, ValueError, OSError, zipfile.BadZipFile):
            return None


_ARRAYS = ("scores", "end_s", "outputs", "line_s", "minute_s", "minutes")


class TrackBuilder:
    """Collects a track while its file is read."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._run = ""
        self._setting: Setting | None = None
        self._rate = 1
        self._ends: list[Float64] = []
        self._flags: list[tuple[bool, bool]] = []
        self._outputs: list[bytes] = []
        self._line_s: list[float] = []
        self._minute_s: list[float] = []
        self._minutes: list[tuple[float, ...]] = []
        self._lost: list[Lost] = []
        self._told: list[Told] = []

    def add(self, line: Line) -> None:
        """Take one line."""
        at_s = line.clock.monotonic_s
        self._run, self._rate = line.segment.run[:32], sample_rate(line.segment)
        self._setting = line.segment.setting
        self._line_s.append(at_s)
        if line.windows:
            self._add_windows(line, at_s)
        if line.kind == "minute":
            self._add_minute(line, at_s)
        elif line.event in TOLD:
            fields = {key: _short(line.fields[key]) for key in _TOLD_FIELDS if key in line.fields}
            self._told.append(Told(at_s=at_s, kind=line.event, fields=fields))

    def _add_windows(self, line: Line, at_s: float) -> None:
        ends = np.array([record.end_sample for record in line.windows], np.float64)
        self._ends.append(at_s + (ends - ends[-1]) / self._rate)
        width = 0 if self._setting is None else len(self._setting.labels)
        unheard = b"\x80" * width
        for record in line.windows:
            heard = 0 < width == len(record.output)
            self._flags.append((record.gated, heard))
            self._outputs.append(record.output if heard else unheard)

    def _add_minute(self, line: Line, at_s: float) -> None:
        battery = line.fields.get("battery")
        measured = {**line.fields, **(battery if isinstance(battery, Mapping) else {})}
        self._minute_s.append(at_s)
        self._minutes.append(tuple(_number(measured.get(name)) for name in MEASURES))
        gaps = line.fields.get("gaps")
        for gap in gaps if isinstance(gaps, Sequence) and not isinstance(gaps, str) else ():
            if isinstance(gap, Mapping):
                self._add_lost(line, at_s, gap)
        more = line.fields.get("more_gaps")
        if isinstance(more, Mapping):
            lost_s = min(_seconds(more.get("lost_s")), 60.0)
            self._lost.append(Lost(at_s=at_s, lost_s=lost_s, reason=f"{_short(more.get('n'))} more"))

    def _add_lost(self, line: Line, at_s: float, gap: Mapping[object, object]) -> None:
        """A gap names the second of audio at which the sound went on; windows say when that was."""
        lost_s, audio_s = _seconds(gap.get("lost_s")), _number(gap.get("at_s"))
        behind_s = line.windows[-1].end_sample / self._rate - audio_s if line.windows else 0.0
        on_s = at_s - behind_s if 0.0 <= behind_s < 3600.0 else at_s  # also where it is no number
        self._lost.append(Lost(at_s=on_s, lost_s=lost_s, reason=str(_short(gap.get("reason")))))

    def done(self) -> Track:
        """Return the track."""
        setting = self._setting
        labels = setting.labels if setting is not None else ()
        rules = rules_of(setting) if setting is not None and is_whole(setting) else {}
        flags = np.array(self._flags, np.bool_).reshape(-1, 2)
        return Track(
            run=self._run,
            labels=labels,
            rules={label: _numbers(rule) for label, rule in rules.items() if rule.alert},
            model_digest="" if setting is None else setting.model_digest,
            stride_s=0.0 if setting is None else setting.stride / setting.sample_rate,
            scores=_scores(setting),
            end_s=np.concatenate(self._ends) if self._ends else np.zeros(0),
            gated=flags[:, 0],
            heard=flags[:, 1],
            outputs=np.frombuffer(b"".join(self._outputs), np.int8).reshape(len(flags), len(labels)),
            line_s=np.array(self._line_s, np.float64),
            minute_s=np.array(self._minute_s, np.float64),
            minutes=np.array(self._minutes, np.float32).reshape(-1, len(MEASURES)),
            lost=tuple(self._lost),
            told=tuple(self._told),
        )


def _numbers(rule: LabelRule) -> dict[str, float]:
    return {name: value for name, value in asdict(rule).items() if not isinstance(value, bool)}


def _scores(setting: Setting | None) -> Float32:
    if setting is None:
        return np.zeros(256, np.float32)
    try:
        quantisation = Quantisation(scale=setting.output_scale, zero_point=setting.output_zero_point)
        return score_table(quantisation, setting.activation).astype(np.float32)
    except (FieldError, OverflowError, ValueError):  # a damaged line may say anything
        return np.zeros(256, np.float32)


def _short(value: object) -> object:
    """Return a value of a device, bounded: numbers stay numbers, all else becomes text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return value if is_number else str(value)[:_LONGEST]


def _number(value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return float(value) if is_number else float("nan")  # type: ignore[arg-type]  # a number, as the line above says


def _seconds(value: object) -> float:
    """Return a length of time; none where it is no number, at most a year."""
    seconds = _number(value)
    return min(max(seconds, 0.0), 3.2e7) if math.isfinite(seconds) else 0.0


def keep_track(database: Database, seq: int, track: Track) -> None:
    """Keep a track beside its file, instead of what was kept."""
    table = tables.journal_tracks
    with database.write() as connection:
        connection.execute(delete(table).where(table.c.file_seq == seq))
        connection.execute(insert(table).values(file_seq=seq, data=track.packed()))


def kept_tracks(database: Database, seqs: Sequence[int]) -> dict[int, Track]:
    """Return the tracks of files by `seq`; those that have none, or one of another version, are left out."""
    table = tables.journal_tracks
    with database.read() as connection:
        rows = connection.execute(select(table.c.file_seq, table.c.data).where(table.c.file_seq.in_(seqs))).all()
    read = ((int(row.file_seq), Track.unpacked(row.data)) for row in rows)
    return {seq: track for seq, track in read if track is not None}
