"""What commands and messages say in English."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from base_station import words

NOW = datetime(2026, 11, 20, 3, 0, 0, tzinfo=UTC)
MANAUS = timezone(timedelta(hours=-4))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.9, "60 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (172_800, "2 days"), (-5, "0 s")],
)
def test_spans(seconds, said):
    assert words.span(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(-90, "just now"), (4, "just now"), (44, "40 s ago"), (61, "1 min ago"), (7300, "2 h ago")]
)
def test_how_long_ago(seconds, said):
    assert words.ago(NOW - timedelta(seconds=seconds), NOW) == said


def test_local_time_names_the_day_only_where_it_is_another_one():
    assert words.ENGLISH.moment(NOW - timedelta(minutes=5), NOW, MANAUS) == "22:55:00"
    assert words.ENGLISH.moment(NOW - timedelta(hours=24), NOW, MANAUS) == "18 Nov 23:00"
    assert words.ENGLISH.moment(NOW - timedelta(days=365), NOW, MANAUS) == "19 Nov 2025 23:00"


def test_places_are_said_by_hemisphere():
    assert words.place(-3.1, -60.025) == "3.10000° S, 60.02500° W"
    assert words.place(1.0, 103.5) == "1.00000° N, 103.50000° E"


def test_labels_that_nobody_knows_are_still_words():
    assert words.label_name("chainsaw") == "Chainsaw"
    assert words.label_name("gun_shot") == "Gun shot"


def test_numbers_have_a_real_minus_and_none_before_zero():
    assert words.minus(-31.46, 1) == "−31.5"
    assert words.minus(-0.04, 1) == "0.0"
    assert words.ENGLISH.plural("{count} day", "{count} days", 1) == "1 day"
    assert words.ENGLISH.number(1234567) == "1,234,567"
