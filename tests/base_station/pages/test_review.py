"""The review queue in a real browser: keys, what is next, precision, colleagues, undo."""

import time

import httpx
import pytest

from base_station.pages import review
from tests.base_station.chromium import clock_now
from tests.base_station.conftest import make_alert
from tests.base_station.pages.conftest import PHONE

pytestmark = [pytest.mark.browser, pytest.mark.slow]
WHOLE_MS = 1000.0
"""From a key to the next picture; thirty clips in five minutes leave ten seconds each, nearly all of them to listen."""


def fill(station, count, name="ipe-07"):
    device = station.add_device(name)
    for number in range(count):
        label = ("chainsaw", "engine")[number % 2]
        station.send(device, make_alert(name, label=label, score=0.6 + 0.03 * number, clock=clock_now()))
    return device


def shown(page):
    return page.locator(".judged.shown").get_attribute("data-alert")


def test_a_verdict_by_key_brings_the_next_alert_at_once_and_moves_precision(start_station, visit):
    station = start_station()
    fill(station, 8)
    tab = visit(station.url, "/review")
    tab.page.locator(".judged.shown img").wait_for()
    took_ms = []
    for number in range(6):
        before = shown(tab.page)
        began = time.perf_counter()
        tab.page.keyboard.press("1")
        tab.page.wait_for_function(
            "b => { const c = document.querySelector('.judged.shown'); const i = c?.querySelector('img');"
            " return c && c.dataset.alert !== b && i.complete && i.naturalWidth > 0 && i.checkVisibility() }",
            arg=before,
            polling=10,
        )
        took_ms.append(1000 * (time.perf_counter() - began))
        tab.says(f"{number + 1} judged in this sitting")
    print("ms from key to next:", [round(one) for one in took_ms])
    assert sorted(took_ms)[len(took_ms) // 2] < WHOLE_MS
    assert tab.page.locator(".precision").count() == 2
    verdicts = httpx.get(f"{station.url}/v1/precision?by=label&chosen=all").json()["precision"]
    assert sum(row["right"] + row["wrong"] for row in verdicts) == 6
    tab.assert_well()


def test_undo_takes_back_skip_passes_and_the_end_says_what_is_next(start_station, visit):
    station = start_station()
    fill(station, 2)
    tab = visit(station.url, "/review")
    tab.page.locator(".judged.shown img").wait_for()
    first = shown(tab.page)
    tab.page.keyboard.press("4")
    tab.says("1 judged in this sitting")
    tab.page.keyboard.press("u")
    tab.page.locator(f".judged.shown[data-alert='{first}']").wait_for()
    said = httpx.get(f"{station.url}/v1/alerts/{first}/verdicts").json()["verdicts"]
    assert [(one["verdict"], one["heard"]) for one in said] == [("false", "animal"), ("unsure", "")]
    tab.page.keyboard.press("n")
    tab.page.locator(f".judged.shown:not([data-alert='{first}'])").wait_for()
    tab.page.keyboard.press("n")
    tab.says("Nothing waits for a verdict")
    tab.page.keyboard.press("?")
    tab.says("Play or stop the sound")
    tab.assert_well()


def test_a_colleague_s_verdict_appears_without_reload(start_station, visit):
    station = start_station()
    fill(station, 3)
    tab = visit(station.url, "/review")
    tab.page.locator(".judged.shown img").wait_for()
    body = {"verdict": "false", "heard": "rain", "judge": "<b>ana</b>"}
    httpx.post(f"{station.url}/v1/alerts/{shown(tab.page)}/verdicts", json=body).raise_for_status()
    tab.says("<b>ana</b> has said: Rain")
    assert tab.page.locator("b").count() == 0


def test_skips_do_not_end_the_queue_and_what_colleagues_judge_does_not_come_up(start_station, visit, monkeypatch):
    monkeypatch.setattr(review, "AT_A_TIME", 3)
    station = start_station()
    fill(station, 9)
    tab = visit(station.url, "/review?order=random")
    tab.page.locator(".judged.shown img").wait_for()
    seen = [shown(tab.page)]
    for _ in range(6):
        tab.page.keyboard.press("n")
        tab.page.locator(f".judged.shown:not([data-alert='{seen[-1]}'])").wait_for()
        seen.append(shown(tab.page))
    assert len(set(seen)) == 7
    every = {each["alert_id"] for each in httpx.get(f"{station.url}/v1/alerts").json()["alerts"]}
    left = every - set(seen)
    for alert_id in left:
        body = {"verdict": "true", "heard": "chainsaw", "judge": "ana"}
        httpx.post(f"{station.url}/v1/alerts/{alert_id}/verdicts", json=body).raise_for_status()
    tab.says("0 judged in this sitting, 1 wait")
    tab.page.keyboard.press("n")
    tab.says("Nothing waits for a verdict")


def test_it_looks_right_everywhere(start_station, looked_at, visit):
    station = start_station()
    tab = visit(station.url, "/review", width=PHONE)
    tab.says("Nothing waits for a verdict")
    fill(station, 6)
    looked_at(station.url, "/review", "review", wait=lambda page: page.locator(".judged.shown img").wait_for())
