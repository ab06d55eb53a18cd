"""When and where a recorder stood: from file names, and from what AudioMoth and Song Meter write into their files."""

import contextlib
import csv
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Final

_STAMP = re.compile(r"(?<!\d)(\d{8})[_T-](\d{6})(Z|[+-]\d{4})?")
_HEX = re.compile(r"[0-9A-F]{8}")
_PLACE = re.compile(r"\[?([+-]\d{1,2}\.\d+)[ ,_]?([+-]\d{1,3}\.\d+)\]?")
_COMMENT = re.compile(r"Recorded at (\d\d:\d\d:\d\d) (\d\d/\d\d/\d{4}) \(UTC([+-]\d{1,2}(?::\d\d)?)?\)")
_LARGEST_CHUNK: Final = 65_536
_MOST_CHUNKS: Final = 64
_EARLIEST = datetime(2010, 1, 1, tzinfo=UTC)
_LATEST = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """When a recording begins and where it was made, as far as it is known."""

    start: datetime | None = None
    """With a zone where the recorder says it; Song Meter's file names are in its own local time."""
    latitude: float | None = None
    longitude: float | None = None

    @property
    def has_place(self) -> bool:
        """Say whether it is known where."""
        return self.latitude is not None and self.longitude is not None


def origin_of(path: Path) -> Origin:
    """Return what is known of a recording: the file's own notes count most, then its name, then what lies beside it."""
    found = origin_of_name(path.stem)
    if path.suffix.lower() == ".wav":
        chunks = wav_notes(path)
        found = _with_comment(found, chunks.get("ICMT", ""))
        found = _with_guano(found, chunks.get("guan", ""))
    return found if found.has_place else _with_summary(found, path)


def origin_of_name(stem: str) -> Origin:
    """Return what a file name tells: `20240521_063000`, `PREFIX_20240521_063000`, old AudioMoth's `5E60AB12`."""
    found = Origin()
    if match := _STAMP.search(stem):
        found = Origin(start=_time(match[1] + match[2], "%Y%m%d%H%M%S", match[3], is_utc=match.start() == 0))
    elif _HEX.fullmatch(stem):
        start = datetime.fromtimestamp(int(stem, 16), UTC)
        found = Origin(start=start if _EARLIEST <= start <= _LATEST else None)
    if match := _PLACE.search(stem):
        found = _placed(found, match[1], match[2])
    return found


def wav_notes(path: Path) -> dict[str, str]:
    """Return the texts in a WAV file's chunks: `ICMT` (AudioMoth's comment), `guan` (GUANO); none if broken."""
    found: dict[str, str] = {}
    try:
        with path.open("rb") as file:
            if file.read(4) != b"RIFF":
                return {}
            file.seek(12)
            for _ in range(_MOST_CHUNKS):
                head = file.read(8)
                if len(head) < 8:
                    break
                size = int.from_bytes(head[4:], "little")
                at = file.tell()
                if head[:4] in (b"LIST", b"guan") and size <= _LARGEST_CHUNK:
                    found |= _texts(head[:4], file.read(size))
                file.seek(at + size + size % 2)
    except (OSError, ValueError):
        return found
    return found


def _texts(kind: bytes, content: bytes) -> dict[str, str]:
    if kind == b"guan":
        return {"guan": content.decode("utf-8", "replace").rstrip("\0")}
    found: dict[str, str] = {}
    at = 4
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        if content[at : at + 4] == b"ICMT":
            found["ICMT"] = content[at + 8 : at + 8 + size].decode("utf-8", "replace").rstrip("\0")
        at += 8 + size + size % 2
    return found


def _with_comment(found: Origin, text: str) -> Origin:
    match = _COMMENT.search(text)
    if not match:
        return found
    return replace(
        found, start=_time(f"{match[2]} {match[1]}", "%d/%m/%Y %H:%M:%S", match[3], is_utc=True) or found.start
    )


def _with_guano(found: Origin, text: str) -> Origin:
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    stamp, place = fields.get("Timestamp", "").strip(), fields.get("Loc Position", "").split()
    if stamp:
        with contextlib.suppress(ValueError):
            found = replace(found, start=datetime.fromisoformat(stamp))
    return _placed(found, *place) if len(place) == 2 else found


def _with_summary(found: Origin, path: Path) -> Origin:
    """Return a Song Meter's place from the `PREFIX_Summary.txt` that it writes beside its recordings."""
    match = _STAMP.search(path.stem)
    prefix = path.stem[: match.start()].rstrip("_") if match else ""
    for summary in sorted(path.parent.glob(f"{prefix}*_Summary.txt")) if prefix else []:
        try:
            with summary.open(newline="", encoding="utf-8", errors="replace") as file:
                rows = [row for row in csv.reader(file) if len(row) > 5]
        except OSError:
            continue
        for row in reversed(rows):
            north, east = (row[3].strip() or "N"), (row[5].strip() or "E")
            placed = _placed(found, _signed(row[2], north == "S"), _signed(row[4], east == "W"))
            if placed.has_place:
                return placed
    return found


def _signed(text: str, is_negative: bool) -> str:
    return f"-{text.strip()}" if is_negative else text.strip()


def _placed(found: Origin, latitude: str, longitude: str) -> Origin:
    try:
        north, east = float(latitude), float(longitude)
    except ValueError:
        return found
    if not (-90 <= north <= 90 and -180 <= east <= 180):
        return found
    return replace(found, latitude=north, longitude=east)


def _time(text: str, form: str, zone: str | None, *, is_utc: bool) -> datetime | None:
    try:
        start = datetime.strptime(text, form)  # noqa: DTZ007  # the zone comes next, if there is one
    except ValueError:
        return None
    if zone and zone != "Z":
        hours, minutes = int(zone[:3].rstrip(":")), int(zone[-2:]) if len(zone) > 3 else 0
        return start.replace(tzinfo=timezone(timedelta(hours=hours, minutes=-minutes if zone[0] == "-" else minutes)))
    return start.replace(tzinfo=UTC) if is_utc or zone == "Z" else start
