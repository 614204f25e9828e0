"""A new task, and the reports, in a real browser: with a script and without, accessible, deaf to hostile texts."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from pilotfish.cli.main import run
from pilotfish.evals.kept_reports import kept_runs
from pilotfish.gateway import new_tasks
from pilotfish.store.build import open_registry
from tools.compared import write_items
from tools.gateway import Place, gateway
from tools.site import HOSTILE, fill, make_admin

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; make test-browser does it")

INSTRUCTIONS = "Name the colour. Answer with one word."
PAIRS = [(f"my car {number} is {colour}", colour) for number in range(10) for colour in ("red", "green", "blue")]
Violations = Callable[["sync_api.Page"], list[str]]

# What the real job prints, which takes scikit-learn: that it is so is shown by tests/gateway.
JOB = """
import json, sys, time
for done in range(1, 60):
    print(json.dumps({"stage": "fit", "done": done, "total": 60}), flush=True)
    time.sleep(0.1)
print(json.dumps({"task_id": "t", "outcomes": [{"id": %r, "adopted": True}]}))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a task, a comparison and texts that want to be more."""
    folder = tmp_path_factory.mktemp("browser-new")
    fill(folder / "home")
    data = write_items(folder / "doors.jsonl", 30)
    models = ["tools.compared:right", "tools.compared:unsure"]
    command = ["compare", *models, "--on", str(data), "--scorer", "exact", "--home", str(folder / "home")]
    with ThreadPoolExecutor(1) as thread:  # playwright has an event loop in this one
        assert thread.submit(run, command).result() in (0, 1)
    return folder / "home"


@pytest.fixture(scope="module")
def key(home: Path) -> str:
    return make_admin(home)


@pytest.fixture(scope="module")
def place(home: Path, key: str) -> Iterator[Place]:
    registry = open_registry(home)
    record = registry.task("t")
    registry.close()
    assert record is not None
    with pytest.MonkeyPatch.context() as patch, gateway(home) as found:
        patch.setattr(new_tasks, "_command", lambda *_: [sys.executable, "-c", JOB % record.certificate_id])
        yield found


@pytest.fixture
def signed_in(place: Place, page: sync_api.Page, key: str) -> sync_api.Page:
    page.goto(f"http://127.0.0.1:{place.port}/login?next=/new")
    page.get_by_label("Admin key").fill(key)
    page.keyboard.press("Enter")
    page.wait_for_url(f"http://127.0.0.1:{place.port}/new")
    return page


def fits(page: sync_api.Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def test_from_a_file_to_code_that_names_the_task(
    signed_in: sync_api.Page, violations: Violations, tmp_path: Path
) -> None:
    page = signed_in
    assert violations(page) == []
    assert fits(page)
    file = tmp_path / "examples.jsonl"
    file.write_text("".join(json.dumps({"input": f"{a} {HOSTILE}", HOSTILE: 1, "output": b}) + "\n" for a, b in PAIRS))
    page.get_by_label("Instructions").fill(f"{INSTRUCTIONS} {HOSTILE}")
    page.get_by_label("File of examples").set_input_files(file)
    page.get_by_role("button", name="Upload").click()
    page.get_by_role("heading", name="Which column is which?").wait_for()
    assert page.get_by_label("Column with the right answer").input_value() == "output"
    assert violations(page) == []
    assert fits(page)
    page.get_by_label("These are requests as they came").check()
    page.get_by_role("button", name="Distil").press("Enter")
    page.get_by_role("button", name="Cancel").wait_for()
    bar = page.get_by_role("progressbar")
    sync_api.expect(bar).to_have_attribute("value", re.compile(r"[1-9]"))
    sync_api.expect(bar).not_to_have_attribute("value", bar.get_attribute("value") or "")
    page.get_by_role("heading", name="Certified").wait_for(timeout=20_000)  # the page came again by itself
    assert violations(page) == []
    assert fits(page)
    assert "Held-out score" in page.inner_text("main")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy Python").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert "chat.completions.create" in page.evaluate("navigator.clipboard.readText()")


def test_forms_need_no_script(place: Place, browser: sync_api.Browser, key: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{place.port}/login?next=/new")
    page.get_by_label("Admin key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Instructions").fill(INSTRUCTIONS)
    page.get_by_label("Or examples to paste").fill("input,output\n" + "\n".join(f"{a},{b}" for a, b in PAIRS))
    page.get_by_role("button", name="Upload").click()
    page.get_by_role("button", name="Distil").click()
    page.get_by_role("link", name="Reload").click()
    page.get_by_role("button", name="Cancel").click()
    while not page.get_by_text("It was cancelled.").count():
        page.reload()
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("heading", name="Uploaded so far").wait_for()
    context.close()


@pytest.mark.parametrize(
    "path",
    [
        "/new",
        "/compare",
        "RUN",
        "/inspect",
        "/inspect?model=gpt2&beside=gpt-4o",
        pytest.param("/inspect?model=" + quote(HOSTILE), id="hostile"),
    ],
)
def test_reports_are_accessible_and_fit(
    place: Place, home: Path, signed_in: sync_api.Page, violations: Violations, path: str
) -> None:
    runs = ["/compare/" + quote(found.name, safe="") for found in kept_runs(home)]
    page = signed_in
    page.goto(f"http://127.0.0.1:{place.port}{runs[0] if path == 'RUN' else path}")
    assert violations(page) == []
    assert fits(page)
    assert page.locator("h1").count() == page.locator("main").count() == 1
