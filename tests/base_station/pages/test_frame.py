"""The frame of every page and the way in, in a real browser."""

import pytest

from tests.base_station.pages.conftest import PHONE
from tests.base_station.pages.test_devices import PASSWORD, ground  # noqa: F401  # a fixture
from tests.base_station.test_accounts import quick_hashes  # noqa: F401  # a fixture

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_an_empty_station_says_what_to_do_next_and_looks_right_everywhere(start_station, looked_at):
    station = start_station()
    looked_at(station.url, "/", "empty", wait=lambda page: page.get_by_text("device add").wait_for())


def test_the_way_in_looks_right_everywhere_and_leads_back_to_where_one_wanted_to_go(
    ground, start_station, looked_at, visit  # noqa: F811
):  # fmt: skip
    ground.people()
    station = start_station(data=ground.data)
    looked_at(station.url, "/login", "login", wait=lambda page: page.locator("main.login input[name=name]").wait_for())
    tab = visit(station.url, "/devices", width=PHONE)
    tab.page.locator("main.login input[name=name]").fill("Maria")
    for password in ("wrong", PASSWORD):
        tab.page.locator("main.login input[type=password]").fill(password)
        tab.page.keyboard.press("Enter")
        if password == "wrong":
            tab.page.locator("main.login [role=alert]").wait_for()
            assert tab.page.locator("main.login input[name=name]").input_value() == "Maria"
    tab.page.wait_for_url("**/devices")
    tab.page.locator("h1", has_text="Devices").wait_for()
