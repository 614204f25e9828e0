from __future__ import annotations

import asyncio
import gzip
import json
import time
from pathlib import Path

import pytest

from pilotfish.core.errors import ConfigError, NotRecordedError
from pilotfish.core.item import Item
from pilotfish.core.messages import Message, Price
from pilotfish.evals.answerers import Response
from pilotfish.evals.candidates import Place, candidate
from pilotfish.evals.recordings import read_recording, recorded_items
from pilotfish.evals.run import Options, run
from pilotfish.evals.run_file import Head, RunFile
from pilotfish.scoring.scorers import scorer
from tools.compared import items, write_scores


def said(path: Path, item: Item, model: str = "", repeat: int = 0, price: Price | None = None) -> Response:
    return asyncio.run(read_recording(path, model, price=price).ask(item, repeat, time.perf_counter()))


def write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_scores_by_model_name(tmp_path):
    path = write_scores(tmp_path / "scores.jsonl", {"small": [1, 0], "large": [1, 0.5]})
    found = said(path, items(2)[1], "large")
    assert (found.score.value, found.answer) == (0.5, "")
    with pytest.raises(ConfigError, match=r"Name one of them as scores.jsonl#MODEL: small, large"):
        read_recording(path)
    with pytest.raises(ConfigError, match="no answers of 'medium'"):
        read_recording(path, "medium")
    packed = tmp_path / "scores.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert said(packed, items(2)[0], "small").score.value == 1.0


def test_samples_of_the_harness(tmp_path):
    path = write(
        tmp_path / "samples.jsonl",
        {"doc_id": 0, "doc": {"question": "2+2?"}, "target": "4", "filtered_resps": ["4"], "exact_match": 1.0},
        {"doc_id": 1, "doc": {}, "target": 1, "filtered_resps": [["-3.1", "False"], ["-0.2", "True"]], "acc": 0.0},
    )
    asked = Item(id="other", messages=[Message(role="user", content="2+2?")], expected="4", tags={})
    found = said(path, asked)
    assert (found.answer, found.score.value) == ("4", 1.0)
    choice = said(path, Item(id="1", messages=[], expected="B", tags={}))
    assert (choice.answer, choice.score.value) == ("B", 0.0)


def test_a_log_of_inspect(tmp_path):
    def sample(name, value, reason):
        choice = {"message": {"role": "assistant", "content": "red"}, "stop_reason": reason}
        output = {"choices": [choice], "usage": {"input_tokens": 5, "output_tokens": 2}, "time": 0.4}
        return {"id": name, "epoch": 1, "input": "q", "output": output, "scores": {"match": {"value": value}}}

    samples = [sample("i0", "C", "stop"), sample("i1", "I", "max_tokens")]
    path = write(tmp_path / "log.json", {"version": 2, "eval": {"task": "t"}, "samples": samples})
    found = said(path, items(1)[0])
    assert (found.answer, found.score.value, found.usage.completion, found.latency_s) == ("red", 1.0, 2, 0.4)
    assert said(path, items(2)[1]).score.failure == "truncated"


def test_output_of_promptfoo(tmp_path):
    def row(index, provider, output, success):
        return {
            "testIdx": index,
            "vars": {"text": f"q{index}"},
            "provider": {"id": provider},
            "response": {"output": output, "tokenUsage": {"prompt": 3, "completion": 1, "total": 4}},
            "success": success,
            "score": float(success),
            "latencyMs": 120,
            "cost": 0.001,
        }

    rows = [row(0, "a", "red", True), row(0, "b", "blue", False), row(1, "a", "red", False)]
    path = write(tmp_path / "out.json", {"version": 3, "results": {"version": 3, "results": rows}})
    asked = Item(id="0", messages=[Message(role="user", content="q0")], expected="red", tags={})
    found = said(path, asked, "a")
    assert (found.answer, found.score.value, found.latency_s, found.cost_usd) == ("red", 1.0, 0.12, 0.001)
    assert said(path, asked, "b").score.value == 0.0


