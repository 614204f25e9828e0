"""`pilotfish backtest` on files as users have them."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pty
import subprocess

import pytest

from pilotfish.cli.main import EXIT_NO, EXIT_USER
from tools.command_line import PILOTFISH, shell
from tools.served_home import sentences
from tools.traffic import noisy, write_pairs
from tools.tuning import questions

FLAGS = ("--max-risk", "0.05", "--instructions", "Name the colour.")

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def traffic(tmp_path):
    return write_pairs(tmp_path / "traffic.jsonl", sentences(450))


def test_the_report_for_people(pilotfish, traffic):
    said = pilotfish("backtest", traffic, *FLAGS)
    assert said.code == 0
    assert said.out.startswith("Of 450 requests ")
    for text in ("disagreement per answer", "certificate", "oracle", "observing longer", "Money: unknown", "median"):
        assert text in said.out, text
    assert said.err == ""


def test_the_report_for_programs(pilotfish, traffic, tmp_path):
    page = tmp_path / "page.html"
    said = pilotfish("backtest", traffic, *FLAGS, "--json", "--html", page)
    assert (said.code, said.err) == (0, "")
    found = said.json
    assert found["requests"] == 450
    assert found["served"] == sum(task["served"] for task in found["tasks"]) > 100
    assert found["promise"] == {"max_risk": 0.05, "confidence": 0.95, "per": "answer"}
    assert found["first_served_at"] == 301
    assert found["cost_usd"] is None
    assert found["latency_ms"]["p50"] > 0
    assert "traffic.jsonl" in page.read_text("utf-8")


def test_no_one_is_served_before_n(pilotfish, traffic):
    found = pilotfish("backtest", traffic, *FLAGS, "--observe", "400", "--json", "--no-what-if").json
    assert found["first_served_at"] == 401
    assert found["observing_longer"] == []
    said = pilotfish("backtest", traffic, *FLAGS, "--observe", "10000")
    assert said.code == EXIT_NO
    assert "none would have been answered locally" in said.out
    assert "before a first attempt was due" in said.out


def test_the_table_shows_the_risk_that_is_promised(pilotfish, traffic):
    said = pilotfish("backtest", traffic, *FLAGS, "--per", "traffic", "--no-what-if")
    assert "disagreement per traffic" in said.out
    assert "per answer" not in said.out


def test_a_promise_that_cannot_be_kept_is_refused(pilotfish, tmp_path):
    said = pilotfish("backtest", write_pairs(tmp_path / "t.jsonl", noisy(sentences(400), 0.8)), *FLAGS, "--no-what-if")
    assert said.code == EXIT_NO
    assert "not certified. Cannot promise" in said.out


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\x00\xff\x93binary" * 50, "line 1: not JSON"),
        (b'{"input": "question without an answer"}\n', "line 1: no output"),
        (b'{"messages": [{"role": "user", "content": "hi"}]}\n', "line 1: no message of the assistant"),
        (b"[]", "is empty"),
    ],
    ids=["empty", "blank", "binary", "no answer", "no answer in a chat", "empty list"],
)
def test_a_file_without_a_usable_row(pilotfish, tmp_path, content, named):
    (tmp_path / "t.jsonl").write_bytes(content)
    said = pilotfish("backtest", tmp_path / "t.jsonl", *FLAGS)
    assert said.code == EXIT_USER
    assert named in said.err
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) == 1


def test_one_row_is_no_task(pilotfish, tmp_path):
    path = write_pairs(tmp_path / "one.jsonl", sentences(1))
    said = pilotfish("backtest", path, *FLAGS)
    assert said.code == EXIT_NO
    assert "No task recurs" in said.out
    found = pilotfish("backtest", path, *FLAGS, "--json")
    assert (found.code, found.json["tasks"], found.json["requests"]) == (EXIT_NO, [], 1)


def test_missing_files_and_folders(pilotfish, tmp_path, traffic):
    assert "There is no file" in pilotfish("backtest", tmp_path / "nothing", *FLAGS).err
    (tmp_path / "empty").mkdir()
    said = pilotfish("backtest", tmp_path / "empty", *FLAGS)
    assert said.code == EXIT_USER
    assert "holds no file ending in" in said.err
    said = pilotfish("backtest", traffic.parent, *FLAGS, "--json", "--no-what-if")
    assert said.json["requests"] == 450


def test_unreadable_rows_are_counted_and_named_by_line(pilotfish, tmp_path):
    lines = [json.dumps({"input": text, "output": colour}) for text, colour in sentences(60)]
    lines[7] = "not json"
    lines[11] = '{"input": "no answer"}'
    for line in range(20, 35):
        lines[line] = "{"
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    said = pilotfish("backtest", tmp_path / "t.jsonl", *FLAGS)
    assert said.code == EXIT_NO
    assert "not read: line 8: not JSON" in said.err
    assert "not read: line 12: no output" in said.err
    assert "and 7 more (--json lists all)" in said.err
    found = pilotfish("backtest", tmp_path / "t.jsonl", *FLAGS, "--json").json
    assert (found["unreadable"], found["requests"]) == (17, 43)
    assert found["unreadable_rows"][1].startswith("line 12: ")


def test_answers_that_turn_into_prose_half_way(pilotfish, tmp_path):
    prose = [(text, f"Dear customer, number {i} is {colour}.") for i, (text, colour) in enumerate(sentences(700))]
    said = pilotfish("backtest", write_pairs(tmp_path / "t.jsonl", sentences(320) + prose), *FLAGS, "--json")
    (task,) = said.json["tasks"]
    assert (task["answer_shape"], task["mode"]) == ("text", "observe")
    assert task["withdrawn_at"] > task["first_served_at"]
    assert task["certificate"] is None


def test_prices_and_usage_make_a_bill(pilotfish, tmp_path, monkeypatch):
    monkeypatch.setenv("PILOTFISH_LARGE_INPUT_USD_PER_MTOK", "1")
    monkeypatch.setenv("PILOTFISH_LARGE_OUTPUT_USD_PER_MTOK", "2")
    rows = [
        {
            "messages": [
                {"role": "system", "content": "Name it."},
                {"role": "user", "content": text},
                {"role": "assistant", "content": colour},
            ],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 10},
        }
        for text, colour in sentences(40)
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = pilotfish("backtest", path, *FLAGS, "--json").json
    each = (1000 * 1 + 10 * 2) / 1e6
    assert found["cost_usd"] == {
        "always_large": pytest.approx(40 * each),
        "spent": pytest.approx(40 * each),
        "saved_net": 0,
    }


def test_compressed_and_piped_traffic_read_alike(pilotfish, tmp_path, traffic, workshop):
    packed = tmp_path / "traffic.jsonl.gz"
    packed.write_bytes(gzip.compress(traffic.read_bytes()))
    flags = [*FLAGS, "--json", "--no-what-if"]
    expected = pilotfish("backtest", traffic, *flags).json
    piped = shell("backtest", "-", *flags, stdin=traffic.read_bytes()).json
    for found in (pilotfish("backtest", packed, *flags).json, piped):
        assert (found["served"], found["first_served_at"]) == (expected["served"], expected["first_served_at"])


def test_progress_is_for_terminals_only(traffic):
    said = shell("backtest", traffic, *FLAGS, "--no-what-if")
    assert (said.code, said.err) == (0, "")
    assert "\x1b" not in said.out


def test_a_terminal_sees_how_far_it_is_and_is_left_clean(traffic):
    ours, theirs = pty.openpty()
    command = [*PILOTFISH, "backtest", str(traffic), *FLAGS, "--no-what-if"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
        assert process.wait(timeout=120) == 0
    assert b"replaying name-colour" in shown
    assert b"450/450" in shown
    assert shown.endswith(b"\r\x1b[K")


@pytest.mark.parametrize(("flags", "is_tuned"), [((), False), (("--finetune", "auto"), True)])
def test_encoders_are_fine_tuned_where_that_is_asked_for(pilotfish, tmp_path, flags, is_tuned):
    traffic = write_pairs(tmp_path / "questions.jsonl", questions(310))
    flags = (*flags, "--max-risk", "0.2", "--no-what-if", "--instructions", "Answer from the text.")
    said = pilotfish("backtest", traffic, *flags)
    assert ("Fine-tuning an encoder to read" in said.err) is is_tuned
