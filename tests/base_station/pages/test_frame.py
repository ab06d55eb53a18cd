"""The frame of every page, in a real browser."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_an_empty_station_says_what_to_do_next_and_looks_right_everywhere(start_station, looked_at):
    station = start_station()
    looked_at(station.url, "/", "empty", wait=lambda page: page.get_by_text("device add").wait_for())
