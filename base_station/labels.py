"""Verdicts become a data set: sound and log-mels with what they really were, and where they come from.

`manifest.csv` lists the sounds in the columns that `model_export` reads, `log_mels.csv` lists what the model saw of
every judged alert; both carry the provenance. A run into the same folder adds what is new and rewrites the lists.
"""

import csv
import io
import os
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from sqlalchemy import select

from agent.alert import LogMelImage
from agent.errors import ConfigError
from base_station import tables
from base_station.inbox import iso
from base_station.precision import FALSE, UNSURE
from base_station.sheets import plain_cells
from base_station.store import AlertEvent, Store
from base_station.verdicts import Verdict, Verdicts

TARGETS = ("chainsaw", "engine", "storm", "background", "machine", "other")
"""What a training clip can be for, as `model_export` knows it."""
LICENCE = "own recording"

_TRAINING = ("path", "dataset", "class", "target", "recording", "group", "fold", "seconds", "licence")
_PROVENANCE = (
    "alert_id", "device_id", "alert_label", "score", "verdict", "judge", "judged_utc", "chosen", "onset_utc",
    "onset_from", "level_dbfs", "latitude", "longitude",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What a folder got."""

    sounds: int
    log_mels: int
    left_out: int
    """Judged, but neither sound nor picture is here any more, or nobody was sure."""


def judged_ids(store: Store, device_id: str, since: datetime, until: datetime) -> list[str]:
    """Return the judged alerts of a device that began in a span of time."""
    alerts, revisions, verdicts = tables.alerts.c, tables.revisions.c, tables.verdicts.c
    judged = select(verdicts.seq).where(verdicts.alert_id == alerts.alert_id).exists()
    query = (
        select(alerts.alert_id)
        .join(tables.revisions, (revisions.alert_id == alerts.alert_id) & (revisions.revision == 0))
        .where(alerts.device_id == device_id, revisions.onset_utc >= since, revisions.onset_utc < until, judged)
        .order_by(alerts.seq)
    )
    with store.database.read() as connection:
        return list(connection.execute(query).scalars())


def export_labels(store: Store, folder: Path, alert_ids: Sequence[str] | None = None) -> Exported:
    """Write what was judged into a folder.

    Args:
        store: the database.
        folder: made if missing.
        alert_ids: only these; by default everything.

    Raises:
        ConfigError: the folder cannot be written.
    """
    known = Verdicts(store)
    latest = known.latest() if alert_ids is None else known.latest_of(alert_ids)
    verdicts = {verdict.alert_id: verdict for verdict in latest}
    sounds: list[dict[str, object]] = []
    pictures: list[dict[str, object]] = []
    left_out = 0
    try:
        for event in store.events_of(list(verdicts)):
            verdict = verdicts[event.alert_id]
            if verdict.verdict == UNSURE or event.drill:
                left_out += 1
                continue
            rows = _export_one(store, event, verdict, folder)
            left_out += not rows
            for row in rows:
                (sounds if str(row["path"]).endswith(".wav") else pictures).append(row)
        _write_list(folder / "manifest.csv", sounds)
        _write_list(folder / "log_mels.csv", pictures)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return Exported(sounds=len(sounds), log_mels=len(pictures), left_out=left_out)


def target_of(label: str, verdict: str, heard: str) -> tuple[str, str]:
    """Return what a judged alert is in a data set, and what it is for: its class and its target.

    A false alert of a saw that was a motorbike is a hard negative for the saw, and an engine.
    """
    kind = heard or (label if verdict != FALSE else f"not_{label}")
    if verdict != FALSE:
        return kind, label
    return kind, heard if heard in TARGETS and heard != label else "other"


def _export_one(store: Store, event: AlertEvent, verdict: Verdict, folder: Path) -> list[dict[str, object]]:
    kind, target = target_of(event.label, verdict.verdict, verdict.heard)
    shared = _provenance(event, verdict) | {
        "dataset": "station",
        "class": kind,
        "target": target,
        "recording": event.alert_id,
        # alerts of one device and day share their forest, and must not teach and test at once
        "group": f"{event.device_id}-{event.onset.utc:%Y%m%d}",
        "fold": "",
        "licence": LICENCE,
    }
    rows: list[dict[str, object]] = []
    clip = store.clip(event.alert_id)
    if clip is not None:
        path = f"{target}/{event.alert_id}.wav"
        _write(folder / path, clip)
        rows.append(shared | {"path": path, "seconds": _seconds(clip)})
    if event.log_mel_revision is not None:
        image = store.log_mel(event.alert_id, event.log_mel_revision)
        if image is not None:
            path = f"log_mel/{target}/{event.alert_id}.npz"
            _write(folder / path, _npz(image))
            rows.append(shared | {"path": path, "seconds": round(image.n_frames * image.hop_s, 3)})
    return rows


def _provenance(event: AlertEvent, verdict: Verdict) -> dict[str, object]:
    return {
        "alert_id": event.alert_id,
        "device_id": event.device_id,
        "alert_label": event.label,
        "score": event.score,
        "verdict": verdict.verdict,
        "judge": verdict.judge,
        "judged_utc": iso(verdict.at_utc),
        "chosen": verdict.chosen,
        "onset_utc": iso(event.onset.utc),
        "onset_from": event.onset.source,
        "level_dbfs": event.level_dbfs,
        "latitude": event.latitude,
        "longitude": event.longitude,
    }


def _seconds(clip: bytes) -> float | None:
    try:
        with wave.open(io.BytesIO(clip)) as sound:
            seconds: float = sound.getnframes() / sound.getframerate()
            return round(seconds, 3)
    except (wave.Error, EOFError, ZeroDivisionError):
        return None


def _npz(image: LogMelImage) -> bytes:
    """Return the picture as numbers: natural-log power, shape (n_frames, n_mels), with what its axes mean."""
    frames = (image.pixels() * np.float32(image.step) + np.float32(image.low)).astype(np.float32)
    content = io.BytesIO()
    np.savez_compressed(
        content, log_mel=frames, hop_s=image.hop_s, mel_min_hz=image.mel_min_hz, mel_max_hz=image.mel_max_hz
    )
    return content.getvalue()


def _write_list(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, [*_TRAINING, *_PROVENANCE], lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain_cells(row) for row in sorted(rows, key=lambda row: str(row["path"])))
    _write(path, text.getvalue().encode())


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(path)
