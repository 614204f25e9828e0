from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from pilotfish.core.errors import ConfigError, DataError, ModelConnectionError, ModelTimeoutError, UserError
from pilotfish.core.item import Item
from pilotfish.core.messages import Message
from pilotfish.evals.answerers import Asked, Called, Sampling
from pilotfish.evals.candidates import Place, candidate
from pilotfish.evals.judge import judge, read_labels
from pilotfish.evals.late_scores import LateScorer, timely
from pilotfish.evals.report import Report, Stated, report
from pilotfish.evals.run import Options, run
from pilotfish.evals.run_file import AnswerRow, Head, RunFile, ScoreRow, read_rows
from pilotfish.evals.verdict import Rule
from pilotfish.models.scripted import ScriptedModel, Step
from pilotfish.scoring.scorers import scorer
from tools.compared import items

HEAD = Head(data="doors", data_sha256="d", prompts_sha256="p", scorer="judge", n_items=6)


def reported(path: Path, judged: LateScorer, asked: list[Item], *models: str, **fields) -> Report:
    with RunFile(path, HEAD) as file:
        candidates = [candidate(model, Place()) for model in models]
        run(asked, candidates, judged, file, Options(repeats=2))
        return report(asked, file, [found.name for found in candidates], Rule(resamples=10), **fields)


def scripted(script) -> LateScorer:
    return judge(lambda: Asked(ScriptedModel(script), Sampling()))


def by_length(request) -> str:
    """A judge with a known bias: the longer answer, whatever it says."""
    first, second = re.findall(r"\[Answer \d\]\n(.*?)\n\n", request.messages[-1].text, re.DOTALL)
    return "Verdict: tie" if len(first) == len(second) else f"Verdict: {1 if len(first) > len(second) else 2}"


def test_a_judge_of_known_bias_is_known_by_its_figures(tmp_path):
    """`unsure` says "red": as long as expected in a third of all cases, else shorter; people call half ties."""
    labels = {("", f"i{n}"): "2" if n % 2 else "tie" for n in range(6)}
    found = reported(
        tmp_path / "run", scripted(by_length), items(6), "tools.compared:unsure", stated=Stated(labels=labels)
    )
    assert found.models[0].quality.value == pytest.approx(1 / 6)
    one = found.judge["unsure"]
    assert (one.n, one.same_in_both_orders, one.prefers_first) == (12, 1.0, pytest.approx(1 / 3))
    # Of six items it agrees on 0 (tie) and 1, 5 (2), not on 2, 4 (2 for tie) and 3 (tie for 2).
    assert one.agreement == pytest.approx(0.5)
    assert one.kappa == pytest.approx((1 / 2 - (1 / 3 * 1 / 2 + 2 / 3 * 1 / 2)) / (1 - 1 / 2))


def test_a_judge_that_always_takes_the_first_decides_nothing(tmp_path):
    found = reported(tmp_path / "run", scripted(["Verdict: 1"]), items(6), "tools.compared:right")
    one = found.judge["right"]
    assert (found.models[0].quality.value, one.prefers_first, one.same_in_both_orders) == (0.5, 1.0, 0.0)
    assert (one.n_human, one.kappa) == (0, None)


def test_a_judge_that_says_nothing_readable_or_nothing_at_all_is_counted(tmp_path):
    script = [Step("Hard to say."), Step(error=ModelTimeoutError("slow"))]
    found = reported(tmp_path / "run", scripted(script), items(6), "tools.compared:right")
    assert found.models[0].failures["parse"] == 12
    assert (found.judge["right"].n, found.judge["right"].n_unreadable) == (12, 12)


def test_an_item_without_a_reference_stops_the_run_before_anybody_is_asked(tmp_path):
    mute = [Item(id="one", messages=[Message(role="user", content="Say it.")], expected=None, tags={})]
    with pytest.raises(DataError, match="no expected answer"):
        reported(tmp_path / "run", scripted(["Verdict: 1"]), mute, "tools.compared:right")
    with pytest.raises(DataError, match="has no tests"):
        reported(tmp_path / "run", timely("unit_tests", scorer("unit_tests")), mute, "tools.compared:right")
    assert not any(isinstance(row, AnswerRow) for row in read_rows(tmp_path / "run"))


