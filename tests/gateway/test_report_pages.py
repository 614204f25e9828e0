"""Comparisons and models as pages: the pieces of the exports, from the home and the catalogue alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from pilotfish.cli.main import run
from pilotfish.config.settings import ModelSettings
from pilotfish.core.errors import StoreError
from pilotfish.evals import page as compare_page
from pilotfish.evals.kept_reports import kept_report, kept_runs
from tools.compared import items
from tools.forms import get
from tools.gateway import Place, gateway
from tools.keyed import make_key
from tools.site import HOSTILE


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a comparison of models, data and items of hostile names."""
    folder = tmp_path_factory.mktemp("compared")
    rows = [{"id": f"{i.id} {HOSTILE}", "input": f"{HOSTILE} {i.messages[0].text}", "output": i.expected,
             "topic": HOSTILE if n % 2 else "plain"} for n, i in enumerate(items(24))]  # fmt: skip
    data = folder / "doors.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = ["tools.compared:right", "tools.compared:lower_only"]
    command = ["compare", *models, "--on", str(data), "--scorer", "exact", "--home", str(folder / "home")]
    assert run([*command, "--perturb", "case"]) in (0, 1)
    assert run([*command, "--run", str(folder / "elsewhere.jsonl"), "--limit", "1"]) in (0, 1)
    for report in (folder / "home" / "runs").glob("*.report.json"):
        # A server may call its model so; the command line takes no such name.
        report.write_text(report.read_text().replace("lower_only", json.dumps(HOSTILE)[1:-1]))
    return folder / "home"


@pytest.fixture(scope="module")
def place(compared: Path) -> Iterator[Place]:
    shutil.copy(Path(__file__), compared / "runs" / "broken.report.json")
    models = {"ours": ModelSettings(url="http://127.0.0.1:9/v1", model="bert-base-uncased")}
    with gateway(compared, models=models) as found:
        yield found


def test_a_report_is_kept_in_the_home_wherever_its_run_is(compared: Path) -> None:
    runs = [run for run in kept_runs(compared) if run.has_report]
    assert len(runs) == 2
    assert any(run.name.startswith("elsewhere-") for run in runs)
    report = kept_report(compared, runs[0].name)
    assert report is not None
    assert [model.name for model in report.models] == ["right", HOSTILE]


def test_comparisons_are_listed_and_shown_with_the_pieces_of_their_exports(place: Place, compared: Path) -> None:
    rows = json.loads(get(place.port, "/compare.json").data)
    assert sum(row["has_report"] for row in rows) == 2
    assert "broken" not in {row["run"] for row in rows}
    name = next(row["run"] for row in rows if row["run"].startswith("doors"))
    report = kept_report(compared, name)
    assert report is not None
    got = get(place.port, "/compare/" + quote(name, safe=""))
    page = got.data.decode()
    assert got.status == 200
    for part in compare_page.parts(report)[:4]:
        assert part in page
    assert "Where these figures come from" in page
    assert "The 20 items that part widest" in page or len(report.disagreements) <= 20
    assert len(got.data) < 150_000


@pytest.mark.parametrize("path", ["/compare", "/inspect?" + urlencode({"model": HOSTILE, "beside": HOSTILE})])
def test_hostile_names_and_texts_stay_text_in_reports(place: Place, compared: Path, path: str) -> None:
    paths = [path, *("/compare/" + quote(run.name, safe="") for run in kept_runs(compared))]
    for address in paths[: 1 if path != "/compare" else None]:
        page = get(place.port, address).data
        assert b"<script>alert" not in page
        assert b"<img" not in page
        assert b"style=" not in page
        assert "alert(1)" in unescape(page.decode()) or address == "/compare"


def test_no_text_of_items_is_shown_where_none_is_kept(compared: Path) -> None:
    name = next(run.name for run in kept_runs(compared) if run.name.startswith("doors"))
    with gateway(compared, keep_text=False) as found:
        page = get(found.port, "/compare/" + quote(name, safe="")).data
    assert b"John painted" not in page
    assert b"Where these figures come from" in page


@pytest.mark.parametrize("name", ["../registry", "..%2f..%2fregistry", "nothing", "broken.report.json/x", "%00"])
def test_an_address_reaches_no_other_file(place: Place, name: str) -> None:
    assert get(place.port, f"/compare/{name}").status == 404


def test_models_are_inspected_side_by_side(place: Place) -> None:
    page = get(place.port, "/inspect?model=ours&beside=gpt2&dtype=int8").data.decode()
    assert page.count("<svg") == 6
    assert "Where the parameters sit" in page
    assert "fits here in int8" in page
    assert get(place.port, "/inspect").status == 200
    assert b"undisclosed" in get(place.port, "/inspect?model=gpt-4o").data


def test_weights_in_the_home_can_be_inspected(place: Place, learnt_home: str) -> None:
    page = get(place.port, "/inspect?" + urlencode({"model": learnt_home})).data
    assert b"bytes of its tensors" in page


@pytest.fixture(scope="module")
def learnt_home(compared: Path) -> str:
    """A file of weights in the home, as the form calls it."""
    head = json.dumps({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    folder = compared / "models" / "own"
    folder.mkdir(parents=True)
    (folder / "own.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(16))
    (folder / "out.safetensors").symlink_to("/etc/hostname")
    return "models/own/own.safetensors"


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../home/models/own/own.safetensors",
        "models/own/out.safetensors",
        "https://evil.example/config.json",
        "evil/model",
        "~",
        ".",
        "log.db",
    ],
)
def test_nothing_else_is_opened_or_fetched(place: Place, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[object] = []
    monkeypatch.setattr("pilotfish.sizing.hub.fetch", lambda *asked: reached.append(asked))
    got = get(place.port, "/inspect?" + urlencode({"model": name}))
    assert got.status == 404
    assert b"Expected a name of the catalogue" in got.data
    assert reached == []


def test_reports_are_read_by_who_may_read(home: Path) -> None:
    make_key(home)
    with gateway(home) as found:
        for path in ("/compare", "/compare/x", "/inspect", "/new", "/new/" + "0" * 16):
            assert get(found.port, path).status == 303
        assert get(found.port, "/new/events").status == 401


def test_a_report_of_another_version_is_none(compared: Path) -> None:
    (compared / "runs" / "old.report.json").write_text('{"head": {}}')
    with pytest.raises(StoreError, match="Run the same `pilotfish compare` again"):
        kept_report(compared, "old")


def test_a_gateway_that_only_observes_loads_no_numerical_library() -> None:
    code = (
        "import sys, pilotfish.gateway.app\n"
        "heavy = {'numpy', 'scipy', 'sklearn', 'onnxruntime', 'tokenizers', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
