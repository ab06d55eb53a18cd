"""The reader of untrusted mappings: what it takes, and that it refuses the rest in one line that names the key."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import FieldError
from agent.fields import Fields, shown

HUGE = 16**5000
"""A number that Python refuses to write in decimal."""

DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)

READERS: dict[str, Callable[[Fields], object]] = {
    "raw": lambda fields: fields.raw("key"),
    "text": lambda fields: fields.text("key", longest=10),
    "choice": lambda fields: fields.choice("key", ("a", "b")),
    "flag": lambda fields: fields.flag("key"),
    "integer": lambda fields: fields.integer("key", -5, 5),
    "number": lambda fields: fields.number("key", -5, 5),
    "sub": lambda fields: fields.sub("key"),
    "mapping": lambda fields: fields.mapping("key"),
    "sequence": lambda fields: fields.sequence("key", longest=3),
    "texts": lambda fields: fields.texts("key", longest=3),
}

BAD = [
    pytest.param("text", 5, "is 5, expected text of 0 to 10 characters", id="text: a number"),
    pytest.param("text", "x" * 11, "expected text of 0 to 10 characters", id="text: long"),
    pytest.param("text", "a\nb", r"is 'a\nb', expected text without control characters", id="text: two lines"),
    pytest.param("text", "a\0b", "expected text without control characters", id="text: NUL"),
    pytest.param("text", "\ud800", "expected text without control characters", id="text: lone surrogate"),
    pytest.param("choice", "c", "is 'c', expected one of a, b", id="choice: another word"),
    pytest.param("choice", ["a"], "is ['a'], expected one of a, b", id="choice: a list"),
    pytest.param("flag", 1, "is 1, expected true or false", id="flag: a number"),
    pytest.param("flag", "yes", "is 'yes', expected true or false", id="flag: a word"),
    pytest.param("integer", True, "is True, expected a whole number from -5 to 5", id="integer: a flag"),
    pytest.param("integer", 1.0, "is 1.0, expected a whole number from -5 to 5", id="integer: a fraction"),
    pytest.param("integer", 6, "is 6, expected a whole number from -5 to 5", id="integer: large"),
    pytest.param("integer", HUGE, "is int of great size, expected a whole number", id="integer: huge"),
    pytest.param("number", False, "is False, expected a number from -5 to 5", id="number: a flag"),
    pytest.param("number", "1", "is '1', expected a number from -5 to 5", id="number: a word"),
    pytest.param("number", -5.1, "is -5.1, expected a number from -5 to 5", id="number: small"),
    pytest.param("number", math.nan, "is nan, expected a number from -5 to 5", id="number: none"),
    pytest.param("number", math.inf, "is inf, expected a number from -5 to 5", id="number: endless"),
    pytest.param("number", HUGE, "is int of great size, expected a number", id="number: huge"),
    pytest.param("sub", [1], "is [1], expected a mapping", id="sub: a list"),
    pytest.param("sub", {1: 2}, "has the key 1, expected text", id="sub: keys that are no text"),
    pytest.param("mapping", None, "is None, expected a mapping", id="mapping: null"),
    pytest.param("sequence", "abc", "is 'abc', expected a list of at most 3", id="sequence: text"),
    pytest.param("sequence", [1, 2, 3, 4], "is [1, 2, 3, 4], expected a list of at most 3", id="sequence: long"),
    pytest.param("texts", ["a", 2], "holds 2, expected text", id="texts: a number"),
    pytest.param("texts", ["a\nb"], r"holds 'a\nb', expected text", id="texts: two lines"),
]


@pytest.mark.parametrize(("reader", "value", "problem"), BAD)
def test_a_bad_value_is_refused_by_name(reader: str, value: object, problem: str) -> None:
    fields = Fields({"key": value}, "part")
    with pytest.raises(FieldError) as caught:
        READERS[reader](fields)
    assert caught.value.key == "part.key"
    assert problem in caught.value.problem
    assert str(caught.value) == f"part.key: {caught.value.problem}"


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_key_is_named(reader: str) -> None:
    with pytest.raises(FieldError, match=r"^part\.key: is missing$"):
        READERS[reader](Fields({}, "part"))


@pytest.mark.parametrize(
    "document", [None, [], "text", 5, HUGE, DEEP], ids=["null", "list", "text", "5", "huge", "deep"]
)
def test_what_is_no_mapping_is_no_document(document: object) -> None:
    with pytest.raises(FieldError, match=r"^document: is .*, expected a mapping$"):
        Fields(document)


def test_good_values_come_back_as_they_are() -> None:
    fields = Fields(
        {"text": "ñandú 3", "choice": "b", "flag": False, "integer": -5, "number": 5, "list": [1, None], "words": ["a"]}
    )
    assert fields.text("text") == "ñandú 3"
    assert fields.choice("choice", ("a", "b")) == "b"
    assert fields.flag("flag") is False
    assert fields.integer("integer", -5, 5) == -5
    assert isinstance(fields.number("number", 0, 5), float)
    assert fields.sequence("list") == [1, None]
    assert fields.texts("words") == ("a",)
    fields.done()


def test_null_is_not_there_but_known() -> None:
    fields = Fields({"null": None, "zero": 0})
    assert not fields.has("null")
    assert not fields.has("nothing")
    assert fields.has("zero")
    fields.done()


def test_a_mistyped_key_gets_a_hint() -> None:
    fields = Fields({"treshold": 0.5}, "rules.chainsaw")
    fields.has("threshold")
    with pytest.raises(FieldError, match=r"^rules\.chainsaw\.treshold: is not a known key; did you mean threshold\?$"):
        fields.done()


def test_a_strange_key_gets_the_known_ones() -> None:
    fields = Fields({"zzz": 1})
    fields.has("urls")
    fields.has("heartbeat_s")
    with pytest.raises(FieldError, match=r"^zzz: is not a known key; known: heartbeat_s, urls$"):
        fields.done()


def test_keys_that_are_data_count_as_asked_for() -> None:
    fields = Fields({"chainsaw": 1, "engine": 2})
    assert fields.all_keys() == ("chainsaw", "engine")
    fields.done()


def test_nested_names_are_dotted() -> None:
    with pytest.raises(FieldError) as caught:
        Fields({"a": {"b": {"c": 1}}}).sub("a").sub("b").flag("c")
    assert caught.value.key == "a.b.c"


@given(key=st.text(max_size=200), value=ANYTHING, reader=st.sampled_from(sorted(READERS)))
def test_every_answer_is_a_value_or_one_bounded_line(key: str, value: object, reader: str) -> None:
    fields = Fields({key: value, "key": value}, "part")
    try:
        READERS[reader](fields)
        fields.done()
    except FieldError as error:
        line = str(error)
        assert line.splitlines() == [line]
        assert len(line) < 400
        line.encode()


@given(ANYTHING)
def test_shown_is_one_bounded_line(value: object) -> None:
    text = shown(value)
    assert text.splitlines() == [text]
    assert len(text) <= 60


def test_shown_survives_what_cannot_be_written() -> None:
    assert shown(HUGE) == "int of great size"
    assert shown(DEEP) == "list of great size"
    assert shown("x" * 100) == "'" + "x" * 58 + "…"
