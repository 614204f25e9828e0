"""Traffic files: every format, every container, and what becomes of rows that cannot be read."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pilotfish.core.errors import TrafficError
from pilotfish.core.messages import Usage
from pilotfish.store.traffic import read_traffic

COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "large-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "refund"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8}},
}
SYSTEM = {"role": "system", "content": "Name the intent."}
USER = {"role": "user", "content": "money back please"}
ASSISTANT = {"role": "assistant", "content": "refund"}


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def batch_request(key: str, text: str, **more: object) -> dict[str, object]:
    body = {"model": "large-1", "messages": [SYSTEM, {"role": "user", "content": text}]}
    return {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body, **more}


def batch_answer(key: str, text: str, created: int = 1700000000) -> dict[str, object]:
    body = {**COMPLETION, "created": created, "choices": [{"message": {"role": "assistant", "content": text}}]}
    return {
        "id": "b",
        "custom_id": key,
        "response": {"status_code": 200, "request_id": "r", "body": body},
        "error": None,
    }


@pytest.mark.parametrize(
    ("row", "format"),
    [
        ({"input": "money back please", "output": "refund", "instructions": "Name the intent."}, "input/output pairs"),
        ({"prompt": "money back please", "completion": "refund", "system": "Name the intent."}, "input/output pairs"),
        ({"prompt": [SYSTEM, USER], "completion": [ASSISTANT]}, "input/output pairs"),
        ({"messages": [SYSTEM, USER, ASSISTANT]}, "chat messages"),
        ({"messages": [SYSTEM, USER], "answer": "refund"}, "chat messages"),
        ({"messages": [SYSTEM, USER], "response": COMPLETION}, "chat messages"),
        ({"messages": [SYSTEM, USER, ASSISTANT], "label": "gold"}, "chat messages"),
        ({"request": {"messages": [SYSTEM, USER]}, "response": COMPLETION}, "request and response"),
        ({"request": {"messages": [SYSTEM, USER]}, "response": ASSISTANT}, "request and response"),
        ({"request": {"messages": [SYSTEM, USER]}, "response": "refund"}, "request and response"),
        ({**COMPLETION, "messages": [SYSTEM, USER]}, "stored completions"),
        ({**COMPLETION, "input_messages": {"object": "list", "data": [SYSTEM, USER]}}, "stored completions"),
        ([SYSTEM, USER, ASSISTANT], "conversations"),
        ({"conversation": [SYSTEM, USER, ASSISTANT]}, "conversations"),
        (
            {
                "conversations": [
                    {"from": "system", "value": "Name the intent."},
                    {"from": "human", "value": "money back please"},
                    {"from": "gpt", "value": "refund"},
                ]
            },
            "conversations",
        ),
        ({"instructions": "Name the intent.", "conversation": [USER, ASSISTANT]}, "conversations"),
    ],
)
def test_every_format_gives_the_same_exchange(tmp_path: Path, row: object, format: str) -> None:  # noqa: A002
    traffic = read_traffic(lines(tmp_path / "t.jsonl", row, row))
    assert traffic.format == format
    assert traffic.unreadable == []
    assert [exchange.line for exchange in traffic.exchanges] == [1, 2]
    exchange = traffic.exchanges[0]
    assert [(m.role, m.text) for m in exchange.request.messages] == [
        ("system", "Name the intent."),
        ("user", "money back please"),
    ]
    assert exchange.answer == "refund"


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"text": "a", "label": "x"}, "x"),
        ({"question": "a", "answer": "x"}, "x"),
        ({"query": "a", "response": "x"}, "x"),
        ({"request": "a", "response": "x"}, "x"),
        ({"text": "a", "label": 3}, "3"),
        ({"text": "a", "label": False}, "false"),
        ({"input": "a", "output": {"priority": "hoch", "team": None}}, '{"priority": "hoch", "team": null}'),
    ],
)
def test_pairs_by_any_obvious_name_take_the_given_instructions(tmp_path: Path, row: object, answer: str) -> None:
    exchange = read_traffic(lines(tmp_path / "t.jsonl", row), instructions="Sort.").exchanges[0]
    assert [(m.role, m.text) for m in exchange.request.messages] == [("system", "Sort."), ("user", "a")]
    assert exchange.answer == answer


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [SYSTEM, USER], "output": "refund"},
        {"messages": [SYSTEM, USER, ASSISTANT]},
        {"input": "money back please", "output": "refund"},
        {"request": {"messages": [SYSTEM, USER]}, "response": "refund"},
    ],
    ids=", ".join,
)
def test_usage_beside_the_answer_is_read(tmp_path: Path, row: dict[str, object]) -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 2}
    (exchange,) = read_traffic(lines(tmp_path / "t.jsonl", {**row, "usage": usage})).exchanges
    assert exchange.usage == Usage(prompt=20, completion=2)


def test_a_logged_request_keeps_options_model_usage_and_latency(tmp_path: Path) -> None:
    request = {
        "model": "asked",
        "messages": [USER],
        "n": 2,
        "stream": True,
        "response_format": {"type": "json_object"},
        "tools": [{"type": "function"}],
        "vendor": 1,
    }
    row = {"request": request, "response": COMPLETION, "latency_ms": 250}
    exchange = read_traffic(lines(tmp_path / "t.jsonl", row)).exchanges[0]
    assert exchange.request.n == 2
    assert exchange.request.stream
    assert exchange.request.response_format == {"type": "json_object"}
    assert exchange.request.tools == [{"type": "function"}]
    assert exchange.usage == Usage(prompt=20, completion=2, cached=8)
    assert (exchange.model, exchange.latency_s, exchange.time_s) == ("large-1", 0.25, 1700000000.0)


def test_of_several_assistant_turns_the_last_is_the_answer(tmp_path: Path) -> None:
    turns = [
        SYSTEM,
        USER,
        {"role": "assistant", "content": "Which order?"},
        {"role": "user", "content": "7"},
        ASSISTANT,
    ]
    exchange = read_traffic(lines(tmp_path / "t.jsonl", {"messages": turns})).exchanges[0]
    assert [message.role for message in exchange.request.messages] == ["system", "user", "assistant", "user"]
    assert exchange.answer == "refund"


@pytest.mark.parametrize("order", [("in.jsonl", "out.jsonl"), ("out.jsonl", "in.jsonl")])
def test_batch_files_are_joined_in_the_order_of_the_requests(tmp_path: Path, order: tuple[str, str]) -> None:
    lines(tmp_path / "in.jsonl", *(batch_request(f"r{i}", f"text {i}") for i in range(4)))
    failed: dict[str, Any] = {"custom_id": "r3", "response": {"status_code": 400, "body": {"error": {"message": "no"}}}}
    answers = [batch_answer(f"r{i}", f"label {i}", created=1700000000 - i) for i in (2, 0, 1)]
    lines(tmp_path / "out.jsonl", *answers, failed, batch_answer("r9", "?"))
    traffic = read_traffic([tmp_path / name for name in order])
    assert traffic.format == "batch files"
    assert [(x.request.messages[1].text, x.answer) for x in traffic.exchanges] == [
        (f"text {i}", f"label {i}") for i in range(3)
    ]
    why = {(Path(row.file).name, row.line): row.why for row in traffic.unreadable}
    assert set(why) == {("in.jsonl", 4), ("out.jsonl", 5)}
    assert "error" in why["in.jsonl", 4]
    assert "r9" in why["out.jsonl", 5]


def test_a_folder_is_read_whole_and_a_time_on_the_batch_requests_orders_them(tmp_path: Path) -> None:
    lines(tmp_path / "in.jsonl", *(batch_request(f"r{i}", f"text {i}", timestamp=100 - i) for i in range(3)))
    lines(tmp_path / "out.jsonl", *(batch_answer(f"r{i}", f"label {i}") for i in range(3)))
    (tmp_path / "README.md").write_text("not traffic")
    assert [exchange.answer for exchange in read_traffic(tmp_path).exchanges] == ["label 2", "label 1", "label 0"]


def test_custom_ids_that_occur_twice_are_not_guessed_at(tmp_path: Path) -> None:
    lines(tmp_path / "in.jsonl", batch_request("r", "a"), batch_request("r", "b"), batch_request("s", "c"))
    lines(tmp_path / "out.jsonl", batch_answer("r", "x"), batch_answer("s", "y"))
    traffic = read_traffic(tmp_path)
    assert [exchange.answer for exchange in traffic.exchanges] == ["y"]
    assert [row.line for row in traffic.unreadable] == [1, 2]


def test_half_a_batch_says_which_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match="output file"):
        read_traffic(lines(tmp_path / "in.jsonl", batch_request("r", "a")))
    with pytest.raises(TrafficError, match="input file"):
        read_traffic(lines(tmp_path / "out.jsonl", batch_answer("r", "a")))


PAIRS = [{"input": "a", "output": "x"}, {"input": "b", "output": "y"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.jsonl", "\n".join(map(json.dumps, PAIRS))),
        ("t.jsonl", "\r\n".join(map(json.dumps, PAIRS)) + "\r\n"),
        ("t.jsonl", "\ufeff" + "\n".join(map(json.dumps, PAIRS))),
        ("t.json", json.dumps(PAIRS)),
        ("t.json", "\ufeff" + json.dumps(PAIRS, indent=2)),
        ("t.json", json.dumps({"object": "list", "data": PAIRS}, indent=2)),
    ],
)
@pytest.mark.parametrize("is_gzipped", [False, True])
def test_containers(tmp_path: Path, name: str, content: str, is_gzipped: bool) -> None:
    data = content.encode()
    path = tmp_path / (name + ".gz" if is_gzipped else name)
    path.write_bytes(gzip.compress(data) if is_gzipped else data)
    traffic = read_traffic(path)
    assert [(x.request.messages[0].text, x.answer, x.line) for x in traffic.exchanges] == [("a", "x", 1), ("b", "y", 2)]
    assert traffic.unreadable == []


def test_one_conversation_a_line_is_not_taken_for_an_array_of_rows(tmp_path: Path) -> None:
    traffic = read_traffic(lines(tmp_path / "t.jsonl", [USER, ASSISTANT]))
    assert (traffic.format, len(traffic.exchanges)) == ("conversations", 1)
    pretty = tmp_path / "t.json"
    pretty.write_text(json.dumps([USER, ASSISTANT], indent=1))
    assert len(read_traffic(pretty).exchanges) == 1
    pretty.write_text(json.dumps([[USER, ASSISTANT], [USER, ASSISTANT]]))
    assert len(read_traffic(pretty).exchanges) == 2


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    data = gzip.compress(b'{"input": "a", "output": "x"}\n')
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert read_traffic("-").exchanges[0].answer == "x"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("{not json", "not JSON"),
        (b'{"input": "\xff", "output": "x"}'.decode("latin-1"), None),
        ("[" * 5000 + "]" * 5000, "not JSON"),
        ("17", "JSON object"),
        ("[]", "list of messages"),
        ("{}", "no input"),
        ({"input": "a"}, "no output"),
        ({"input": "a", "output": None}, "no output"),
        ({"input": "a", "output": ""}, "empty"),
        ({"input": ["a"], "output": "x"}, "must be text"),
        ({"messages": []}, "list of messages"),
        ({"messages": [SYSTEM, USER]}, "no message of the assistant"),
        ({"messages": [ASSISTANT]}, "before"),
        ({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{}]}]}, "tool call"),
        ({"messages": [USER, {"role": "assistant", "content": None, "refusal": "no"}]}, "not text"),
        ({"messages": ["hi"]}, "role"),
        ({"request": {"messages": [USER]}}, "without a response"),
        ({"request": {"prompt": "a"}, "response": "x"}, "messages"),
        ({"request": {"messages": [USER]}, "response": {"error": {"message": "rate"}}}, "rate"),
        ({"request": {"messages": [USER]}, "response": {"choices": []}}, "no message"),
        ({"object": "pilotfish.exchange", "request": {"messages": [USER]}, "response": None}, "locally"),
        (COMPLETION, "without its request"),
    ],
)
def test_an_unreadable_row_is_named_with_its_line_and_reason(tmp_path: Path, row: object, why: str | None) -> None:
    good = {"input": "a", "output": "x"}
    path = lines(tmp_path / "t.jsonl", good, "", row, good)
    if why is None:
        path.write_bytes(path.read_text().encode("latin-1"))
        why = "not JSON"
    traffic = read_traffic(path)
    assert [exchange.line for exchange in traffic.exchanges] == [1, 4]
    assert [bad.line for bad in traffic.unreadable] == [3]
    assert why in traffic.unreadable[0].why


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("2024-05-01T10:00:00Z", "2024-05-01T10:00:00.5Z"),
        ("2024-05-01 10:00:00", "2024-05-01T12:00:01+02:00"),
        (1714557600, 1714557600.5),
        (1714557600000, 1714557600500),
        ("1714557600", "1714557600.5"),
    ],
)
@pytest.mark.parametrize("key", ["timestamp", "created", "created_at", "time"])
def test_rows_with_times_are_sorted_by_them(tmp_path: Path, key: str, early: object, late: object) -> None:
    rows = [{"input": "a", "output": "late", key: late}, {"input": "a", "output": "early", key: early}]
    exchanges = read_traffic(lines(tmp_path / "t.jsonl", *rows)).exchanges
    assert [exchange.answer for exchange in exchanges] == ["early", "late"]
    assert exchanges[0].time_s == 1714557600.0


def test_the_sort_is_stable_and_one_missing_time_means_file_order(tmp_path: Path) -> None:
    rows = [{"input": "a", "output": str(i), "time": 100 - i // 2} for i in range(6)]
    exchanges = read_traffic(lines(tmp_path / "t.jsonl", *rows)).exchanges
    assert [exchange.answer for exchange in exchanges] == ["4", "5", "2", "3", "0", "1"]
    del rows[5]["time"]
    exchanges = read_traffic(lines(tmp_path / "t.jsonl", *rows)).exchanges
    assert [exchange.answer for exchange in exchanges] == [str(i) for i in range(6)]
    assert {exchange.time_s for exchange in exchanges} == {None}


def test_nothing_usable_is_a_sentence(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n \n")
    with pytest.raises(TrafficError, match=r"is empty: expected .*\"input\""):
        read_traffic(empty)
    with pytest.raises(TrafficError, match="There is no file"):
        read_traffic(tmp_path / "absent.jsonl")
    (tmp_path / "folder").mkdir()
    with pytest.raises(TrafficError, match=r"holds no file"):
        read_traffic(tmp_path / "folder")
    with pytest.raises(TrafficError, match=r"cannot be read: 2\. First line 1: no output.*line 2: not JSON"):
        read_traffic(lines(tmp_path / "bad.jsonl", {"input": "a"}, "{"))
    truncated = tmp_path / "t.jsonl.gz"
    truncated.write_bytes(gzip.compress(b'{"input": "a", "output": "x"}\n' * 50)[:-20])
    with pytest.raises(TrafficError, match="decompressed"):
        read_traffic(truncated)
