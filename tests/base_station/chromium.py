"""Headless Chromium for browser tests, and what a device with a good clock would say."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.alert import Clock

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]


@pytest.fixture(
    scope="module"
)  # one that stays open longer keeps an event loop, in which no later test can run its own
def browser() -> Iterator[Any]:
    """Return headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here; install Debian's package chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright's Python package is not installed")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


def clock_now() -> Clock:
    """Return what a device whose clock the network set would say now."""
    utc = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Clock(boot_id="5d0c9e0a-0000-4000-8000-000000000001", monotonic_s=100.0, utc=utc, utc_certainty="synced")
