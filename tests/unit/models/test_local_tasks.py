"""Classifiers, readers and encoders of transformers behind the model protocol, against the library's own pipelines."""

from __future__ import annotations

import asyncio
import json

import pytest

transformers = pytest.importorskip("transformers", reason="needs the transformers extra")
torch = pytest.importorskip("torch", reason="needs the transformers extra")

from pilotfish.config.settings import LargeSettings, ModelSettings  # noqa: E402
from pilotfish.core.errors import ConfigError, RequestError  # noqa: E402
from pilotfish.core.messages import ChatRequest, Message  # noqa: E402
from pilotfish.models.build import configured_model, large_model  # noqa: E402
from pilotfish.models.timed import timed_answer  # noqa: E402
from pilotfish.models.wire.embeddings import EMBEDDINGS  # noqa: E402
from tools.tiny_transformers import write_tiny_classifier, write_tiny_encoder, write_tiny_reader  # noqa: E402

CONTEXT = "The ship left the harbour of Genoa at nine in the morning with forty sacks of rice on board."


def opened(folder, task):
    return configured_model("it", ModelSettings(weights=str(folder), task=task), client_url="")


def asked(*texts):
    return ChatRequest(messages=[Message(role="user", content=text) for text in texts])


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return write_tiny_classifier(tmp_path_factory.mktemp("tiny") / "classifier")


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return write_tiny_reader(tmp_path_factory.mktemp("tiny") / "reader")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_tiny_encoder(tmp_path_factory.mktemp("tiny") / "encoder")


def test_a_classifier_answers_the_label_of_the_last_message(classifier):
    model, pipeline = opened(classifier, "classify"), transformers.pipeline("text-classification", str(classifier))
    for text in ("good", "bad bad", "neither nor"):
        answer = asyncio.run(model.answer(asked("earlier", text)))
        assert answer.text == pipeline(text)[0]["label"]
        assert asyncio.run(timed_answer(model, asked(text))).text == answer.text
    assert model.card.is_local


def test_weights_may_be_the_large_model(classifier):
    model = large_model(LargeSettings(model="big", weights=str(classifier), task="classify"))
    assert model.card.name == "big"
    assert asyncio.run(model.answer(asked("good"))).model == "big"


def test_a_reader_answers_in_words_of_the_context(reader):
    model, question = opened(reader, "answer"), "From where did the ship leave?"
    answer = asyncio.run(model.answer(asked(CONTEXT, question)))
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(reader))
    both = tokenizer(question, CONTEXT, return_tensors="pt")
    with torch.inference_mode():
        found = transformers.AutoModelForQuestionAnswering.from_pretrained(str(reader))(**both)
    first = len(question) + 2
    spans = {
        (start, end): float(found.start_logits[0, start] + found.end_logits[0, end])
        for start in range(first, first + len(CONTEXT))
        for end in range(start, min(start + 30, first + len(CONTEXT)))
    }
    start, end = max(spans, key=spans.get)
    assert answer.text == CONTEXT[start - first : end - first + 1]
    with pytest.raises(RequestError, match="answers from a context"):
        asyncio.run(model.answer(asked(question)))


def test_an_encoder_answers_embeddings_of_length_one(encoder):
    model = opened(encoder, "embed")
    body = json.dumps({"model": "it", "input": ["one", "another text"]}).encode()
    reply = json.loads(asyncio.run(model.answer(EMBEDDINGS.decode_request(body))).body)
    library, tokenizer = (
        kind.from_pretrained(str(encoder)) for kind in (transformers.AutoModel, transformers.AutoTokenizer)
    )
    for row, text in zip(reply["data"], ("one", "another text"), strict=True):
        with torch.inference_mode():
            mean = library(tokenizer(text, return_tensors="pt").input_ids).last_hidden_state[0].mean(0)
        assert row["embedding"] == pytest.approx((mean / mean.norm()).tolist(), abs=1e-6)
    assert reply["usage"]["prompt_tokens"] == 3 + 12 + 4
    with pytest.raises(RequestError, match="answers none"):
        asyncio.run(model.answer(asked("hello")))


def test_texts_at_once_are_labelled_and_embedded_as_alone(classifier, encoder):
    """Of unlike length; one that is not of the model's kind fails alone."""
    texts = ["good", "a much longer text than the others have", "bad bad", "", "neither nor"]
    requests = [EMBEDDINGS.decode_request(json.dumps({"model": "it", "input": [text, "x"]}).encode()) for text in texts]

    async def at_once(model, requests):
        first = asyncio.create_task(model.answer(requests[0]))
        await asyncio.sleep(0)
        found = await asyncio.gather(*(model.answer(one) for one in requests), return_exceptions=True)
        await first
        return found

    def one_by_one(model, requests):
        return [asyncio.run(model.answer(one)) for one in requests]

    labels, whole = opened(classifier, "classify"), [asked(text) for text in texts]
    found = asyncio.run(at_once(labels, whole))
    assert isinstance(found.pop(3), RequestError)
    assert [one.text for one in found] == [one.text for one in one_by_one(labels, whole[:3] + whole[4:])]
    vectors = opened(encoder, "embed")
    found = asyncio.run(at_once(vectors, requests))
    assert isinstance(found.pop(3), RequestError)
    for one, other in zip(found, one_by_one(vectors, requests[:3] + requests[4:]), strict=True):
        for row, alone in zip(*(json.loads(answer.body)["data"] for answer in (one, other)), strict=True):
            assert row["embedding"] == pytest.approx(alone["embedding"], abs=1e-6)


def test_what_cannot_be_loaded_is_said(tmp_path):
    with pytest.raises(ConfigError, match="cannot load"):
        opened(tmp_path, "embed")
