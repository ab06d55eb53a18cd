"""The field review in a real browser: it stands alone, and what a log says is never HTML."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.alert import Battery
from agent.manifest import BUNDLED_MODEL, load_model
from agent.outbox import Outbox
from base_station.fieldreport import page
from base_station.review import gather
from tests.agent.field import Field
from tests.base_station.chromium import browser
from tests.base_station.test_page import INJECTION

pytestmark = [pytest.mark.browser, pytest.mark.slow]
__all__ = ["browser"]


@pytest.fixture
def report(tmp_path: Path, alert_of) -> Path:
    manifest, _ = load_model(BUNDLED_MODEL)
    for name in ("ipe-07", "jatoba-02"):
        phone = Field(tmp_path / "field" / name, manifest, name)
        phone.hear((-100, -100, -100), times=80)
        phone.minute(battery=Battery(percent=55.0, temperature_c=33.0))
        phone.journal.event("state_begins", state="zeros", reason=INJECTION)
        waiting = alert_of(name)
        phone.journal.event("alert", alert_id=waiting.alert_id, revision=0, label="chainsaw", score=0.98)
        phone.journal.event("alert", alert_id=INJECTION, revision=0, label=INJECTION, score=0.5)
        phone.journal.event("parked", alert_id=INJECTION, revision=0, reason=INJECTION)
        phone.stop(INJECTION)
        phone.pass_s(7200)
        phone.start("power loss")
        phone.stop()
        with Outbox(phone.folder / "outbox.db") as outbox:
            outbox.put(waiting)
    path = tmp_path / "review.html"
    reviews = gather(tmp_path / "field")
    path.write_text(page(reviews, UTC, datetime(2026, 11, 24, tzinfo=UTC), utc=True), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [1280, 420])
def test_it_stands_alone_and_shows_every_alert_with_its_picture(browser, report, width):
    context = browser.new_context(viewport={"width": width, "height": 900})
    tab = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("dialog", lambda dialog: complaints.append(dialog.message))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    tab.goto(report.as_uri())
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert complaints == []
    assert tab.locator("article").count() == 4
    assert tab.locator("article img").count() == 2
    assert all(image.evaluate("image => image.naturalWidth > 0") for image in tab.locator("article img").all())
    assert tab.locator("svg").count() == 4
    assert tab.locator("img[src=x]").count() == 0
    assert INJECTION in tab.locator("#uptime").inner_text()
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
