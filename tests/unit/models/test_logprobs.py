"""Log-probabilities: asked for without a trace in what the client gets, and read as signals need them."""

from __future__ import annotations

import json

import pytest

from pilotfish.models.wire import logprobs
from pilotfish.models.wire.chat import CHAT
from pilotfish.models.wire.format import ClientRequest
from tools.families import events, whole, with_logprobs

PATH = "/v1/chat/completions"
WHOLE = with_logprobs(whole(PATH, "hi", "m"), -0.5)


def request(**fields: object) -> ClientRequest:
    body = {"model": "auto", "messages": [{"role": "user", "content": "x"}], "seed": 1, **fields}
    return CHAT.decode_request(json.dumps(body).encode())


def stream(asked: dict[str, object]) -> list[bytes]:
    found = events(PATH, "hi", {"model": "m", **asked})
    return [b"data: %s\n\n" % with_logprobs(row[6:], -0.5) if row[:7] == b"data: {" else row for row in found]


def test_what_is_added_is_taken_out_again() -> None:
    added = logprobs.asking(request(), logprobs=True)
    sent = json.loads(added.request.raw)
    assert (sent["logprobs"], sent["top_logprobs"], sent["seed"]) == (True, 2, 1)
    assert json.loads(added.without(WHOLE)) == json.loads(whole(PATH, "hi", "m"))


def test_what_the_client_asked_for_is_left_to_the_byte() -> None:
    asked = request(logprobs=True, stream=True, stream_options={"include_usage": True})
    added = logprobs.asking(asked, logprobs=True)
    assert added.request.raw == asked.raw
    assert added.without(WHOLE) is WHOLE
    assert added.stream_without(b"data: {}\n\n") == b"data: {}\n\n"


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_a_stream_loses_only_what_was_added(end: bytes) -> None:
    added = logprobs.asking(request(stream=True), logprobs=True)
    assert json.loads(added.request.raw)["stream_options"] == {"include_usage": True}
    data = b"".join(stream({"stream_options": {"include_usage": True}})).replace(b"\n\n", end)
    shown = added.stream_without(b": ping" + end + data)
    assert shown.startswith(b": ping")
    assert shown.endswith(b"data: [DONE]" + end)
    assert b"logprobs" not in shown
    assert b"usage" not in shown
    assert CHAT.decode_stream(shown).text == "hi"


def test_tokens_and_margins_are_read_alike_from_both() -> None:
    found = logprobs.read(WHOLE)
    assert (found.tokens, found.logprobs, found.margins) == (("h", "i"), (-0.5, -0.5), (1.0, 1.0))
    assert logprobs.read_stream(b"".join(stream({}))) == found


@pytest.mark.parametrize(
    "content",
    [None, [], [{"token": "a"}], [{"token": "a", "logprob": -1.0}, {"token": "b", "logprob": None}]],
    ids=["null", "empty", "no number", "half"],
)
def test_what_a_server_does_not_tell_is_empty(content: object) -> None:
    body = json.dumps({"choices": [{"index": 0, "logprobs": {"content": content}}]}).encode()
    assert logprobs.read(body) == logprobs.Tokens()
    assert logprobs.read(b"no json") == logprobs.Tokens()


def test_without_alternatives_there_are_no_margins() -> None:
    body = json.dumps({"choices": [{"logprobs": {"content": [{"token": "a", "logprob": -1.0}]}}]}).encode()
    assert logprobs.read(body).margins == ()
    assert logprobs.read(body).logprobs == (-1.0,)


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_stream_in_pieces_is_cleaned_and_read_like_the_whole(end: bytes, size: int) -> None:
    added = logprobs.asking(request(stream=True), logprobs=True)
    data = b"".join(stream({"stream_options": {"include_usage": True}})).replace(b"\n\n", end)
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    cleaner = logprobs.Cleaner(added)
    assert b"".join(map(cleaner.feed, pieces)) + cleaner.end() == added.stream_without(data)
    beginning = logprobs.Beginning(1)
    found = next(tokens for piece in pieces if (tokens := beginning.feed(piece)) is not None)
    assert (found.tokens, found.logprobs, found.margins) == (("h",), (-0.5,), (1.0,))


def test_a_beginning_waits_for_all_of_its_tokens_and_not_for_what_never_comes() -> None:
    beginning = logprobs.Beginning(3)
    assert [beginning.feed(event) for event in stream({})] == [None] * len(stream({}))
    thought = {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]}
    silent = {"choices": [{"index": 0, "delta": {"content": "so"}}]}
    beginning = logprobs.Beginning(3)
    assert beginning.feed(b"data: %s\n\n" % json.dumps(thought).encode()) is None
    assert beginning.feed(b"data: %s\n\n" % json.dumps(silent).encode()) == logprobs.Tokens()
