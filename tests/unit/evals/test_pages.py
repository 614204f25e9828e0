from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from pilotfish.core.item import Item
from pilotfish.core.measured import Measured
from pilotfish.core.messages import Message
from pilotfish.evals import chart, markdown, page, tables
from pilotfish.evals.candidates import Place, candidate
from pilotfish.evals.report import Report, Stated, report
from pilotfish.evals.run import Options, run
from pilotfish.evals.run_file import Head, RunFile
from pilotfish.evals.verdict import Rule
from pilotfish.scoring.scorers import scorer
from tools.compared import write_scores

HOSTILE = "<script>alert(1)</script> | `x` & \n# no heading"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Report:
    tmp_path = tmp_path_factory.mktemp("pages")
    rows = [{"id": f"i{i}", "answer": HOSTILE if i % 3 else "yes", "latency_s": 0.1 + i / 1e3} for i in range(60)]
    for name, seconds in (("one", 1.0), ("two", 3.0)):
        lines = [
            json.dumps({**row, "latency_s": row["latency_s"] * seconds, "cost_usd": 0.01 * seconds}) for row in rows
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    asked = [
        Item(
            id=f"i{i}",
            messages=[Message(role="user", content=f"{HOSTILE} {i}")],
            expected="yes",
            tags={"t": HOSTILE[i % 2]},
        )
        for i in range(60)
    ]
    head = Head(
        data="<data>", data_sha256="d", prompts_sha256="p", scorer="exact", n_items=60, environment={"m": "<m>"}
    )
    models = [candidate(str(tmp_path / "one.jsonl"), Place()), candidate(str(tmp_path / "two.jsonl"), Place())]
    models.append(candidate("tools.compared:right", Place()))
    with RunFile(tmp_path / "run.jsonl", head) as file:
        run(asked, models, scorer("exact"), file, Options(variants=("case",)))
        return report(
            asked,
            file,
            ["one", "two", "right"],
            Rule(),
            stated=Stated(rents={"right": 2.0}),
            command="pilotfish compare <x>",
        )


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.add(tag)


def test_the_page_is_whole_and_runs_nothing(found):
    text = page.render(found)
    tags = Tags()
    tags.feed(text)
    assert {"svg", "table", "style", "h2"} <= tags.names
    assert not tags.names & {"script", "link", "img", "iframe", "m", "data", "x"}
    assert not re.search(r"https?://", text)
    assert "prefers-color-scheme" in text
    assert "&lt;script&gt;" in text
    assert "Pareto front" in text
    for figure in re.findall(r'c[xy]="([-\d.]+)"', text):
        assert -1 <= float(figure) <= 721


def test_the_markdown_keeps_its_rows(found):
    text = markdown.render(found)
    assert "<script>" not in text
    widths = {line.count(" | ") for line in text.splitlines() if line.startswith("| i")}
    assert len(widths) == 1
    assert "pilotfish compare" in text


def test_every_axis_stands_in_the_tables_and_in_the_json(found):
    titles = [table.title for table in tables.tables(found)]
    assert titles[0].startswith("Verdicts against one")
    for part in ("Quality", "Latency", "Memory and energy", "Money", "Slices", "Robustness"):
        assert any(part in title for title in titles)
    notes = [note for table in tables.tables(found) for note in table.notes]
    assert "Below 67 requests an hour two is cheaper than right." in notes
    for table in tables.tables(found):
        assert {len(row) for row in table.rows} == {len(table.columns)}, table.title
    row = json.loads(json.dumps(found.to_json()))
    assert {model["name"] for model in row["models"]} == {"one", "two", "right"}
    assert row["models"][0]["latency_s"]["end_to_end"]["p50"]["n"] == 60
    assert row["models"][0]["latency_s"]["end_to_end"]["p99"]["value"] is None
    assert row["comparisons"][0]["verdict"] == "not enough data"


def test_the_front_is_what_nothing_beats():
    assert chart.pareto([(3, 0.9), (1, 0.5), (2, 0.4), (2, 0.7)]) == [(1, 0.5), (2, 0.7), (3, 0.9)]
    assert chart.pareto([]) == []


def test_the_chart_has_round_marks_its_unit_and_names_that_can_be_read():
    points = [
        chart.Point("first-model", Measured(value=0.003), Measured(value=0.9, low=0.86, high=0.93)),
        chart.Point("second-model", Measured(value=0.0031), Measured(value=0.9, low=0.86, high=0.93)),
        chart.Point("third-model", Measured(value=0.2, low=0.1, high=0.4), Measured(value=0.7, low=0.66, high=0.74)),
    ]
    drawn = chart.draw(points, "US dollars an answer", ["fourth"])
    texts = re.findall(r'<text[^>]*?x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)"[^>]*>([^<]*)<', drawn)
    assert {"0.005", "0.01", "0.1", "70", "100"} <= {text for *_, text in texts}
    names = {text: (anchor, float(y)) for _, y, anchor, text in texts if text.endswith("-model")}
    (side, y), (other_side, other_y) = names["first-model"], names["second-model"]
    assert side != other_side or abs(y - other_y) >= 12
    assert "without a figure: fourth" in drawn
    assert ">US dollars an answer<" in drawn


def test_one_cost_and_one_quality_are_drawn_too():
    same = chart.Point("a", Measured(value=1.0), Measured(value=1.0, low=1.0, high=1.0))
    assert "polyline" in chart.draw([same, same], "ms", [])


def test_an_axis_that_no_model_has_is_a_sentence_and_no_table(tmp_path):
    scores = write_scores(tmp_path / "s.jsonl", {"a": [1.0] * 30, "b": [0.0] * 30})
    head = Head(data="d", data_sha256="d", prompts_sha256="p", scorer="as recorded", n_items=30)
    asked = [Item(id=f"i{i}", messages=[], expected="", tags={}) for i in range(30)]
    models = [candidate(f"{scores}#{name}", Place()) for name in "ab"]
    with RunFile(tmp_path / "run.jsonl", head) as file:
        run(asked, models, scorer("exact"), file, Options())
        result = report(asked, file, ["a", "b"], Rule())
    assert "Not measured for any of these models: latency, memory and energy, money." in tables.headline(result)
    assert [table.title for table in tables.tables(result)] == ["Verdicts against a, 30 items", "Quality"]
    assert result.comparisons[0].sentence.startswith("b is worse than a: -100.0 points")
    assert "svg" not in re.sub(r"<style>.*</style>", "", page.render(result), flags=re.DOTALL)
