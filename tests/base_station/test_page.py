"""The page in a real browser: what a ranger sees, and that nothing comes from the internet."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from agent.alert import Position
from agent.clip import wav_bytes
from tests.base_station.chromium import browser, clock_now

pytestmark = [pytest.mark.browser, pytest.mark.slow]
__all__ = ["browser"]

INJECTION = "<img src=x onerror=alert(1)>"


class Visit:
    """One browser tab on the page, with all that it asked for and complained about."""

    def __init__(
        self, browser: Any, url: str, *, width: int = 1280, scheme: str = "light", locale: str = "en-GB"
    ) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, locale=locale)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", lambda websocket: self.asked.append(websocket.url))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console", lambda message: self.complaints.append(message.text) if message.type == "error" else None
        )
        self.page.goto(url + "/")

    def card(self, alert_id: str) -> Any:
        """Wait for an alert and return the card of its incident."""
        card = self.page.locator("[data-incident]", has=self.page.locator(f'[data-alert="{alert_id}"]'))
        card.wait_for(timeout=20_000)
        return card

    def wait_for_picture(self, card: Any) -> None:
        """Wait until the spectrogram is drawn."""
        element = card.locator("img.picture").element_handle()
        self.page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=element, timeout=20_000)

    def foreign(self, url: str) -> list[str]:
        """Return what was asked of anybody but the station."""
        return [asked for asked in self.asked if urlsplit(asked).netloc not in (urlsplit(url).netloc, "")]


def test_an_alert_is_seen_with_its_picture_and_its_device_and_the_next_one_comes_by_itself(
    start_station, browser, alert_of, heartbeat_of, tmp_path: Path
):
    station = start_station()
    device = station.add_device("ipe-07")
    station.send(device, heartbeat_of("ipe-07", version=INJECTION, states=(f"odd{INJECTION}",)))
    alert = alert_of("ipe-07", clock=clock_now(), score=0.93, level_dbfs=-28.4)
    station.send(device, alert)

    visit = Visit(browser, station.url)
    card = visit.card(alert.alert_id)
    text = card.inner_text()
    for part in (
        "Chainsaw",
        "ipe-07",
        "score 0.93",
        "heard by 1 device",
        "3.10000° S, 60.02000° W",
        "no end heard yet",
        "Nobody has acknowledged this yet.",
    ):
        assert part in text, text
    assert "Drill" not in text
    visit.wait_for_picture(card)
    natural = card.locator("img.picture").evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert natural == [94, 64]
    assert "Spectrogram" in card.locator("img.picture").get_attribute("alt")
    assert visit.page.locator(".headline").inner_text() == "Chainsaw at ipe-07"
    assert card.get_by_role("link", name="Look and decide").get_attribute("href") == f"/incidents/{alert.alert_id}"
    visit.page.locator(".map .sign.chainsaw").last.wait_for(timeout=20_000)

    # what a device sends is text and stays text
    row = visit.page.locator('[data-device="ipe-07"]')
    row.wait_for(timeout=40_000)  # the look around finds what is wrong with it
    assert "last contact" in row.inner_text()
    assert INJECTION in row.inner_text()
    assert row.locator("img").count() == 0

    visit.page.evaluate("window.notReloaded = true")
    second = alert_of("ipe-07", clock=clock_now(), label="engine", drill=True)
    station.send(device, second)
    new = visit.card(second.alert_id)
    assert "Engine" in new.inner_text()
    assert "Drill – not a real alert" in new.inner_text()
    visit.wait_for_picture(new)
    order = visit.page.locator("[data-incident]").evaluate_all("cards => cards.map(card => card.dataset.incident)")
    assert order == [second.alert_id, alert.alert_id]

    station.send(device, replace(alert, revision=1, state="closed", raised_s=75.0, log_mel=None))
    card.locator(".state", has_text="ended after 1 min").wait_for(timeout=20_000)
    assert visit.page.evaluate("window.notReloaded") is True

    assert visit.foreign(station.url) == []
    assert any(asked.startswith("ws") for asked in visit.asked)
    assert visit.complaints == []
    shot = tmp_path / "page.png"
    visit.page.screenshot(path=shot, full_page=True)
    assert shot.stat().st_size > 10_000

    assert station.stop() < 10  # with the page still open, for which it would wait for ever
    assert station.process.returncode == 0
    assert "Traceback" not in station.said()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen(
    start_station, browser, alert_of, heartbeat_of, tmp_path: Path, scheme: str
):
    station = start_station()
    name = "a-device-with-the-longest-name-that-the-station-takes-from-anybo"[:63]
    device = station.add_device(name)
    station.send(device, heartbeat_of(name, states=("zeros",)))
    alert = alert_of(name, clock=clock_now(), label="x" * 32)
    station.send(device, alert)
    visit = Visit(browser, station.url, width=390, scheme=scheme)
    visit.wait_for_picture(visit.card(alert.alert_id))
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    background = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(245, 244, 238)", "dark": "rgb(13, 19, 16)"}[scheme]
    visit.page.screenshot(path=tmp_path / f"phone-{scheme}.png", full_page=True)


def test_an_empty_station_says_what_to_do_next(start_station, browser):
    station = start_station()
    visit = Visit(browser, station.url)
    visit.page.get_by_text("python -m base_station device add").wait_for(timeout=20_000)
    assert visit.page.locator(".headline").inner_text() == "No device yet"


def test_older_incidents_come_on_demand_and_only_those_in_need_are_listed(start_station, browser, alert_of):
    station = start_station()
    for number in range(14):  # farther from each other than one saw is heard
        device = station.add_device(f"ipe-{number:02}")
        place = Position(latitude=-3.0 - 0.05 * number, longitude=-60.0)
        station.send(device, alert_of(f"ipe-{number:02}", log_mel=None, clock=clock_now(), position=place))
    visit = Visit(browser, station.url)
    cards = visit.page.locator("[data-incident]")
    cards.first.wait_for(timeout=20_000)
    assert cards.count() == 12
    visit.page.get_by_role("button", name="Show older").click()
    visit.page.wait_for_function("document.querySelectorAll('[data-incident]').length === 14", timeout=20_000)
    assert not visit.page.get_by_role("button", name="Show older").is_visible()
    assert visit.page.locator(".wellness").inner_text() == "14 devices listening"
    assert visit.page.locator("[data-device]").count() == 0


def test_it_is_said_in_the_reader_s_language(start_station, browser, alert_of):
    station = start_station()
    station.send(station.add_device("ipe-07"), alert_of("ipe-07", clock=clock_now()))
    visit = Visit(browser, station.url, locale="pt-BR")
    visit.page.get_by_text("Motosserra em ipe-07").wait_for(timeout=20_000)
    words = visit.page.locator("#main").inner_text()
    for part in ("Ver e decidir", "Ninguém confirmou", "1 aparelho escutando", "Mapa"):
        assert part in words
    for english in ("Incident ", "device", "heard", "listening"):
        assert english not in words


def test_the_page_finds_back_to_a_station_that_was_killed(start_station, browser, alert_of):
    station = start_station()
    device = station.add_device("ipe-07")
    visit = Visit(browser, station.url)
    visit.page.get_by_text("Waiting for the first call.").wait_for(timeout=20_000)
    station.kill()
    again = start_station("--port", str(urlsplit(station.url).port), data=station.data)
    alert = alert_of("ipe-07", clock=clock_now())
    again.send(device, alert)
    visit.page.locator(f'[data-alert="{alert.alert_id}"]').wait_for(timeout=40_000)


def test_the_sound_of_an_alert_can_be_played_and_comes_by_itself(start_station, browser, alert_of):
    station = start_station()
    device = station.add_device("ipe-07")
    alert = alert_of("ipe-07", clock=clock_now())
    station.send(device, alert)
    visit = Visit(browser, station.url)
    card = visit.card(alert.alert_id)
    assert card.locator("audio").count() == 0
    sound = wav_bytes((3_000 * np.sin(np.arange(32_000) / 5)).astype(np.int16))
    path = f"/v1/clips/{alert.alert_id}"
    assert httpx.post(station.url + path, content=sound, headers=device.seal(path, sound).headers()).status_code == 201
    card.locator("audio").wait_for(state="visible", timeout=20_000)
    player = card.locator("audio")
    player.evaluate(
        "audio => new Promise((done, failed) => {audio.onloadedmetadata = done; audio.onerror = failed; "
        "audio.preload = 'auto'; audio.load()})"
    )
    assert player.evaluate("audio => audio.duration") == 2.0
    assert visit.foreign(station.url) == []
