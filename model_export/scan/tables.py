"""What people open: CSV, Raven's selection tables, Audacity's label tracks, GeoJSON."""

import csv
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from model_export.scan.hear import Event, Heard
from model_export.scan.recorders import Origin

_RAVEN: Final = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"),
    *("Annotation", "Score"),
)
_EVENTS: Final = ("path", "label", "onset_s", "end_s", "raised_s", "score", "time", "latitude", "longitude")


def write(folder: Path, heard: Sequence[Heard], origins: Mapping[str, Origin], labels: Sequence[str]) -> list[Path]:
    """Write every table of a scan and return their paths.

    Args:
        folder: where they go.
        heard: all recordings, sorted by path.
        origins: when and where each was made.
        labels: that are reported, for the counts.
    """
    events = folder / "events.csv"
    with events.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_EVENTS)
        writer.writerows(_row(one, event, origins[one.path]) for one in heard for event in one.events)
    files = folder / "recordings.csv"
    with files.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "seconds", "start", *labels, "windows", "classified", "error"])
        writer.writerows(_counts(one, origins[one.path], labels) for one in heard)
    for one in heard:
        _write_labels(folder, one)
    geojson = folder / "events.geojson"
    geojson.write_text(json.dumps(_features(heard, origins), indent=1) + "\n", encoding="utf-8")
    return [events, files, geojson]


def _row(one: Heard, event: Event, origin: Origin) -> list[object]:
    place = ["" if value is None else value for value in (origin.latitude, origin.longitude)]
    times = [f"{value:.2f}" for value in (event.onset_s, event.end_s, event.raised_s)]
    return [one.path, event.label, *times, event.score, time_of(origin, event.onset_s), *place]


def _counts(one: Heard, origin: Origin, labels: Sequence[str]) -> list[object]:
    counts = [sum(event.label == label for event in one.events) for label in labels]
    return [one.path, f"{one.seconds:.2f}", time_of(origin, 0.0), *counts, one.windows, one.classified, one.error]


def time_of(origin: Origin, after_s: float) -> str:
    """Return the time so long after the start of a recording, ISO 8601; nothing where no time is known."""
    return "" if origin.start is None else (origin.start + timedelta(seconds=after_s)).isoformat(timespec="seconds")


def _write_labels(folder: Path, one: Heard) -> None:
    """Write a recording's events as Raven and as Audacity read them, under its own name."""
    raven = folder / "raven" / Path(one.path).with_suffix(".Table.1.selections.txt")
    audacity = folder / "audacity" / Path(one.path).with_suffix(".txt")
    for path, text in ((raven, raven_text(one.events)), (audacity, audacity_text(one.events))):
        if one.events:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        else:
            path.unlink(missing_ok=True)  # of a scan before


def raven_text(events: Sequence[Event]) -> str:
    """Return a selection table."""
    rows = [
        f"{number}\tSpectrogram 1\t1\t{event.onset_s:.3f}\t{event.end_s:.3f}\t0\t8000\t{event.label}\t{event.score:.4f}"
        for number, event in enumerate(events, 1)
    ]
    return "\n".join(["\t".join(_RAVEN), *rows]) + "\n"


def audacity_text(events: Sequence[Event]) -> str:
    """Return a label track."""
    return "".join(f"{event.onset_s:.6f}\t{event.end_s:.6f}\t{event.label} {event.score:.2f}\n" for event in events)


def _features(heard: Sequence[Heard], origins: Mapping[str, Origin]) -> dict[str, object]:
    """Return the events whose place is known, for a map."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [origins[one.path].longitude, origins[one.path].latitude]},
            "properties": {
                "label": event.label,
                "score": event.score,
                "recording": one.path,
                "onset_s": round(event.onset_s, 2),
                "time": time_of(origins[one.path], event.onset_s) or None,
            },
        }
        for one in heard
        if origins[one.path].has_place
        for event in one.events
    ]
    return {"type": "FeatureCollection", "features": features}
