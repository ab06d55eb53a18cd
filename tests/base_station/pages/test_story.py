"""The whole story on the demo's forest: three phones hear a saw, a ranger decides, the network goes and comes back."""

import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from agent.alert import Position
from agent.clip import wav_bytes
from tests.base_station.chromium import clock_now
from tests.base_station.conftest import make_alert, make_heartbeat, saw_picture
from tests.base_station.pages.conftest import PHONE, Visit
from tests.base_station.wire import Wire

pytestmark = [pytest.mark.browser, pytest.mark.slow]
NAMES = ("ipe-07", "ipe-08", "ipe-09")


@pytest.fixture
def forest(start_station, tmp_path):
    """Return a station with the demo's week behind it."""
    data = tmp_path / "station"
    command = [sys.executable, "-m", "base_station", "demo", "--data", str(data), "--fill-only"]
    subprocess.run(command, check=True, capture_output=True)
    return start_station(data=data)


@pytest.fixture
def wire(forest) -> Iterator[Wire]:
    made = Wire(urlsplit(forest.url).port)
    yield made
    made.close()


def place(number: int) -> Position:
    """Return where one of our phones hangs: 300 m from the next, away from the demo's."""
    return Position(latitude=-3.3 + 0.0027 * number, longitude=-60.3)


def hear(station, device, number: int):
    """Let a phone hear the saw; return its alert."""
    alert = make_alert(
        device.device_id,
        clock=clock_now(),
        score=0.97 - 0.05 * number,
        level_dbfs=-30.0 - 4 * number,
        position=place(number),
        log_mel=saw_picture(seed=number),
    )
    station.send(device, alert)
    return alert


def cards(tab: Visit, alert_ids) -> set[str]:
    """Return the incidents on the page that have these alerts under them."""
    return set(
        tab.page.evaluate(
            "ids => ids.map(id => document.querySelector(`[data-alert='${id}']`)?.closest('[data-incident]')"
            "?.dataset.incident)",
            alert_ids,
        )
    )


def play(tab: Visit) -> float:
    """Play the sound on the page and return how far it came, s."""
    return tab.page.locator(".evidence audio").evaluate(
        "sound => new Promise((done, failed) => { sound.onerror = () => failed('no sound');"
        " sound.ontimeupdate = () => { if (sound.currentTime > 0.2) { sound.pause(); done(sound.currentTime); } };"
        " sound.play().catch(failed) })"
    )


def test_from_the_saw_to_the_verdict(forest, wire, visit):
    phones = [forest.add_device(name) for name in NAMES]
    for number, phone in enumerate(phones):
        forest.send(phone, make_heartbeat(phone.device_id, clock=clock_now(), position=place(number)))
    tab = visit(wire.url, "/", width=PHONE)
    page = tab.page
    page.evaluate("window.notReloaded = true")

    # three phones hear a saw: one incident, without reload
    alerts = [hear(forest, phone, number) for number, phone in enumerate(phones)]
    sound = wav_bytes((3_000 * np.sin(np.arange(48_000) / 5)).astype(np.int16))
    path = f"/v1/clips/{alerts[0].alert_id}"
    sealed = phones[0].seal(path, sound).headers()
    assert httpx.post(forest.url + path, content=sound, headers=sealed, timeout=30).status_code == 201
    ids = [alert.alert_id for alert in alerts]
    for alert_id in ids:
        page.locator(f"[data-alert='{alert_id}']").wait_for(state="attached")
    assert len(cards(tab, ids)) == 1
    assert page.evaluate("window.notReloaded") is True
    tab.assert_well()

    # the ranger opens it, sees and hears
    (incident_id,) = cards(tab, ids)
    page.locator(f"[data-incident='{incident_id}']").get_by_role("link", name="Look and decide").click()
    page.wait_for_url(f"**/incidents/{incident_id}")
    picture = page.locator(".evidence img.picture").first.element_handle()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=picture)
    page.locator(".map .sign.chainsaw").last.wait_for()
    page.locator(".map .sign.listening").last.wait_for()
    assert play(tab) > 0.2
    page.get_by_role("button", name="Acknowledge").click()
    tab.says("station has acknowledged it")

    # the network drops: the page says so, and what comes meanwhile is there when it is back
    page.evaluate("window.notReloaded = true")
    wire.cut()
    page.locator("#lost").wait_for()
    assert "No connection to the station since" in page.locator("#lost").inner_text()
    wire.mend()
    page.locator("#lost").wait_for(state="hidden", timeout=60_000)
    page.get_by_role("button", name="Chainsaw", exact=True).click()
    page.locator(".choice[aria-pressed=true]", has_text="Chainsaw").wait_for()
    tab.assert_well(cut_off=True)

    # what he says counts: precision changes as he goes through the queue
    tab.open("/review?order=random")
    page.locator(".judged.shown img.picture").wait_for()
    before = page.locator(".told-by-verdicts .precision").all_inner_texts()
    assert before, "the demo has verdicts"
    page.locator(".choices .choice", has_text="Chainsaw").click()
    page.wait_for_function(
        "before => { const now = [...document.querySelectorAll('.told-by-verdicts .precision')].map(e => e.innerText);"
        " return now.length && JSON.stringify(now) !== JSON.stringify(before) }",
        arg=before,
    )
    told = httpx.get(f"{forest.url}/v1/precision?by=label&chosen=all", timeout=30).json()["precision"]
    saws = next(row for row in told if row["key"] == "chainsaw")
    assert saws["right"] >= 2
