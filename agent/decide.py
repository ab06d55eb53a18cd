"""When the model's answers become an alert: k of n windows, or many that lean one way; hysteresis and a refractory.

A clear saw is raised by a few high windows within seconds. A saw of which no window is sure is raised by lasting: the
mean of the log-odds over a longer while, which a bird or a creaking door does not keep up.

The decider reads three things only: the model's output bytes, whether the gate passed the window, and the sample
clock. The journal keeps exactly these, so that any night can be decided again with other rules.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from agent.errors import FieldError
from agent.fields import Fields

Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]
Bool = NDArray[np.bool_]

LARGEST_REFRACTORY_S = 30.0
LOWEST_LOG_ODDS = -4.0
"""What a window can say against a label at most: as much as one that was gated out, or lost."""
_HIGHEST_LOG_ODDS = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelRule:
    """The operating point of one label; evaluation chooses it and the manifest carries it."""

    alert: bool = True
    """Whether the label is reported; others are heard and kept in the journal alone."""
    threshold: float = 0.8
    """Score at which a window is a hit."""
    release: float = 0.6
    """Score that keeps an open event open."""
    hits: int = 2
    """Hits..."""
    of: int = 3
    """...among this many recent windows open an event; a window that was gated out is no hit."""
    steady: float = 1.0
    """Score whose log-odds the mean of the last windows must reach to open an event as well; 1: none opens so."""
    steady_of: int = 8
    """How many windows that mean is of; one that was gated out says as much against the label as any can."""
    refractory_s: float = 30.0
    """Seconds from one alert in which the label raises no other."""
    close_after_s: float = 6.0
    """Seconds without a window at `release` that close an event."""
    longest_s: float = 600.0
    """Seconds after which an event is closed though it goes on, so that a sound that never ends hides no other."""

    def __post_init__(self) -> None:
        """Refuse what could never raise an alert, or never stop raising one."""
        if not 1 <= self.hits <= self.of:
            raise FieldError("hits", f"is {self.hits}, expected 1 to of = {self.of}")
        if not 0 < self.release <= self.threshold < 1:
            raise FieldError(
                "release", f"is {self.release:g}, expected above 0 and at most threshold = {self.threshold:g}"
            )
        if self.release > self.steady:
            raise FieldError("release", f"is {self.release:g}, expected at most steady = {self.steady:g}")

    @property
    def looks_at(self) -> int:
        """Return how many windows the rule looks back on."""
        return max(self.of, self.steady_of) if self.steady < 1 else self.of

    @classmethod
    def parse(cls, fields: Fields) -> "LabelRule":
        """Read one label's rule; FieldError names what is wrong."""
        values = {
            "alert": fields.flag("alert"),
            "threshold": fields.number("threshold", 0.001, 0.9999),
            "release": fields.number("release", 0.001, 0.9999),
            "hits": fields.integer("hits", 1, 100),
            "of": fields.integer("of", 1, 100),
            # a manifest from before there was such a thing has none
            "steady": fields.number("steady", 0.05, 1) if fields.has("steady") else 1.0,
            "steady_of": fields.integer("steady_of", 1, 100) if fields.has("steady_of") else 8,
            "refractory_s": fields.number("refractory_s", 0, LARGEST_REFRACTORY_S),
            "close_after_s": fields.number("close_after_s", 0, 600),
            "longest_s": fields.number("longest_s", 1, 86_400),
        }
        fields.done()
        try:
            return cls(**values)  # type: ignore[arg-type]  # a dict of mixed kinds, each checked above
        except FieldError as error:
            raise FieldError(fields.name(error.key), error.problem) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """The decider's verdict: an event opened or closed."""

    label: str
    opens: bool
    """True at the opening; the closing of the same event follows."""
    onset: int
    """Sample clock at which the event began, as well as strides can tell."""
    raised: int
    """Sample clock of the end of the deciding window."""
    score: float
    """Highest score so far."""
    alert: bool
    """Whether the label's rule wants it reported."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How near to an alert one label is after a window, and what holds it back."""

    is_open: bool
    """An event is open: its alert has been raised already."""
    refractory: int
    """Samples left of the silence after the last alert."""
    hits: int
    """Hits among the last `of` windows."""
    mean: float | None
    """Score whose log-odds are the mean of the last `steady_of` windows; None where the rule asks for no mean."""
    enough: bool
    """Hits or mean would open an event now, were it not for the refractory time."""


@dataclass(slots=True)
class _LabelState:
    """What the decider remembers of one label."""

    recent: deque[tuple[int, int]]
    """(end, output) of the last windows, as many as the rule looks at; a gated-out window is below every hit."""
    quiet_from: int = 0
    """Sample clock of the last window that kept the event open."""
    raised: int | None = None
    """Sample clock of the last alert."""
    onset: int | None = None
    """Set while an event is open."""
    peak: int = -129


