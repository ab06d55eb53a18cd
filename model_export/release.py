"""May this recipe replace the shipped one? Not where it is worse on a headline figure, beyond chance.

Both were cross-validated on the same tracks, so they are compared event by event: recordings are drawn again and
again, and each drawing gives the difference of the two recalls. A figure is worse where the whole 95 % interval of the
difference lies below zero. False alerts are compared by their pooled counts, recording by recording of what was heard.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from model_export.errors import DataError
from model_export.evaluation import Evaluation, Judged
from model_export.scoring import ALERTED, Interval
from model_export.summary import levels

_ROUNDS: Final = 4_000
_FALSE_ON: Final = ("background", "confusers")


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One headline figure of the candidate less that of the shipped recipe; above zero is better."""

    name: str
    shipped: float
    candidate: float
    difference: Interval

    @property
    def is_worse(self) -> bool:
        """Say whether the candidate is worse beyond chance."""
        return self.difference.high < 0


def compare(shipped: Evaluation, candidate: Evaluation, *, seed: int = 1) -> list[Difference]:
    """Return the difference of every headline figure.

    Raises:
        DataError: the two were not judged on the same events.
    """
    found = [_recall(shipped, candidate, role, level, seed) for role, level in levels(shipped.tracks)]
    found += [_false(shipped, candidate, label, on, seed) for label in ALERTED for on in _FALSE_ON]
    return found


def _recall(shipped: Evaluation, candidate: Evaluation, role: str, level: str, seed: int) -> Difference:
    old, new = (_hits(one.tracks, role, level) for one in (shipped, candidate))
    if old.keys() != new.keys():
        raise DataError(
            f"{role} {level}: the two evaluations are not of the same events ({len(old)} and {len(new)}); "
            "cross-validate both on the same recordings"
        )
    keys = sorted(old)
    per_recording: dict[str, tuple[float, float]] = {}
    for key in keys:
        better, count = per_recording.get(key[0], (0.0, 0.0))
        per_recording[key[0]] = (better + new[key] - old[key], count + 1)
    return Difference(
        name=f"recall of {role} {level}",
        shipped=float(np.mean([old[key] for key in keys])),
        candidate=float(np.mean([new[key] for key in keys])),
        difference=bootstrap(list(per_recording.values()), seed),
    )


def _hits(tracks: Sequence[Judged], role: str, level: str) -> dict[tuple[str, int, float], bool]:
    return {
        (event.recording, track.fold, event.onset_s): event.delay_s is not None
        for track in tracks
        if track.role == role and track.level == level
        for event in track.events
    }


def _false(shipped: Evaluation, candidate: Evaluation, label: str, on: str, seed: int) -> Difference:
    old, new = (_counts(one.tracks, label, on) for one in (shipped, candidate))
    hours = sum(track.duration_s for track in shipped.tracks if track.role == on) / 3_600
    # what raised nothing for either is a place of its own all the same: it is drawn too
    quiet = max(1, round(hours * 3_600 / 12)) - len(old.keys() | new.keys())
    pairs = [(float(old.get(name, 0) - new.get(name, 0)), 0.0) for name in sorted(old.keys() | new.keys())]
    pairs += [(0.0, 0.0)] * max(0, quiet)
    share = hours / len(pairs)
    return Difference(
        name=f"fewer false {label} alerts an hour on {on}",
        shipped=sum(old.values()) / hours,
        candidate=sum(new.values()) / hours,
        difference=bootstrap([(gain, share) for gain, _ in pairs], seed),
    )


def _counts(tracks: Sequence[Judged], label: str, on: str) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for track in tracks:
        if track.role == on:
            for alert in track.false:
                if alert.label == label:
                    name = alert.source or f"{track.fold} {alert.at_s // 60:.0f}"
                    counts[name] = counts.get(name, 0) + 1
    return counts


def bootstrap(pairs: Sequence[tuple[float, float]], seed: int) -> Interval:
    """Return sum of gains over sum of sizes, with its interval over units drawn with replacement.

    Args:
        pairs: (gain, size) of each unit: a recording, a place.
        seed: of the drawing.
    """
    values = np.array(pairs, np.float64)  # (n_units, 2)
    picks = np.random.default_rng(seed).integers(len(values), size=(_ROUNDS, len(values)))
    sums = values[picks].sum(axis=1)
    low, high = np.percentile(sums[:, 0] / sums[:, 1], [2.5, 97.5])
    gain, size = values.sum(axis=0)
    return Interval(value=float(gain / size), low=float(low), high=float(high))


def report(differences: Sequence[Difference]) -> str:
    """Return the comparison as Markdown."""
    lines = ["| figure | shipped | candidate | difference (95 % interval) | |", "|---|---|---|---|---|"]
    for one in differences:
        verdict = "**worse**" if one.is_worse else "better" if one.difference.low > 0 else ""
        interval = f"{one.difference.value:+.3f} ({one.difference.low:+.3f} to {one.difference.high:+.3f})"
        lines.append(f"| {one.name} | {one.shipped:.3f} | {one.candidate:.3f} | {interval} | {verdict} |")
    return "\n".join(lines)
