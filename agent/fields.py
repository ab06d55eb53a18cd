"""Reading untrusted mappings: every key known, every value of its kind and within bounds.

Configuration, manifests and the wire share this reader, so that each of them refuses bad input in the same
words: the dotted key, the value, what was expected.
"""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import cast

from agent.errors import FieldError

_LONGEST_SHOWN = 60
_WORD = re.compile(r"[A-Za-z0-9_-]{1,60}")
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Breaks a line of a log, or has no UTF-8: paths, databases and terminals refuse it or worse."""


def shown(value: object) -> str:
    """Return a value as it may stand in an error line: one line, bounded."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists a thousand deep
        return f"{type(value).__name__} of great size"
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


class Fields:
    """A mapping that is read key by key and knows at the end which keys nobody asked for."""

    def __init__(self, value: object, path: str = "") -> None:
        """Wrap `value`, which must be a mapping with text keys; `path` is its own dotted name."""
        self._path = path
        if not isinstance(value, Mapping):
            raise FieldError(path or "document", f"is {shown(value)}, expected a mapping")
        mapping = cast("Mapping[object, object]", value)
        for key in mapping:
            if not isinstance(key, str):
                raise FieldError(path or "document", f"has the key {shown(key)}, expected text")
        self._mapping = cast("Mapping[str, object]", mapping)
        self._asked: set[str] = set()

    def name(self, key: str) -> str:
        """Return the dotted name of a key, as errors write it."""
        word = key if _WORD.fullmatch(key) else shown(key)
        return f"{self._path}.{word}" if self._path else word

    def has(self, key: str) -> bool:
        """Say whether the key is there with a value other than null."""
        self._asked.add(key)
        return self._mapping.get(key) is not None

    def raw(self, key: str) -> object:
        """Return the value as it stands; FieldError if the key is missing."""
        self._asked.add(key)
        if key not in self._mapping:
            raise FieldError(self.name(key), "is missing")
        return self._mapping[key]

    def text(self, key: str, *, longest: int = 200, shortest: int = 0) -> str:
        """Return a string of bounded length, without control characters."""
        value = self.raw(key)
        if not isinstance(value, str) or not shortest <= len(value) <= longest:
            raise FieldError(self.name(key), f"is {shown(value)}, expected text of {shortest} to {longest} characters")
        if _UNFIT.search(value):
            raise FieldError(self.name(key), f"is {shown(value)}, expected text without control characters")
        return value

    def choice(self, key: str, allowed: Sequence[str]) -> str:
        """Return one of a few words."""
        value = self.raw(key)
        if not isinstance(value, str) or value not in allowed:
            raise FieldError(self.name(key), f"is {shown(value)}, expected one of {', '.join(allowed)}")
        return value

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self.raw(key)
        if not isinstance(value, bool):
            raise FieldError(self.name(key), f"is {shown(value)}, expected true or false")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """Return a whole number in [low, high]."""
        value = self.raw(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise FieldError(self.name(key), f"is {shown(value)}, expected a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float) -> float:
        """Return a finite number in [low, high] as a float."""
        value = self.raw(key)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high  # first: a whole number of 400 digits is no float
            or not math.isfinite(value)
        ):
            raise FieldError(self.name(key), f"is {shown(value)}, expected a number from {low:g} to {high:g}")
        return float(value)

    def sub(self, key: str) -> "Fields":
        """Return a mapping inside this one."""
        return Fields(self.raw(key), self.name(key))

    def mapping(self, key: str) -> Mapping[str, object]:
        """Return a mapping with text keys; its values are not looked at."""
        return self.sub(key)._mapping

    def sequence(self, key: str, *, longest: int = 1000) -> Sequence[object]:
        """Return a list of bounded length; its members are not looked at."""
        value = self.raw(key)
        members = cast("list[object]", value) if isinstance(value, list) else None
        if members is None or len(members) > longest:
            raise FieldError(self.name(key), f"is {shown(self.raw(key))}, expected a list of at most {longest}")
        return members

    def texts(self, key: str, *, longest: int = 100) -> tuple[str, ...]:
        """Return a list of strings, without control characters."""
        members = self.sequence(key, longest=longest)
        for member in members:
            if not isinstance(member, str) or _UNFIT.search(member):
                raise FieldError(self.name(key), f"holds {shown(member)}, expected text")
        return tuple(cast("Sequence[str]", members))

    def all_keys(self) -> tuple[str, ...]:
        """Return all keys, for mappings whose keys are data (labels, say); they count as asked for."""
        self._asked.update(self._mapping)
        return tuple(self._mapping)

    def done(self) -> None:
        """Raise FieldError if a key was never asked for: a mistyped key must not pass in silence."""
        for key in self._mapping:
            if key not in self._asked:
                near = difflib.get_close_matches(key, self._asked, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(self._asked))}"
                raise FieldError(self.name(key), f"is not a known key; {hint}")
