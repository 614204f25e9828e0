from __future__ import annotations

import asyncio
import json
import math
import sys

import pytest

pytest.importorskip("xllamacpp", reason="needs the llama extra")

from pilotfish.config.settings import ModelSettings
from pilotfish.core.errors import ConfigError, MissingExtraError, ModelError, ModelStatusError
from pilotfish.core.messages import ChatRequest, Message
from pilotfish.models import local_gguf
from pilotfish.models.build import configured_model
from pilotfish.models.local_gguf import LocalGguf
from pilotfish.models.timed import timed_answer
from tools.tiny_gguf import write_gguf

ASKED = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0, "max_tokens": 6}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    found = LocalGguf(write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf"), n_threads=1)
    yield found
    asyncio.run(found.aclose())


def request(**fields):
    messages = [Message(role="user", content="hello")]
    return ChatRequest(messages=messages, raw=json.dumps({**ASKED, **fields}).encode())


def test_the_file_answers_and_streams_alike(model):
    async def both():
        asked = request(logprobs=True, stream_options={"include_usage": True})
        return await model.answer(asked), await timed_answer(model, asked)

    whole, timed = asyncio.run(both())
    assert whole.text == timed.text
    assert (len(whole.text), whole.finish_reason, timed.finish_reason) == (6, "length", "length")
    assert whole.usage.completion == timed.usage.completion == 6
    assert 0 < timed.ttft_s < timed.latency_s
    assert len(timed.gaps_s) == 5
    said = json.loads(whole.body)
    assert said["model"] == "tiny", "and not where the file lies"
    mean = sum(token["logprob"] for token in said["choices"][0]["logprobs"]["content"]) / 6
    assert timed.certainty == pytest.approx(math.exp(mean), rel=1e-3)


def test_an_answer_keeps_to_a_schema_or_a_grammar(model):
    schema = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
    form = {"type": "json_schema", "json_schema": {"name": "c", "schema": {**schema, "additionalProperties": False}}}
    by_schema = asyncio.run(model.answer(request(response_format=form, max_tokens=60)))
    assert json.loads(by_schema.text)["colour"] in ("red", "blue")
    by_grammar = asyncio.run(model.answer(request(grammar='root ::= "yes" | "no"')))
    assert by_grammar.text in ("yes", "no")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"messages": [{"role": "user", "content": "x" * 9000}]}, b"context size"),
        ({"grammar": "root ::= ((("}, b"grammar"),
        ({"messages": "?"}, b"messages"),
    ],
)
def test_what_it_cannot_answer_is_its_own_error(model, fields, said):
    with pytest.raises(ModelStatusError) as caught:
        asyncio.run(timed_answer(model, request(**fields)))
    assert caught.value.status == 400
    assert said in caught.value.body


def test_a_stream_that_is_left_ends_the_work(model):
    async def left():
        stream = model.stream(request(max_tokens=4000))
        await anext(stream)
        await stream.aclose()
        return await asyncio.wait_for(model.answer(request()), 20)

    assert asyncio.run(left()).text


def test_what_is_no_model_is_a_clear_error(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"GGUF but no more")
    with pytest.raises(ConfigError, match=r"cannot load bad\.gguf"):
        LocalGguf(tmp_path / "bad.gguf")
    with pytest.raises(ConfigError, match="no task 'classify'"):
        configured_model("small", ModelSettings(weights="small.gguf", task="classify"), client_url="")


def test_without_llama_cpp_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    monkeypatch.delitem(sys.modules, "pilotfish.models.local_gguf")
    with pytest.raises(MissingExtraError, match="'llama' extra"):
        configured_model("small", ModelSettings(weights="small.gguf"), client_url="")


def test_requests_at_once_share_the_context(model):
    """Three of these would overflow it together, and llama.cpp would break off all of them."""
    lengths = [("a", 3000, 40), ("b", 3000, 40), ("c", 3000, 40), ("d", 9, 8), ("e", 90, 20)]
    asked = [
        request(messages=[{"role": "user", "content": letter * size}], max_tokens=most, cache_prompt=False)
        for letter, size, most in lengths
    ]

    async def all_at_once():
        return await asyncio.gather(*(model.answer(one) for one in asked))

    found = asyncio.run(all_at_once())
    assert [(len(one.text), one.usage.completion) for one in found] == [(most, most) for _, _, most in lengths]
    alone = [asyncio.run(model.answer(one)) for one in asked]
    assert [one.usage.prompt for one in found] == [one.usage.prompt for one in alone]
    # Later tokens may part: sums over a batch round otherwise, and weights that mean nothing have many near ties.
    assert [one.text[0] for one in found] == [one.text[0] for one in alone]


def test_too_many_are_refused(model, monkeypatch):
    monkeypatch.setattr(local_gguf, "MAX_WAITING", 0)
    with pytest.raises(ModelError, match="0 requests waiting") as caught:
        asyncio.run(model.answer(request()))
    assert caught.value.status == 503
