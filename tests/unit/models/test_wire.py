from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.core.errors import ModelFormatError, RequestError
from pilotfish.core.messages import ChatRequest, Message, Usage
from pilotfish.models.wire.chat import CHAT, encode_request
from pilotfish.models.wire.format import NOTHING_BOUGHT, replace_model

BODY = (
    b'{"model":"auto", "messages": [{"role":"system","content":"Label."},{"role":"user","content":"h\\u00e9llo",'
    b'"name":"x"}],"temperature":0.10,"vendor":{"model":"mine"},"n":1}'
)

PLAIN = ChatRequest(messages=[])
WITH_USAGE = ChatRequest(messages=[], stream_options={"include_usage": True})


def test_a_request_is_read_and_its_bytes_are_kept() -> None:
    request = CHAT.decode_request(BODY, (("authorization", "Bearer k"),))
    assert [(message.role, message.content) for message in request.messages] == [
        ("system", "Label."),
        ("user", "héllo"),
    ]
    assert (request.model, request.stream, request.n, request.raw) == ("auto", False, 1, BODY)
    assert request.headers == (("authorization", "Bearer k"),)


def test_null_model_and_stream_mean_their_defaults() -> None:
    request = CHAT.decode_request(b'{"model":null,"stream":null,"messages":[]}')
    assert (request.model, request.stream) == ("", False)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "could not be parsed as JSON"),
        (b'{"messages":[', "could not be parsed as JSON"),
        (b'{"messages":[{"role":"user","content":"\xff"}]}', "could not be parsed as JSON"),
        (b'{"messages":[{"role":"user","content":' + b"[" * 100_000, "nested too deeply"),
        (b"[]", "no chat request: Expected `object`, got `array`"),
        (b"{}", "missing required field `messages`"),
        (b'{"messages":"hi"}', "$.messages"),
        (b'{"messages":[{"content":"hi"}]}', "`role` - at `$.messages[0]`"),
        (b'{"messages":[],"stream":"yes"}', "$.stream"),
    ],
)
def test_what_is_no_chat_request_is_refused_with_its_place(body: bytes, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        CHAT.decode_request(body)
    assert says in str(caught.value)
    assert caught.value.status == 400


def test_replacing_the_model_keeps_every_other_value_as_it_was_written() -> None:
    replaced = replace_model(BODY, 'gpt "x"')
    assert json.loads(replaced)["model"] == 'gpt "x"'
    assert b'"temperature":0.10' in replaced
    assert b'"h\\u00e9llo"' in replaced
    assert json.loads(replaced)["vendor"] == {"model": "mine"}


def test_a_missing_model_is_added() -> None:
    assert json.loads(replace_model(b'{"messages":[]}', "m")) == {"messages": [], "model": "m"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=5), st.text())
def test_replacing_the_model_changes_nothing_else(values: dict[str, object], model: str) -> None:
    body = json.dumps(values).encode("utf-8", "surrogatepass")
    assert json.loads(replace_model(body, model)) == {**values, "model": model}


def test_a_request_made_in_process_becomes_a_body() -> None:
    request = ChatRequest(
        messages=[Message(role="user", content="hi"), Message(role="assistant", tool_calls=[{"id": "1"}])],
        model="m",
        stream=True,
        stop=["x"],
    )
    assert json.loads(encode_request(request)) == {
        "model": "m",
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        ],
        "stream": True,
        "stop": ["x"],
    }


def completion(message: dict[str, object], **fields: object) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], **fields}).encode()


def test_an_answer_is_read_with_its_usage() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    body = completion({"role": "assistant", "content": "yes"}, usage=usage, model="gpt-1")
    answer = CHAT.decode_answer(body, model="m", latency_s=0.5)
    assert (answer.text, answer.model, answer.finish_reason, answer.body) == ("yes", "gpt-1", "stop", body)
    assert answer.usage == Usage(prompt=9, completion=2, cached=4)


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "tool_calls": [{"id": "1"}]},
        {"content": "partly", "tool_calls": [{"id": "1"}]},
        {"content": None, "refusal": "I cannot."},
        {"content": None},
        {"content": [{"type": "image_url"}]},
    ],
)
def test_what_is_not_plain_text_is_no_text(message: dict[str, object]) -> None:
    assert CHAT.decode_answer(completion(message), model="m").text is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"choices":[]}', b'{"choices":[{}]}', b'{"choices":"x"}'])
def test_what_is_no_chat_completion_is_a_format_error(body: bytes) -> None:
    with pytest.raises(ModelFormatError):
        CHAT.decode_answer(body, model="m")


def test_a_stream_is_read_back_to_what_was_written() -> None:
    usage = Usage(prompt=5, completion=2, cached=1)
    summary = CHAT.decode_stream(b"".join(CHAT.encode_stream("grüß\n\ndich", WITH_USAGE, model="m", usage=usage)))
    assert (summary.text, summary.usage, summary.finish_reason, summary.is_whole) == (
        "grüß\n\ndich",
        usage,
        "stop",
        True,
    )


@given(st.text())
def test_any_text_survives_a_stream(text: str) -> None:
    data = b"".join(CHAT.encode_stream(text.encode("utf-8", "replace").decode(), PLAIN, model="m"))
    assert (CHAT.decode_stream(data).text or "") == text.encode("utf-8", "replace").decode()


def test_a_cut_stream_is_not_whole() -> None:
    events = CHAT.encode_stream("hello", PLAIN, model="m")
    assert not CHAT.decode_stream(b"".join(events[:2])).is_whole
    assert CHAT.decode_stream(b"".join(events[:2])).text == "hello"


def test_an_error_event_spoils_a_stream() -> None:
    events = b"".join(CHAT.encode_stream("hello", PLAIN, model="m")) + b'data: {"error":{"message":"overloaded"}}\n\n'
    summary = CHAT.decode_stream(events)
    assert (summary.error, summary.is_whole) == ("overloaded", False)


def test_unreadable_events_and_other_choices_are_skipped() -> None:
    data = (
        b": comment\r\n\r\nevent: x\r\ndata: {broken\r\n\r\n"
        b'data: {"choices":[{"index":1,"delta":{"content":"no"}},{"index":0,"delta":{"content":"yes"}}]}\r\n\r\n'
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\r\n\r\ndata: [DONE]\r\n\r\n'
    )
    summary = CHAT.decode_stream(data)
    assert (summary.text, summary.finish_reason) == ("yes", "length")


def test_a_streamed_tool_call_is_no_text() -> None:
    data = b'data: {"choices":[{"index":0,"delta":{"content":"","tool_calls":[{"index":0}]},"finish_reason":"x"}]}\n\n'
    assert CHAT.decode_stream(data).text is None


def test_usage_is_written_only_where_it_is_known() -> None:
    assert "usage" not in json.loads(CHAT.encode_answer("x", PLAIN, model="m"))
    assert json.loads(CHAT.encode_answer("x", PLAIN, model="m", usage=NOTHING_BOUGHT))["usage"]["total_tokens"] == 0
    assert b"usage" not in b"".join(CHAT.encode_stream("x", PLAIN, model="m"))