def test_answers_wait_in_the_file_for_a_judge_that_broke_and_none_is_asked_or_judged_twice(tmp_path):
    path, n_judged = tmp_path / "run", 0

    def breaks(messages):
        nonlocal n_judged
        n_judged += 1
        if n_judged > 12:
            raise RuntimeError("the judge fell over")
        return "Verdict: 1"

    with pytest.raises(RuntimeError, match="fell over"):
        reported(path, judge(lambda: Called(breaks)), items(6), "tools.compared:right")
    rows = list(read_rows(path))
    n_scored = sum(isinstance(row, ScoreRow) for row in rows)
    assert sum(isinstance(row, AnswerRow) for row in rows) == 12
    assert 0 < n_scored < 12
    found = reported(path, scripted(["Verdict: 2"]), items(6), "tools.compared:right")
    scores = [row for row in read_rows(path) if isinstance(row, ScoreRow)]
    assert len({row.key for row in scores}) == len(scores) == 12
    assert [row.verdicts for row in scores] == [["1", "2"]] * n_scored + [["2", "1"]] * (12 - n_scored)
    assert sum(isinstance(row, AnswerRow) for row in read_rows(path)) == 12
    assert found.models[0].quality.value == 0.5
    recorded = candidate(f"{path}#right", Place()).recordings[0]
    assert recorded.is_scored


def test_a_judge_that_is_not_there_stops_the_run_and_scores_nothing(tmp_path):
    gone = candidate("http://127.0.0.1:9/v1#gone", Place())
    with pytest.raises(ModelConnectionError):
        reported(tmp_path / "run", judge(gone.open), items(2), "tools.compared:right")
    assert not any(isinstance(row, ScoreRow) for row in read_rows(tmp_path / "run"))


def test_a_function_that_returns_no_score_is_named(tmp_path):
    own = timely("tools.compared:seven", scorer("tools.compared:seven"))
    with pytest.raises(UserError, match=r"seven' returned 7"):
        reported(tmp_path / "run", own, items(2), "tools.compared:right")


@pytest.mark.parametrize("row", ["[]", "{}", '{"id": "a", "preferred": 3}', "no JSON"])
def test_labels_that_are_none_are_named(tmp_path, row):
    (tmp_path / "labels.jsonl").write_text('{"id": "a", "preferred": 1, "model": "m"}\n\n' + row + "\n")
    with pytest.raises(ConfigError, match=r"labels\.jsonl, line 3 is no label"):
        read_labels(tmp_path / "labels.jsonl")


def test_a_recorded_judge_has_its_published_figures_in_a_whole_run(shared_data, tmp_path):
    """GPT-4 on LLMBar: 93.5 % right, 97 % the same in both orders; kappa as scikit-learn computes it."""
    data = gzip.decompress((shared_data / "judge_llmbar_natural.jsonl.gz").read_bytes())
    rows = [json.loads(line) for line in data.splitlines()]
    pairs = [
        Item(
            id=row["id"],
            messages=[Message(role="user", content=row["instruction"])],
            expected=row["output_2"],
            tags={},
        )
        for row in rows
    ]
    (tmp_path / "m.jsonl").write_text(
        "".join(json.dumps({"id": row["id"], "answer": row["output_1"]}) + "\n" for row in rows)
    )
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said: dict[tuple[str, str], str] = {}
    for row in rows:
        forward, backward = row["judge_verdicts"]["GPT-4"]
        key = f"[Request]\n{row['instruction']}\n\n[Answer 1]\n"
        said[key, row["output_1"]] = forward
        said[key, row["output_2"]] = {"1": "2", "2": "1"}[backward]

    def recorded(messages):
        prompt = messages[-1]["content"]
        return next(
            f"Verdict: {verdict}" for (key, first), verdict in said.items() if key + first + "\n\n[Ans" in prompt
        )

    labels = read_labels(tmp_path / "labels.jsonl")
    with RunFile(tmp_path / "run", HEAD) as file:
        run(pairs, [candidate(str(tmp_path / "m.jsonl"), Place())], judge(lambda: Called(recorded)), file, Options())
        found = report(pairs, file, ["m"], Rule(resamples=10), stated=Stated(labels=labels)).judge["m"]
    assert (found.n, found.n_human, found.n_unreadable) == (100, 100, 0)
    assert found.agreement == pytest.approx(0.935)
    assert found.same_in_both_orders == pytest.approx(0.97)
    assert found.kappa == pytest.approx(0.841459, abs=1e-6)
