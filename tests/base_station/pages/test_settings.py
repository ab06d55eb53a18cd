"""The settings in a real browser: a rule whose test message arrives, people, tokens, and who may not."""

import re
import subprocess
import sys

import httpx
import pytest

from tests.base_station.pages.conftest import PHONE
from tests.base_station.test_notices import server

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PASSWORD = "a quiet forest"


def add_person(station, name: str, role: str) -> None:
    command = [sys.executable, "-m", "base_station", "user", "add", name, "--role", role, "--data", str(station.data)]
    subprocess.run(command, input=PASSWORD, text=True, check=True, capture_output=True)


def log_in(tab, name: str) -> None:
    tab.page.goto(f"{tab.url}/login?next=/settings")
    tab.page.get_by_label("Name").fill(name)
    tab.page.get_by_label("Password").fill(PASSWORD)
    tab.page.get_by_role("button", name="Log in").click()
    tab.page.wait_for_url("**/settings")


def test_a_rule_is_added_its_test_message_arrives_and_it_goes(start_station, visit):
    station = start_station()
    with server(200) as (address, seen):
        tab = visit(station.url, "/settings")
        page = tab.page
        page.get_by_text("Add a rule").click()
        form = page.locator(".adding form")
        form.get_by_label("Name of the rule").fill("rangers")
        form.get_by_label("Addresses, one a line").fill(f"json://ana:hidden-word@{address}/hook")
        form.get_by_label("Chainsaw").check()
        form.get_by_label("Confidence from, %").fill("700")
        form.get_by_role("button", name="Keep the rule").click()
        tab.says("rule.confidence: is 7")
        form.get_by_label("Confidence from, %").fill("70")
        form.get_by_role("button", name="Keep the rule").press("Enter")
        page.locator(".rule").wait_for()
        assert "hidden-word" not in page.content()
        page.get_by_role("button", name="Send a test message").click()
        page.locator(".rule .outcome", has_text=re.compile(r"^sent$")).wait_for()
        page.locator("#log td", has_text="Test message of the Curupira station").first.wait_for()
        assert len(seen) == 1
    page.locator(".rule .sure summary").click()
    page.get_by_role("button", name="Yes, remove rangers").click()
    tab.says("Nobody is told anything yet")
    tab.assert_well()


def test_people_and_programs_come_and_go_and_a_viewer_may_not(start_station, visit):
    station = start_station()
    add_person(station, "ana", "operator")
    tab = visit(station.url, "/login")
    log_in(tab, "ana")
    page = tab.page
    form = page.locator("#people form")
    form.get_by_label("Name").fill("eva")
    form.get_by_label("Password").fill(PASSWORD)
    form.get_by_role("button", name="Keep").press("Enter")
    page.locator("#people tr", has_text="eva").wait_for()
    page.locator("#people tr", has_text="ana").locator("summary").click()
    page.get_by_role("button", name="Yes, remove ana").click()
    tab.says("Somebody has to look after the station")
    form = page.locator("#machines form")
    form.get_by_label("Name of the program").fill("gis")
    form.get_by_role("button", name="Make a token").click()
    token = page.locator(".fresh .command").inner_text()
    asked = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{station.url}/v1/alerts", headers=asked).status_code == 200
    page.locator("#machines .sure summary").click()
    page.get_by_role("button", name="Yes, remove gis").click()
    page.locator("#machines tr", has_text="gis").wait_for(state="detached")
    assert httpx.get(f"{station.url}/v1/alerts", headers=asked).status_code == 401
    assert PASSWORD not in page.url
    tab.assert_well()
    other = visit(station.url, "/login", width=PHONE)
    log_in(other, "eva")  # whom the page added
    other.says("This page is for operators; eva may only look.")
    assert other.page.locator("form.form").count() == 0


def test_it_looks_right_everywhere(start_station, looked_at, visit):
    station = start_station()
    (station.data / "station.yaml").write_text("retention: {alert_days: 900}\n")
    station.stop()
    station = start_station()

    def opened(page):
        page.locator("#language form").wait_for()
        page.evaluate("document.querySelector('.adding').open = true")

    looked_at(station.url, "/settings", "settings", wait=opened)
