"""The web pages in a real browser: accessible, live, usable by keyboard, and deaf to what hostile texts order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from pilotfish.config.settings import ModelSettings
from tools.gateway import Place, gateway
from tools.site import HOSTILE, fill, make_admin
from tools.upstream import Reply

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; make test-browser does it")

Violations = Callable[["sync_api.Page"], list[str]]
TASK = "/tasks/" + quote(HOSTILE, safe="")
PAGES = ("/", "/?days=365", "/tasks", TASK, "/tasks/refused", "/requests", "/requests/local", "/requests/failed",
         "/requests/plain", "/login", "/tasks/nothing", "/bench", "/tasks/refused/retrain")  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("browser") / "home"
    fill(home)
    with gateway(home) as found:
        yield found


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_accessible_and_fits(place: Place, page: sync_api.Page, violations: Violations, path: str) -> None:
    page.goto(f"http://127.0.0.1:{place.port}{path}")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.locator("h1").count() == page.locator("main").count() == 1


def test_figures_are_live(place: Place, page: sync_api.Page) -> None:
    page.goto(f"http://127.0.0.1:{place.port}/")
    figure = page.locator("[data-figure=requests]")
    before = int(figure.inner_text())
    page.get_by_text("Live", exact=True).wait_for()
    place.client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hi"}])
    sync_api.expect(figure).to_have_text(str(before + 1), timeout=8000)


def test_the_keyboard_is_enough(page: sync_api.Page, violations: Violations, tmp_path: Path) -> None:
    """Past the navigation, through the form, to a task, and to a decision about it."""
    fill(tmp_path / "home")
    key = make_admin(tmp_path / "home")
    with gateway(tmp_path / "home") as found:
        page.goto(f"http://127.0.0.1:{found.port}{TASK}")
        assert page.url.startswith(f"http://127.0.0.1:{found.port}/login?next=")
        page.keyboard.press("Tab")
        assert page.locator(":focus").inner_text() == "Skip to content"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.get_by_role("alert").wait_for()
        page.get_by_label("Admin key").fill(key)
        page.keyboard.press("Enter")
        page.get_by_role("link", name="Back to the large model").press("Enter")
        assert violations(page) == []
        page.get_by_role("button", name="Back to the large model").press("Enter")
        page.get_by_text("to observe by hand").wait_for()
        page.get_by_role("button", name="Sign out").press("Enter")
        page.wait_for_url("**/login?**")


def test_what_is_done_by_hand(page: sync_api.Page, violations: Violations, tmp_path: Path) -> None:
    """The bench without a script, a mark, and a wish to learn anew: by keyboard, accessible at every step."""
    home = tmp_path / "home"
    fill(home)
    key = make_admin(home)
    models = {HOSTILE: ModelSettings(url="http://127.0.0.1:9/v1")}
    quality: dict[str, object] = {"max_risk": 0.05}
    with gateway(home, [Reply(text=HOSTILE)], models=models, quality=quality, large={"retry_wait_s": 0.0}) as found:
        start = f"http://127.0.0.1:{found.port}"
        page.goto(f"{start}/login?next=/bench")
        page.get_by_label("Admin key").fill(key)
        page.keyboard.press("Enter")
        page.get_by_label("System prompt").fill(HOSTILE)
        page.get_by_label("Request", exact=True).fill(HOSTILE)
        assert violations(page) == []
        page.get_by_role("button", name="Ask").press("Enter")
        page.get_by_role("heading", name="What the gateway would do").wait_for()
        sync_api.expect(page.get_by_role("group", name="Answer of big")).to_have_text(HOSTILE)
        assert page.get_by_text("No answer: model_unreachable").count() == 1
        assert page.get_by_label("Request", exact=True).input_value() == HOSTILE
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        page.goto(f"{start}{TASK}")
        page.get_by_role("button", name="Specialist: local").press("Enter")
        page.get_by_text("the specialist was right in 1").wait_for()
        assert page.get_by_role("button", name="Specialist: local").get_attribute("aria-pressed") == "true"
        assert violations(page) == []
        page.get_by_role("link", name="Learn it anew").press("Enter")
        assert violations(page) == []
        page.get_by_role("button", name="Learn it anew").press("Enter")
        page.get_by_text("to be learnt anew, by hand").wait_for()
