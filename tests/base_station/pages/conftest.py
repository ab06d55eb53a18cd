"""Browser tests of the pages: a tab that talks to the station alone, axe, and pictures to look at.

`CURUPIRA_SHOTS=folder` keeps the pictures of `looked_at`; otherwise they are made and thrown away.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.base_station.chromium import browser

__all__ = ["browser"]

PHONE, DESKTOP = 390, 1280
GRAVE = ("serious", "critical")
BEYOND = """async () => {
  await document.fonts.ready;
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  await frame().then(frame);  // behind a change of the viewport media queries may lag by one
  const root = document.documentElement;
  if (root.scrollWidth <= innerWidth) return [];
  const all = [...document.body.querySelectorAll("*")];
  const beyond = all.filter((one) => one.getBoundingClientRect().right > innerWidth);
  return [root.scrollWidth, ...beyond.slice(0, 8).map((one) => one.outerHTML.slice(0, 80))];
}"""
"""Names what makes a page wider than the screen."""


class Visit:
    """One browser tab on a page; what it asks of anybody but the station is refused, and noted."""

    def __init__(
        self,
        browser: Any,
        url: str,
        path: str = "/",
        *,
        width: int = DESKTOP,
        scheme: str = "light",
        locale: str = "en-GB",
        **context: Any,
    ) -> None:
        self.url = url
        self.context = browser.new_context(
            viewport={"width": width, "height": 844 if width < 600 else 900},
            color_scheme=scheme,
            locale=locale,
            reduced_motion="reduce",
            **context,
        )
        self.foreign: list[str] = []
        self.complaints: list[str] = []
        self.context.route("**/*", self._only_local)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("websocket", lambda websocket: self._note(websocket.url))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._hear)
        self.open(path)

    def open(self, path: str) -> None:
        """Go to a page of the station and wait until its live connection is there."""
        self.page.goto(self.url + path)
        if self.page.locator("main.login").count() == 0:
            self.page.wait_for_function("window.socket?.connected ?? window.socket?.io?._readyState === 'open'")

    def _hear(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _note(self, url: str) -> bool:
        local = urlsplit(url).netloc in (urlsplit(self.url).netloc, "")
        if not local:
            self.foreign.append(url)
        return local

    def _only_local(self, route: Any) -> None:
        if self._note(route.request.url):
            route.continue_()
        else:
            route.abort()

    def says(self, text: str) -> Any:
        """Wait until a text is seen, and return where."""
        found = self.page.get_by_text(text).first
        found.wait_for()
        return found

    def assert_well(self, *, cut_off: bool = False) -> None:
        """Nothing was asked of anybody else, no script failed, nothing is wider than the screen, axe is content.

        Args:
            cut_off: the station could not be reached for a while, of which the browser complains rightly.
        """
        assert self.foreign == []
        assert [one for one in self.complaints if not (cut_off and _of_the_link(one))] == []
        assert self.page.evaluate(BEYOND) == []
        assert grave_problems(self.page) == []


def _of_the_link(complaint: str) -> bool:
    return "net::ERR_" in complaint or "WebSocket connection to" in complaint


def grave_problems(page: Any) -> list[str]:
    """Return what axe finds serious or critical, with the elements."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{problem['id']} ({problem['impact']}): {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
        for problem in found
        if problem["impact"] in GRAVE
        for node in problem["nodes"][:5]
    ]


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Return a function that opens tabs: `visit(url, path, width=PHONE, scheme="dark", locale="pt-BR")`."""
    opened: list[Visit] = []

    def open_tab(url: str, path: str = "/", **how: Any) -> Visit:
        opened.append(Visit(browser, url, path, **how))
        return opened[-1]

    yield open_tab
    for each in opened:
        each.context.close()


@pytest.fixture
def looked_at(browser: Any, tmp_path: Path) -> Callable[..., None]:
    """Return a function that looks at a page on phone and desktop, light and dark, with axe, and takes pictures.

    `looked_at(url, path, name, wait=lambda page: ...)`: `wait` waits until the page is whole.
    """
    folder = Path(os.environ.get("CURUPIRA_SHOTS", tmp_path / "shots"))
    folder.mkdir(parents=True, exist_ok=True)

    def look(url: str, path: str, name: str, wait: Callable[[Any], Any] | None = None, **how: Any) -> None:
        for scheme in ("light", "dark"):
            tab = Visit(browser, url, path, scheme=scheme, **how)
            for width in (DESKTOP, PHONE):
                tab.page.set_viewport_size({"width": width, "height": 844 if width == PHONE else 900})
                if wait is not None:
                    wait(tab.page)
                tab.page.wait_for_timeout(150)
                tab.assert_well()
                tab.page.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=True)
            tab.context.close()

    return look
