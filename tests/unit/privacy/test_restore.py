"""Restoring replies: whole, nested, escaped, and in streams cut at any byte into any tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.privacy.detect import Detector
from pilotfish.privacy.mask import mask_body
from pilotfish.privacy.restore import Restorer

MAIL = "ann@example.com"
TRICKY = 'Rue "X" 1\n2\\3'
RESTORER = Restorer({"<EMAIL_1>": MAIL, "<PLACE_1>": TRICKY, "<EMAIL_11>": "bob@example.org"})
Event = Callable[[str], dict[str, Any]]


def chat(text: str) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


def arguments(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1, "function": {"arguments": text}}]}}]}


def anthropic(text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def responses(text: str) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": text}


EVENTS: list[Event] = [chat, arguments, anthropic, responses]
READ: dict[Event, Callable[[dict[str, Any]], str]] = {
    chat: lambda event: str(event["choices"][0]["delta"].get("content", "")),
    arguments: lambda event: str(event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"]),
    anthropic: lambda event: str(event["delta"]["text"]),
    responses: lambda event: str(event["delta"]),
}


def stream(pieces: Sequence[str], event: Event = chat) -> bytes:
    rows = [b"event: x\ndata: " + json.dumps(event(piece)).encode() + b"\n\n" for piece in pieces]
    return b"".join(rows) + b"data: [DONE]\n\n"


def events(data: bytes) -> list[dict[str, Any]]:
    lines = [line[6:] for line in data.splitlines() if line.startswith(b"data: {")]
    return [json.loads(line) for line in lines]


def restored(data: bytes, size: int = 7, restorer: Restorer = RESTORER) -> bytes:
    live = restorer.stream()
    return b"".join(live.feed(data[at : at + size]) for at in range(0, len(data), size)) + live.end()


def test_a_reply_gets_its_values_back_and_keeps_its_other_bytes() -> None:
    body = b'{"n": 1.10, "a": "<EMAIL_1>, <EMAIL_11>, <EMAIL_2>",  "b": "\\u003cEMAIL_1\\u003e", "c": "\\u0041"}'
    want = b'{"n": 1.10, "a": "ann@example.com, bob@example.org, <EMAIL_2>",  "b": "ann@example.com", "c": "\\u0041"}'
    assert RESTORER.body(body) == want


def test_values_are_escaped_where_they_land() -> None:
    inner = json.dumps({"to": "<PLACE_1>", "more": json.dumps(["<PLACE_1>"])})
    reply = json.loads(RESTORER.body(json.dumps({"content": "<PLACE_1>", "arguments": inner}).encode()))
    assert reply["content"] == TRICKY
    assert json.loads(reply["arguments"])["to"] == TRICKY
    assert json.loads(json.loads(reply["arguments"])["more"]) == [TRICKY]


def test_what_is_no_json_is_restored_as_text() -> None:
    assert RESTORER.body(b"<html>\xff<EMAIL_1>") == b"<html>\xffann@example.com"


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_a_placeholder_cut_over_events_is_put_together(event: Event, size: int) -> None:
    data = stream(["Write to <", "EM", "AIL_1", ">", " and <EMAIL_1", "1>, 1 <", " 2, <b", "r>"], event)
    got = events(restored(data, size))
    assert "".join(map(READ[event], got)) == "Write to ann@example.com and bob@example.org, 1 < 2, <br>"
    assert len(got) == 8


def test_arguments_that_are_json_stay_json() -> None:
    got = events(restored(stream(['{"to": "<PL', 'ACE_1>", "n": 1', "}"], arguments)))
    assert json.loads("".join(map(READ[arguments], got))) == {"to": TRICKY, "n": 1}


def test_nothing_waits_that_cannot_become_a_placeholder() -> None:
    live = RESTORER.stream()
    for text in ("plain", "1 < 2", "<b>", "<EMAIL_9", "a <"):
        data = b"data: " + json.dumps(chat(text)).encode() + b"\n\n"
        assert (live.feed(data) == data) is not text.endswith("a <")


def test_two_answers_in_one_stream_do_not_mix() -> None:
    def part(index: int, text: str) -> bytes:
        return b"data: " + json.dumps({"choices": [{"index": index, "delta": {"content": text}}]}).encode() + b"\n\n"

    pieces = [(0, "<EMA"), (1, "<EMAIL"), (1, "_11>"), (0, "IL_1>"), (0, "."), (1, "!")]
    said = {0: "", 1: ""}
    for event in events(restored(b"".join(part(*piece) for piece in pieces))):
        choice = event["choices"][0]
        said[choice["index"]] += choice["delta"]["content"]
    assert said == {0: f"{MAIL}.", 1: "bob@example.org!"}


def test_a_stream_that_is_cut_gives_out_what_it_held() -> None:
    data = stream(["a <EMAIL_1> <EMA"])[:-14]
    assert "".join(map(READ[chat], events(restored(data)))) == f"a {MAIL} <EMA"
    assert restored(b'data: {"x": "<EMAIL_1>') == b'data: {"x": "ann@example.com'


def test_lines_without_a_placeholder_keep_their_bytes() -> None:
    data = b': ping\n\nevent: a\r\ndata:  {"a" :1.10}\r\n\r\ndata: [DONE]\n\n'
    assert restored(data) == data
    assert restored(data, restorer=Restorer({"<EMAIL_1>": MAIL})) == data


def test_a_line_nested_too_deeply_is_restored_as_bytes() -> None:
    data = b"data: " + b"[" * 300 + b'"<EMAIL_1>"' + b"]" * 300 + b"\n\n"
    assert MAIL.encode() in restored(data)


@given(
    st.lists(st.one_of(st.binary(), st.sampled_from([b"data: ", b'{"a":"<', b'EMAIL_1>"}', b"\n", b"\r\n", b"[DONE]"])))
)
def test_no_bytes_are_too_strange_to_pass(pieces: list[bytes]) -> None:
    """What holds no placeholder of this request comes out as it went in."""
    foreign = Restorer({"<IBAN_1>": "x"})
    live = foreign.stream()
    assert b"".join([*map(live.feed, pieces), live.end()]) == b"".join(pieces)
    live = RESTORER.stream()
    assert b"".join([*map(live.feed, pieces), live.end()]).count(b"\n") == b"".join(pieces).count(b"\n")


words = st.lists(
    st.one_of(
        st.text(),
        st.sampled_from(["ann@example.com", "bob@example.org", "4111111111111111", "<", "<EMAIL_1>", "<E", "{"]),
    ),
    max_size=8,
).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(words, st.data())
def test_masked_streamed_and_restored_any_text_comes_back_whole(text: str, data: st.DataObject) -> None:
    raw = json.dumps({"messages": text}, ensure_ascii=False).encode("utf-8", "replace")
    sent = json.loads(raw)["messages"]
    body, masker = mask_body(raw, Detector().scan)
    masked = json.loads(body)["messages"]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(masked)), max_size=12)))
    pieces = [masked[start:end] for start, end in zip([0, *cuts], [*cuts, len(masked)], strict=True)]
    size = data.draw(st.integers(1, 200))
    event = data.draw(st.sampled_from(EVENTS))
    got = restored(stream(pieces, event), size, Restorer(masker.placeholders.values))
    assert "".join(map(READ[event], events(got))) == sent
