"""What verdicts tell: how often alerts are right, with the interval, and which alert to ask about next.

Pure functions. Only alerts that were chosen at random say how often alerts are right in general; those chosen because
they were doubtful are wrong more often, and are counted apart.
"""

import bisect
import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TRUE, FALSE, UNSURE = "true", "false", "unsure"
VERDICTS = (TRUE, FALSE, UNSURE)
CHOSEN = ("random", "uncertain", "other")
"""How an alert came before its judge; `other`: somebody opened it by himself."""

_Z95 = 1.959964
_NEIGHBOURS = 20
_PRIOR = 4.0
"""Verdicts that the first guess weighs as much as."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What the latest verdict on an alert says of alerts like it."""

    label: str
    score: float
    verdict: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """How often alerts were right."""

    key: str
    right: int
    wrong: int
    unsure: int
    """Not counted either way."""
    share: float | None
    """None where nothing was judged."""
    low: float
    high: float
    """Wilson's interval, 95 %."""


def wilson(right: int, total: int) -> tuple[float, float]:
    """Return the interval in which a share lies with 95 %, sensible also for few and for none."""
    if total == 0:
        return 0.0, 1.0
    share = right / total
    z2 = _Z95**2 / total
    centre = (share + z2 / 2) / (1 + z2)
    half = _Z95 * math.sqrt(share * (1 - share) / total + z2 / (4 * total)) / (1 + z2)
    # where all were right or none was, the end of the interval is the share itself and not a rounding beside it
    return (0.0 if right == 0 else max(0.0, centre - half)), (1.0 if right == total else min(1.0, centre + half))


def precisions(counts: Iterable[tuple[str, str, int]]) -> list[Precision]:
    """Return how often alerts were right, sorted by their key.

    Args:
        counts: key (a label, a device, a month), verdict, and how many alerts of that key have it.
    """
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for key, verdict, count in counts:
        groups[key][verdict] += count
    return [_precision(key, groups[key]) for key in sorted(groups)]


def _precision(key: str, verdicts: Counter[str]) -> Precision:
    right, wrong = verdicts[TRUE], verdicts[FALSE]
    low, high = wilson(right, right + wrong)
    return Precision(
        key=key,
        right=right,
        wrong=wrong,
        unsure=verdicts.total() - right - wrong,
        share=right / (right + wrong) if right + wrong else None,
        low=low,
        high=high,
    )


def chance(score: float, judged: Sequence[tuple[float, bool]]) -> float:
    """Return how likely an alert is right, by those of like score that were judged.

    Args:
        score: the alert's.
        judged: scores with whether they were right, sorted.
    """
    at = bisect.bisect_left(judged, (score, False))
    near = sorted(judged[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS], key=lambda each: abs(each[0] - score))
    near = near[:_NEIGHBOURS]
    # before anybody judged anything the score is the only guess there is
    return (_PRIOR * score + sum(right for _, right in near)) / (_PRIOR + len(near))


def by_uncertainty(waiting: Sequence[tuple[str, str, float]], judged: Sequence[Judged]) -> list[str]:
    """Return the ids of alerts, those first whose verdict would teach most.

    Args:
        waiting: id, label and score of alerts without a verdict.
        judged: what is known of others.
    """
    known: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for each in judged:
        if each.verdict != UNSURE:
            known[each.label].append((each.score, each.verdict == TRUE))
    for pairs in known.values():
        pairs.sort()
    # scores come in the few steps of the model's output bytes
    steps = {(label, score) for _, label, score in waiting}
    chances = {(label, score): chance(score, known[label]) for label, score in steps}
    doubt = {alert_id: abs(chances[label, score] - 0.5) for alert_id, label, score in waiting}
    return sorted(doubt, key=lambda alert_id: (doubt[alert_id], alert_id))


def at_random(alert_ids: Sequence[str], seed: str) -> list[str]:
    """Return ids in an order that has nothing to do with what they are, the same for the same seed."""
    return sorted(alert_ids, key=lambda alert_id: hashlib.sha256(f"{seed}:{alert_id}".encode()).digest())
