"""A real browser for the web pages, with axe-core in it; what a page complains of fails its test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # where it is not installed, the tests beside are skipped before they ask for anything here
    from playwright import sync_api

AXE = Path(os.environ.get("PILOTFISH_AXE", "")) / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = os.environ.get("PILOTFISH_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or ""

LOOKS = {"light": ("light", 1200), "dark": ("dark", 1200), "phone": ("light", 400)}

Violations = Callable[["sync_api.Page"], list[str]]


@pytest.fixture(scope="session")
def browser() -> Iterator[sync_api.Browser]:
    if not CHROMIUM:
        pytest.skip("no chromium is installed; PILOTFISH_CHROMIUM may name one")
    if not AXE.is_file():
        pytest.skip("PILOTFISH_AXE names no folder with axe-core; make test-browser does")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - not of the development tools

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(params=LOOKS)
def page(request: pytest.FixtureRequest, browser: sync_api.Browser) -> Iterator[sync_api.Page]:
    """A page of some look; what it complains of, and what hostile texts bring about, fails the test."""
    scheme, width = LOOKS[request.param]
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    opened, said = context.new_page(), []
    opened.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    opened.on("dialog", lambda dialog: said.append(f"a dialog: {dialog.message}"))
    opened.on("pageerror", lambda error: said.append(str(error)))
    yield opened
    context.close()
    assert [
        line for line in said if not any(status in line for status in ("404 (Not Found)", "401 (Unauthorized)"))
    ] == []


@pytest.fixture
def violations() -> Violations:
    """What axe-core finds in a page, each with its first place."""

    def found(page: sync_api.Page) -> list[str]:
        page.evaluate(AXE.read_text("utf-8"))
        return [
            f"{item['impact']} {item['id']}: {item['nodes'][0]['html'][:200]}"
            for item in page.evaluate("axe.run(document)")["violations"]
        ]

    return found
