"""The report in a real browser: its table equals the CSV and a plain count, it prints on A4, and looks right."""

import csv
from collections import Counter
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from agent.alert import Clock
from base_station.pages.reports import wish_of
from tests.base_station.conftest import BOOT, make_alert, make_heartbeat
from tests.base_station.pages.conftest import PHONE

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def clock_at(moment: datetime) -> Clock:
    utc = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Clock(boot_id=BOOT, monotonic_s=100.0, utc=utc, utc_certainty="synced")


def fill(station) -> Counter:
    """Send alerts of the last nine days, a drill among them; return their number by local day and label."""
    device = station.add_device("ipe-07")
    now = datetime.now(UTC)
    station.send(device, make_heartbeat("ipe-07", clock=clock_at(now)))
    counts: Counter = Counter()
    for n in range(24):
        heard = now - timedelta(days=n % 9, hours=n % 5)
        label = ("chainsaw", "engine", "chainsaw", "gunshot")[n % 4]
        station.send(device, make_alert("ipe-07", label=label, clock=clock_at(heard), log_mel=None, drill=n == 7))
        if n != 7:
            counts[(heard - timedelta(seconds=3)).astimezone().date().isoformat(), label] += 1
    return counts


def charts_are_drawn(page):
    page.locator(".diagram svg path").first.wait_for(state="attached")


def test_the_table_equals_the_csv_and_a_plain_count(start_station, visit):
    station = start_station()
    counts = fill(station)
    tab = visit(station.url, "/reports?span=30")
    charts_are_drawn(tab.page)
    with tab.page.expect_download() as download:
        tab.page.get_by_text("Days as CSV").click()
    rows = list(csv.DictReader(download.value.path().read_text(encoding="utf-8").splitlines()))
    read = {(row["day"], label): int(row[label]) for row in rows for label in ("chainsaw", "engine", "gunshot")}
    assert Counter({key: n for key, n in read.items() if n}) == counts
    tab.page.get_by_text("All days as a table").first.click()
    table = tab.page.locator(".all-days tbody tr")
    shown = [[cell.strip() for cell in row.split("\t")] for row in table.all_inner_texts()]
    columns = ("chainsaw", "engine", "gunshot", "incidents")
    assert [row[1:5] for row in shown] == [[row[name] or "–" for name in columns] for row in rows]
    assert int(rows[-1]["incidents"]) >= 1
    assert {row["incidents"] for row in rows[:15]} == {"0"}
    assert rows[-6]["incidents"] == ""  # its alerts have only just come: nobody has counted them yet
    tab.says("Some of these days are not counted yet")
    tab.page.locator("figcaption", has_text="Incidents by day").wait_for()
    assert tab.page.get_by_role("link", name="ipe-07").get_attribute("href") == "/devices/ipe-07"
    total = sum(n for (_, label), n in counts.items() if label == "chainsaw")
    assert tab.page.locator(".figures .value").first.inner_text() == str(total)
    tab.assert_well()


def test_time_and_sound_are_chosen_by_a_plain_form(start_station, visit):
    station = start_station()
    fill(station)
    tab = visit(station.url, "/reports")
    charts_are_drawn(tab.page)
    tab.page.get_by_label("Time").select_option("7")
    tab.page.get_by_label("Sound").select_option("engine")
    tab.page.get_by_role("button", name="Show").press("Enter")
    tab.page.wait_for_url("**/reports?span=7**label=engine**")
    tab.says("Engine · without drills")
    charts_are_drawn(tab.page)
    assert tab.page.locator(".all-days tbody tr").count() == 7
    tab.open("/reports?span=own&first=2026-02-31&last=x&label=<b>")
    tab.says("These dates are no span")
    tab.assert_well()


def test_it_prints_on_a4_with_its_charts_whole_and_without_the_frame(start_station, visit, tmp_path):
    station = start_station()
    fill(station)
    tab = visit(station.url, "/reports", scheme="dark")
    charts_are_drawn(tab.page)
    tab.page.emulate_media(media="print")
    assert not tab.page.locator("header.top").is_visible()
    assert not tab.page.get_by_role("button", name="Show").is_visible()
    path = tmp_path / "report.pdf"
    tab.page.pdf(path=path, format="A4", prefer_css_page_size=True)
    assert path.stat().st_size > 10_000
    tab.page.set_viewport_size({"width": 690, "height": 980})  # what A4 leaves between its margins
    width = tab.page.evaluate(
        "Math.max(...[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().right))"
    )
    assert width <= 690


def test_it_looks_right_everywhere(start_station, looked_at, visit):
    station = start_station()
    tab = visit(station.url, "/reports", width=PHONE)
    tab.says("Nothing was heard in these days")
    fill(station)
    alert_ids = [alert["alert_id"] for alert in station.alerts()[:9]]
    for idx, alert_id in enumerate(alert_ids):
        body = {"verdict": "false" if idx % 4 == 0 else "true", "chosen": "random", "judge": "ana"}
        httpx.post(f"{station.url}/v1/alerts/{alert_id}/verdicts", json=body).raise_for_status()
    looked_at(station.url, "/reports", "reports", wait=charts_are_drawn)


def test_whatever_the_address_says_there_is_a_span():
    today = datetime(2026, 3, 31, tzinfo=UTC).date()
    assert [wish_of("7", "", "", "", today).span.days()[idx].day for idx in (0, -1)] == [25, 31]
    assert wish_of("before", "", "", "", today).span.days()[-1].isoformat() == "2026-02-28"
    assert wish_of("own", "2026-03-30", "2027-01-01", "", today).span.last == today
    for first, last in (("", ""), ("2026-03-31", "2026-03-01"), ("1990-01-01", "2026-01-01")):
        assert wish_of("own", first, last, "", today).wrong
    assert wish_of("<b>", "", "", "../x", today).label == ""