def test_traffic_is_found_by_its_messages_and_priced_by_its_usage(tmp_path):
    rows = [
        {
            "messages": [
                {"role": "user", "content": i.messages[0].text},
                {"role": "assistant", "content": "red"},
            ],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
        }
        for i in items(3)
    ]
    path = write(tmp_path / "traffic.jsonl", *rows)
    found = said(path, items(3)[2], price=Price(input_usd_per_mtok=1, output_usd_per_mtok=2))
    assert (found.answer, found.score) == ("red", None)
    assert found.cost_usd == pytest.approx(0.0012)
    with pytest.raises(NotRecordedError, match="holds no answer to item i7"):
        said(path, items(8)[7])


def test_rows_of_id_and_answer_and_their_repeats(tmp_path):
    path = write(
        tmp_path / "mine.jsonl",
        {"id": "i0", "answer": "red", "latency_s": 0.5, "certainty": 0.9},
        {"id": "i0", "answer": "blue"},
        {"id": "i1", "answer": {"colour": "red"}, "score": 1},
    )
    assert [said(path, items(1)[0], repeat=r).answer for r in (0, 1, 2)] == ["red", "blue", "blue"]
    assert said(path, items(1)[0]).certainty == 0.9
    assert said(path, items(2)[1]).answer == '{"colour": "red"}'


def test_a_run_is_a_recording_too(tmp_path):
    head = Head(data="doors", data_sha256="d", prompts_sha256="p", scorer="exact", n_items=3)
    with RunFile(tmp_path / "run.jsonl", head) as file:
        run(items(3), [candidate("tools.compared:unsure", Place())], scorer("exact"), file, Options())
    found = said(tmp_path / "run.jsonl", items(2)[1])
    assert (found.answer, found.score.value, found.certainty) == ("red", 0.0, 0.9)
    assert found.latency_s is not None


def test_without_data_the_shared_items_of_scored_recordings_are_compared(tmp_path):
    one = read_recording(write(tmp_path / "a.jsonl", *({"id": i, "answer": "x", "score": 1} for i in "abc")))
    two = read_recording(write(tmp_path / "b.jsonl", *({"id": i, "answer": "y", "score": 0} for i in "bcd")))
    assert [item.id for item in recorded_items([one, two]).items] == ["b", "c"]
    bare = read_recording(write(tmp_path / "c.jsonl", {"id": "a", "answer": "x"}))
    with pytest.raises(ConfigError, match="bring their own scores"):
        recorded_items([one, bare])


def test_a_broken_line_is_no_silent_end_and_other_separators_are_no_lines(tmp_path):
    rows = ['{"id": "a", "answer": "one\u2028two\x85", "score": 1}', '{"id": "b", "answer": "x", "score": 0}']
    (tmp_path / "whole.jsonl").write_text("\n".join(rows))
    assert len(read_recording(tmp_path / "whole.jsonl")) == 2
    (tmp_path / "torn.jsonl").write_text("\n".join([rows[0], rows[1][:10], rows[1]]))
    with pytest.raises(ConfigError, match="line 2 is no JSON"):
        read_recording(tmp_path / "torn.jsonl")


def test_beside_other_models_recorded_answers_are_judged_by_the_same_scorer(tmp_path):
    path = write(
        tmp_path / "mine.jsonl",
        {"id": "i0", "answer": "red", "score": 0},
        {"id": "i1", "answer": "", "score": 1},
    )
    scores = {}
    for rescores in (True, False):
        head = Head(data="doors", data_sha256="d", prompts_sha256="p", scorer="exact", n_items=2)
        with RunFile(tmp_path / f"{rescores}.jsonl", head) as file:
            run(items(2), [candidate(str(path), Place())], scorer("exact"), file, Options(rescores=rescores))
            scores[rescores] = [row.score for row in file.answers.values()]
    assert scores == {True: [1.0, 1.0], False: [0.0, 1.0]}