@dataclass(frozen=True, slots=True)
class _Bounds:
    """A rule in the decider's own units: output bytes and samples."""

    threshold: int
    release: int
    steady: float
    """Sum of log-odds."""
    refractory: int
    close_after: int
    longest: int


MISS = -129
"""Output of a window that the model did not see; below every int8."""
_ROUNDING = 1e-9  # of a sum of a hundred log-odds...
_CUMULATED = 1e-4  # ...and of the difference of two sums of millions


@dataclass(slots=True)
class Decider:
    """Windows in, detections out, one state per label."""

    labels: Sequence[str]
    rules: Mapping[str, LabelRule]
    scores: NDArray[np.float64]
    """Score of each output byte, shape (256,), rising; index = byte + 128."""
    stride: int
    """Samples between two windows."""
    sample_rate: int
    _states: dict[str, _LabelState] = field(init=False)
    _bounds: dict[str, _Bounds] = field(init=False)
    _log_odds: Sequence[float] = field(init=False)
    """Of each output byte, and last of a window that nobody heard: so that the index -1 finds it."""
    _last_end: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Turn scores into bytes and seconds into samples, once."""
        self._states = {label: _LabelState(deque(maxlen=self.rules[label].looks_at)) for label in self.labels}
        self._bounds = {label: self._bounds_of(self.rules[label]) for label in self.labels}
        self._log_odds = (*(_log_odds(float(score)) for score in self.scores), LOWEST_LOG_ODDS)

    def _bounds_of(self, rule: LabelRule) -> _Bounds:
        return _Bounds(
            threshold=int(np.searchsorted(self.scores, rule.threshold)) - 128,
            release=int(np.searchsorted(self.scores, rule.release)) - 128,
            steady=_log_odds(rule.steady) * rule.steady_of if rule.steady < 1 else math.inf,
            refractory=round(rule.refractory_s * self.sample_rate),
            close_after=round(rule.close_after_s * self.sample_rate),
            longest=round(rule.longest_s * self.sample_rate),
        )

    @property
    def is_open(self) -> bool:
        """Say whether an event is open that would be reported."""
        return any(state.onset is not None and self.rules[label].alert for label, state in self._states.items())

    @property
    def leans(self) -> bool:
        """Say whether an event is open, or one of the windows looked back on was high enough to keep one open."""
        return self.is_open or any(
            output >= self._bounds[label].release
            for label, state in self._states.items()
            if self.rules[label].alert
            for _, output in state.recent
        )

    def push(self, end: int, outputs: Int8 | None) -> list[Detection]:
        """Take one window and return what it decided.

        Args:
            end: sample clock of the window's end; must rise.
            outputs: the model's bytes, shape (n_labels,), or None for a window that was gated out.
        """
        # lost audio is windows that nobody heard: they count as misses
        lost = 0 if self._last_end is None else max(0, (end - self._last_end) // self.stride - 1)
        self._last_end = end
        detections: list[Detection] = []
        for label_idx, label in enumerate(self.labels):
            state = self._states[label]
            state.recent.extend([(end, MISS)] * min(lost, self.rules[label].looks_at))
            output = MISS if outputs is None else int(outputs[label_idx])
            state.recent.append((end, output))
            detection = self._decide(label, state, end, output)
            if detection is not None:
                detections.append(detection)
        return detections

    @property
    def looks_at(self) -> int:
        """Return how many windows the rules of reported labels look back on at most."""
        return max((self.rules[label].looks_at for label in self.labels if self.rules[label].alert), default=1)

    def could_open(self, outputs: Int16) -> Bool:
        """Say at which windows an event that is reported could open, so that quiet hours need not be pushed.

        While none is open, a window changes nothing later than `looks_at` windows on. Lost audio, the refractory time
        and what closed before only hold events back: at a window that is not named here none opens.

        Args:
            outputs: the model's bytes, shape (n_windows, n_labels), MISS where it did not see the window.

        Returns:
            Shape (n_windows,).
        """
        could = np.zeros(len(outputs), np.bool_)
        log_odds = np.array(self._log_odds)
        for label_idx, label in enumerate(self.labels):
            rule, bounds, column = self.rules[label], self._bounds[label], outputs[:, label_idx].astype(np.intp)
            if not rule.alert:
                continue
            could |= _recent_sum((column >= bounds.threshold).astype(np.float64), rule.of) >= rule.hits - 0.5
            if bounds.steady != math.inf:
                above = log_odds[column + 128] - LOWEST_LOG_ODDS  # a window that has not come yet adds nothing
                least = bounds.steady - LOWEST_LOG_ODDS * rule.steady_of
                could |= _recent_sum(above, rule.steady_of) >= least - _CUMULATED
        return could

    def standing(self, label: str) -> Standing:
        """Return how near to an alert a label is after the last window; changes nothing."""
        state, rule, bounds = self._states[label], self.rules[label], self._bounds[label]
        end = self._last_end or 0
        left = 0 if state.raised is None else state.raised + bounds.refractory - end
        mean = None if bounds.steady == math.inf else self._log_odds_sum(state, rule) / rule.steady_of
        return Standing(
            is_open=state.onset is not None,
            refractory=max(0, left),
            hits=len(self._hits(state, rule, bounds)),
            mean=None if mean is None else 1.0 / (1.0 + math.exp(-mean)),
            enough=bool(self._openers(state, rule, bounds)),
        )

    def finish(self, end: int) -> list[Detection]:
        """Close what is open at the end of the audio."""
        return [self._close(label, state, end) for label, state in self._states.items() if state.onset is not None]

    def _decide(self, label: str, state: _LabelState, end: int, output: int) -> Detection | None:
        bounds = self._bounds[label]
        if state.onset is None:
            return self._open(label, state, end)
        # the window before this one may have been lost: lost audio closes an event as quiet does
        if output >= bounds.release and end - self.stride - state.quiet_from < bounds.close_after:
            state.quiet_from = end
            state.peak = max(state.peak, output)
        if end - state.quiet_from >= bounds.close_after or end - state.onset >= bounds.longest:
            return self._close(label, state, end)
        return None

    def _open(self, label: str, state: _LabelState, end: int) -> Detection | None:
        bounds, rule = self._bounds[label], self.rules[label]
        if state.raised is not None and end - state.raised < bounds.refractory:
            return None
        hits = self._openers(state, rule, bounds)
        if not hits:
            return None
        state.onset = max(0, hits[0][0] - self.stride)
        state.raised = state.quiet_from = end
        state.peak = max(output for _, output in hits)
        return self._detection(label, state, end, opens=True)

    def _openers(self, state: _LabelState, rule: LabelRule, bounds: _Bounds) -> list[tuple[int, int]]:
        """Return the windows that open an event: enough hits, or those behind a steady mean; none where none does."""
        hits = self._hits(state, rule, bounds)
        return hits if len(hits) >= rule.hits else self._steady(state, rule, bounds)

    @staticmethod
    def _hits(state: _LabelState, rule: LabelRule, bounds: _Bounds) -> list[tuple[int, int]]:
        skipped = max(0, len(state.recent) - rule.of)
        return [window for window in islice(state.recent, skipped, None) if window[1] >= bounds.threshold]

    def _log_odds_sum(self, state: _LabelState, rule: LabelRule) -> float:
        """Return the sum over the last `steady_of` windows; one that has not come yet says as little as a lost one."""
        recent = list(state.recent)[-rule.steady_of :]
        total = sum(self._log_odds[output + 128] for _, output in recent)
        return total + LOWEST_LOG_ODDS * (rule.steady_of - len(recent))

    def _steady(self, state: _LabelState, rule: LabelRule, bounds: _Bounds) -> list[tuple[int, int]]:
        """Return the windows that say so, where the last ones lean to the label by their mean; else none."""
        if bounds.steady == math.inf:
            return []
        if self._log_odds_sum(state, rule) < bounds.steady - _ROUNDING:
            return []
        recent = list(state.recent)[-rule.steady_of :]
        # the highest is at least the mean, and the mean at least the release: there is one
        return [window for window in recent if window[1] >= bounds.release]

    def _close(self, label: str, state: _LabelState, end: int) -> Detection:
        detection = self._detection(label, state, end, opens=False)
        state.onset = None
        state.recent.clear()
        return detection

    def _detection(self, label: str, state: _LabelState, end: int, *, opens: bool) -> Detection:
        assert state.onset is not None
        return Detection(
            label=label,
            opens=opens,
            onset=state.onset,
            raised=end,
            score=float(self.scores[state.peak + 128]),
            alert=self.rules[label].alert,
        )


def _recent_sum(values: NDArray[np.float64], of: int) -> NDArray[np.float64]:
    """Return for each value the sum of it and those before it, `of` in all; shape (n,)."""
    sums: NDArray[np.float64] = np.concatenate([np.zeros(of), np.cumsum(values)])
    return np.subtract(sums[of:], sums[:-of])


def _log_odds(score: float) -> float:
    if score <= 0:
        return LOWEST_LOG_ODDS
    if score >= 1:
        return _HIGHEST_LOG_ODDS
    return min(max(math.log(score / (1 - score)), LOWEST_LOG_ODDS), _HIGHEST_LOG_ODDS)
