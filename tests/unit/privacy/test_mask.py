"""Masking a request's body: every string, equal values alike, everything else byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.privacy.detect import Detector
from pilotfish.privacy.mask import Masker, UnscannableError, mask_body
from pilotfish.privacy.restore import Restorer

SCAN = Detector(None, {"code": r"Z\d{3}[\"\\\n]\d"}).scan
VALUES = ("ann@example.com", "bob@example.org", "4111111111111111", "GB82WEST12345698765432", "+44 20 7946 0958")
TRICKY = 'Z123"4'


def masked(**fields: Any) -> tuple[dict[str, Any], Masker]:
    data, masker = mask_body(json.dumps(fields).encode(), SCAN)
    return json.loads(data), masker


def test_equal_values_get_equal_placeholders_wherever_they_stand() -> None:
    body, masker = masked(
        messages=[{"role": "user", "content": "ann@example.com and bob@example.org, ann@example.com"}],
        user="bob@example.org",
    )
    assert body["messages"][0]["content"] == "<EMAIL_1> and <EMAIL_2>, <EMAIL_1>"
    assert body["user"] == "<EMAIL_2>"
    assert masker.placeholders.types == ("EMAIL",)


def test_a_conversation_that_grows_keeps_its_placeholders() -> None:
    first = [
        {"role": "system", "content": "Help ann@example.com."},
        {"role": "user", "content": "I am bob@example.org"},
    ]
    more = [
        *first,
        {"role": "assistant", "content": "Hi bob@example.org"},
        {"role": "user", "content": "cy@example.net"},
    ]
    short, _ = masked(user="cy@example.net", metadata={"from": "dan@example.net"}, messages=first)
    long, _ = masked(user="cy@example.net", metadata={"from": "dan@example.net"}, messages=more)
    assert long["messages"][:2] == short["messages"]
    assert list(short) == ["user", "metadata", "messages"]


def test_every_string_is_looked_at_keys_and_json_inside_strings_included() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"to": VALUES[0]})}}
    body, _ = masked(
        messages=[
            {"role": "user", "content": [{"type": "text", "text": VALUES[0]}]},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "content": json.dumps({"rows": [{VALUES[1]: 1, "card": 4111111111111111}]})},
        ],
        tools=[{"type": "function", "function": {"name": "f", "description": f"by {VALUES[1]}"}}],
        metadata={VALUES[0]: "x", "ssn": "123456789", "dob": "1980-01-02", "vendor": [[{"deep": VALUES[4]}]]},
        prompt=VALUES[3],
        number=4111111111111111,
    )
    text = json.dumps(body)
    assert not [value for value in (*VALUES, "123456789", "1980-01-02") if value in text]
    assert json.loads(body["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"to": "<EMAIL_2>"}
    assert body["metadata"]["ssn"] == "<US_SSN_1>"
    assert body["number"] == "<CARD_1>"


def test_escapes_do_not_hide_a_value() -> None:
    raw = b'{"messages":[{"role":"user","content":"\\u0061nn\\u0040example.com"}]}'
    assert b"<EMAIL_1>" in mask_body(raw, SCAN)[0]


def test_a_body_without_findings_stays_the_bytes_it_was() -> None:
    raw = b'{ "messages" : [ {"role":"user" , "content":"\\u0041 1.50"} ], "x": 1.10e3 }'
    assert mask_body(raw, SCAN)[0] is raw


def test_strings_without_findings_keep_their_bytes_beside_others() -> None:
    raw = b'{"a":"\\u0041","n":1.10e3,"messages":"ann@example.com","z":[ 1 ]}'
    assert mask_body(raw, SCAN)[0] == b'{"a":"\\u0041","n":1.10e3,"messages":"<EMAIL_1>","z":[ 1 ]}'


def test_placeholders_that_the_client_wrote_are_left_out() -> None:
    body, masker = masked(messages="say <EMAIL_1> to ann@example.com", x="\u003cEMAIL_2>")
    assert body["messages"] == "say <EMAIL_1> to <EMAIL_3>"
    assert Restorer(masker.placeholders.values).text("<EMAIL_1> <EMAIL_3>") == "<EMAIL_1> ann@example.com"


def test_a_number_of_any_length_is_no_obstacle() -> None:
    raw = b'{"seed":123456789012345678901234567890,"messages":"<b> ann@example.com"}'
    assert mask_body(raw, SCAN)[0] == raw.replace(b"ann@example.com", b"<EMAIL_1>")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"messages":"ann@example.com","messages":"x"}',
        b'{"messages":[{"content":"ann@example.com","content":"x"}]}',
        b'{"input":"ann@example.com","previous_response_id":"resp_1"}',
    ],
)
def test_what_must_not_be_guessed_about_is_refused(raw: bytes) -> None:
    with pytest.raises(UnscannableError):
        mask_body(raw, SCAN)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "image", "source": {"type": "base64", "data": "AAAA"}},
        {"url": "data:image/png;base64,AAAA"},
    ],
)
def test_what_no_detector_can_read_is_named(part: dict[str, Any]) -> None:
    assert masked(messages=[{"role": "user", "content": [part]}])[1].unread


def test_the_word_image_in_a_text_is_no_image() -> None:
    assert (
        masked(messages=[{"role": "user", "content": '{"type": "image"}'}], tools=[{"type": "function"}])[1].unread
        == ""
    )


texts = st.lists(
    st.one_of(st.text(), st.sampled_from([*VALUES, TRICKY, "<EMAIL_1>", "<", "EMAIL_1>", " ", "\\", '"', "{"]))
)
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(texts.map(" ".join), st.integers(), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts.map(" ".join), inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.sampled_from(["messages", "tools", "user", "x"]), values))
def test_a_masked_body_restores_to_what_was_sent(body: dict[str, Any]) -> None:
    raw = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    data, masker = mask_body(raw, SCAN)
    for value in VALUES:
        assert value.encode() not in data
    assert json.loads(Restorer(masker.placeholders.values).body(data)) == json.loads(raw)
