"""The page of an incident in a real browser: decide on a phone, and what colleagues do is seen without reload."""

from dataclasses import replace
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest

from agent.alert import Battery, Position
from agent.clip import wav_bytes
from tests.base_station.chromium import clock_now
from tests.base_station.conftest import make_alert, make_heartbeat, saw_picture
from tests.base_station.pages.conftest import PHONE
from tests.base_station.pages.test_logs import bring
from tests.base_station.test_fieldlog import TRUE_START, Phone
from tests.base_station.test_shelf import listen

pytestmark = [pytest.mark.browser, pytest.mark.slow]
HERE = Position(latitude=-3.1, longitude=-60.02)


def away(north_m: float) -> Position:
    return Position(latitude=HERE.latitude + north_m / 111_000, longitude=HERE.longitude)


def told(station, **more):
    """Let two devices hear a saw, and a third one near by call and hear nothing; return the first alert."""
    alerts = []
    for number, name in enumerate(("ipe-07", "ipe-08")):
        device = station.add_device(name)
        battery = Battery(percent=41.0 + number, temperature_c=33.0, charging=False)
        station.send(device, make_heartbeat(name, clock=clock_now(), position=away(400 * number), battery=battery))
        alert = make_alert(
            name,
            clock=clock_now(),
            score=0.91 - 0.1 * number,
            level_dbfs=-32.0 - 6 * number,
            position=away(400 * number),
            log_mel=saw_picture(seed=number),
            **more,
        )
        station.send(device, alert)
        alerts.append((device, alert))
    silent = station.add_device("cedro-01")
    station.send(silent, make_heartbeat("cedro-01", clock=clock_now(), position=away(-700)))
    return alerts


def test_a_ranger_decides_on_his_phone_and_a_colleague_sees_it_at_once(start_station, visit):
    station = start_station()
    (device, alert), _ = told(station)
    sound = wav_bytes((3_000 * np.sin(np.arange(32_000) / 5)).astype(np.int16))
    path = f"/v1/clips/{alert.alert_id}"
    assert httpx.post(station.url + path, content=sound, headers=device.seal(path, sound).headers()).status_code == 201

    colleague = visit(station.url, f"/incidents/{alert.alert_id}")
    colleague.says("Nobody has acknowledged this yet.")
    tab = visit(station.url, f"/incidents/{alert.alert_id}", width=PHONE)
    page = tab.page
    page.locator("h1", has_text="Chainsaw").wait_for()
    picture = page.locator(".evidence img.picture").element_handle()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=picture)
    assert page.locator(".evidence audio").evaluate("sound => sound.src").endswith(f"{alert.alert_id}/clip.wav")
    page.locator(".map .sign.chainsaw").last.wait_for()
    page.locator(".map path.off.chainsaw").wait_for(state="attached")  # how far off that may be
    page.locator(".map .sign.listening").last.wait_for()
    assert "cedro-01" in page.locator(".near").inner_text()
    assert "was listening" in page.locator(".near").inner_text()
    then = page.locator(".course .grid", has_text="ipe-07").inner_text()
    for part in ("41", "33 °C", "−32.0 dBFS"):
        assert part in then, then
    assert page.locator(".strip").count() == 2
    tab.says("Dots: what alerts told.")
    assert "the best score is 0.91" in page.locator(".course .chart [role=img]").get_attribute("aria-label")

    # what decides comes first, and thumbs hit it
    tops = [page.locator(one).first.bounding_box()["y"] for one in (".actions", ".choices", ".map", ".strips", ".log")]
    assert tops == sorted(tops)
    for name in ("Acknowledge", "Assign", "Share", "Chainsaw", "Nothing"):
        assert page.get_by_role("button", name=name, exact=True).bounding_box()["height"] >= 44
    tab.assert_well()

    page.get_by_role("button", name="Acknowledge").click()
    tab.says("station has acknowledged it")
    colleague.says("station has acknowledged it")
    page.get_by_label("Note with the verdict").fill("<b>two</b> saws")
    page.get_by_role("button", name="Chainsaw", exact=True).click()
    page.locator(".choice[aria-pressed=true]", has_text="Chainsaw").wait_for()
    said = httpx.get(f"{station.url}/v1/alerts/{alert.alert_id}/verdicts").json()["verdicts"]
    assert [(one["verdict"], one["heard"], one["note"]) for one in said] == [("true", "chainsaw", "<b>two</b> saws")]
    colleague.says("<b>two</b> saws")
    assert colleague.page.locator(".evidence b").count() == 0

    page.get_by_role("button", name="Assign", exact=True).click()
    page.get_by_label("Somebody else").fill("João")
    page.get_by_role("dialog").get_by_role("button", name="Assign", exact=True).click()
    colleague.says("João goes, says station")
    log = httpx.get(f"{station.url}/v1/incidents/{alert.alert_id}/log").json()["entries"]
    assert [(one["action"], one["assignee"]) for one in log] == [("acknowledged", ""), ("assigned", "João")]
    colleague.assert_well()


def test_it_is_shared_as_text_with_coordinates_where_the_browser_shares_nothing(start_station, visit):
    station = start_station()
    (_, alert), _ = told(station)
    tab = visit(station.url, f"/incidents/{alert.alert_id}", width=PHONE)
    tab.page.evaluate("() => { navigator.share = undefined; navigator.clipboard.writeText = () => Promise.reject(); }")
    tab.page.get_by_role("button", name="Share").click()
    area = tab.page.get_by_label("The message, to be selected and copied")
    area.wait_for()
    message = area.input_value()
    assert message.startswith("Chainsaw\n")
    assert "geo:-3." in message
    assert message.endswith(f"{station.url}/incidents/{alert.alert_id}")
    assert tab.page.get_by_role("link", name="Map app").get_attribute("href").startswith("geo:-3.")


def test_a_drill_says_so_and_what_is_not_there_says_so(start_station, visit):
    station = start_station()
    (device, alert), _ = told(station, drill=True)
    tab = visit(station.url, f"/incidents/{alert.alert_id}", width=PHONE)
    tab.says("Drill – not a real alert")
    tab.says("no end heard yet")
    station.send(device, replace(alert, revision=1, state="closed", raised_s=75.0, log_mel=None))
    tab.page.locator(".strip", has_text="ipe-07").locator(".bar.closed").wait_for()
    tab.open("/incidents/nobody")
    tab.says("No such incident")
    tab.assert_well()


def test_it_looks_right_everywhere(start_station, looked_at, tmp_path):
    station = start_station()
    (_, alert), _ = told(station)
    since = (datetime.now(UTC) - TRUE_START).total_seconds() - 90
    bring(station, listen(tmp_path / "journal", Phone(wall_off_s=since)))

    def whole(page):
        page.get_by_text("every window by the device's field log").wait_for()
        assert page.get_by_role("link", name="Field log of ipe-07").count() == 1  # ipe-08 has not been home
        page.locator(".course .chart svg path").first.wait_for(state="attached")
        page.locator(".evidence img.picture").wait_for()
        page.locator(".map .sign.listening").last.wait_for()

    looked_at(station.url, f"/incidents/{alert.alert_id}", "incident", wait=whole)
