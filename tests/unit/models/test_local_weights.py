from __future__ import annotations

import asyncio
import json
import math
import threading

import pytest

transformers = pytest.importorskip("transformers", reason="needs the transformers extra")
torch = pytest.importorskip("torch", reason="needs the transformers extra")

from pilotfish.core.errors import ConfigError, ModelError, RequestError  # noqa: E402
from pilotfish.core.messages import ChatRequest, Message  # noqa: E402
from pilotfish.models import batches  # noqa: E402
from pilotfish.models.batches import Batches  # noqa: E402
from pilotfish.models.local_weights import LocalWeights, read_sampling  # noqa: E402
from pilotfish.models.local_writing import Writer  # noqa: E402
from pilotfish.models.timed import timed_answer  # noqa: E402
from pilotfish.models.wire.chat import CHAT  # noqa: E402
from pilotfish.models.wire.formats import FORMATS  # noqa: E402
from tools.tiny_transformers import CHAT as TEMPLATE  # noqa: E402
from tools.tiny_transformers import write_tiny_bart, write_tiny_gpt2, write_tiny_llama, write_tiny_t5  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(write_tiny_gpt2(tmp_path_factory.mktemp("tiny") / "gpt2"))


@pytest.fixture(scope="module")
def model(folder):
    return LocalWeights(folder, name="tiny")


def chat(text="hello", **options):
    body = {"model": "tiny", "messages": [{"role": "user", "content": text}], "max_tokens": 8, **options}
    return CHAT.decode_request(json.dumps(body).encode())


def said(model, **options):
    return asyncio.run(model.answer(chat(**options)))


def test_weights_answer_and_stream_alike(folder):
    model = LocalWeights(folder, max_tokens=8)
    request = ChatRequest(messages=[Message(role="user", content="hello")], stream_options={"include_usage": True})

    async def both():
        return await model.answer(request), await timed_answer(model, request)

    whole, timed = asyncio.run(both())
    assert whole.text == timed.text
    assert timed.ttft_s is not None
    assert timed.usage == whole.usage
    assert timed.usage.completion <= 8
    assert timed.finish_reason == whole.finish_reason == "length"
    assert json.loads(whole.body)["model"] == folder


def test_without_a_temperature_it_is_the_librarys_greedy_generation(model, folder):
    ids = transformers.AutoTokenizer.from_pretrained(folder)("hello", return_tensors="pt").input_ids
    library = transformers.AutoModelForCausalLM.from_pretrained(folder)
    made = library.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=0)
    expected = transformers.AutoTokenizer.from_pretrained(folder).decode(made[0, 5:], skip_special_tokens=True)
    assert said(model).text == expected


def test_a_seed_repeats_and_another_does_not(model):
    texts = [said(model, temperature=1.5, seed=seed, max_tokens=16).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_tiny_top_p_leaves_the_likeliest_token(model):
    assert said(model, temperature=2.0, top_p=1e-6, seed=3).text == said(model).text


def test_a_stop_sequence_ends_the_answer_before_it_also_in_a_stream(model):
    whole = said(model, max_tokens=16).text
    stop = whole[5:8]
    cut = whole.index(stop)
    answer = said(model, max_tokens=16, stop=["\0never", stop])
    assert (answer.text, answer.finish_reason) == (whole[:cut], "stop")
    streamed = asyncio.run(timed_answer(model, chat(max_tokens=16, stop=stop)))
    assert (streamed.text, streamed.finish_reason) == (whole[:cut], "stop")


def test_log_probabilities_are_those_of_the_tokens_said(model):
    answer = said(model, logprobs=True, top_logprobs=2, max_tokens=4)
    rows = json.loads(answer.body)["choices"][0]["logprobs"]["content"]
    assert [row["token"] for row in rows] == answer.text.split(" ")
    for row in rows:
        assert len(row["top_logprobs"]) == 2
        assert row["logprob"] == row["top_logprobs"][0]["logprob"] < 0
    timed = asyncio.run(timed_answer(model, chat(logprobs=True, max_tokens=4)))
    assert timed.certainty == pytest.approx(math.exp(sum(row["logprob"] for row in rows) / len(rows)))


def test_a_chat_template_is_used_where_there_is_one(tmp_path, folder):
    plain = LocalWeights(folder)
    templated = LocalWeights(str(write_tiny_gpt2(tmp_path / "chat", chat_template=TEMPLATE)))
    assert said(templated).text == said(plain, text="user: hello\nassistant: ").text


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/responses", "/messages"])
@pytest.mark.parametrize("streams", [False, True])
def test_every_format_is_answered_and_says_that_the_answer_was_cut(model, path, streams):
    form = next(form for form in FORMATS if form.path == path)
    limit = {"/responses": "max_output_tokens"}.get(path, "max_tokens")
    question = {"/completions": {"prompt": "hello"}, "/responses": {"input": "hello"}}
    given = question.get(path, {"messages": [{"role": "user", "content": "hello"}]})
    request = form.decode_request(json.dumps({"model": "tiny", limit: 8, "stream": streams, **given}).encode())

    async def ask():
        if streams:
            return form.decode_stream(b"".join([piece async for piece in model.stream(request)]))
        return await model.answer(request)

    found = asyncio.run(ask())
    assert found.text == said(model).text
    if not streams:
        assert any(mark in found.body for mark in (b'"length"', b'"max_tokens"', b'"max_output_tokens"'))


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"n": 2}, "n"),
        ({"response_format": {"type": "json"}}, "response"),
    ],
)
def test_what_cannot_be_honoured_is_refused(options, param):
    with pytest.raises(RequestError, match=r"cannot honour|one answer") as caught:
        read_sampling(chat(**options), 8)
    assert caught.value.param.startswith(param)


def test_what_is_no_text_is_refused():
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    bodies = {"/chat/completions": {"messages": picture}, "/embeddings": {"input": "x"}}
    bodies |= {
        "/completions": {"prompt": ["one", "two"]},
        "/messages/count_tokens": {"messages": [{"role": "user", "content": "x"}]},
    }
    for form in FORMATS:
        if form.path in bodies:
            request = form.decode_request(json.dumps({"model": "tiny", **bodies[form.path]}).encode())
            with pytest.raises(RequestError, match=r"reads text only|goes on with one text"):
                read_sampling(request, 8)


@pytest.mark.parametrize("options", [{"temperature": -1}, {"top_p": 0}, {"max_tokens": 0}, {"seed": "one"}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(RequestError, match=r"Expected|wrong kind"):
        read_sampling(chat(**options), 8)


def test_more_than_the_model_reads_is_refused(model):
    with pytest.raises(RequestError, match="have 200 tokens; tiny reads 128"):
        said(model, text="x" * 200)


def test_a_folder_without_weights_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot load"):
        LocalWeights(str(tmp_path))


def test_the_loop_goes_on_and_who_leaves_ends_the_work(model):
    async def ask():
        stream = model.stream(chat(max_tokens=100))
        await anext(stream)
        await stream.aclose()
        return await model.answer(chat(max_tokens=2))

    assert asyncio.run(ask()).usage.completion == 2


def test_too_many_are_refused_and_a_fault_of_the_work_is_the_models(monkeypatch):
    def broken(_jobs):
        raise MemoryError("no room")

    thread = Batches("busy", broken)
    with pytest.raises(ModelError, match="busy failed: MemoryError: no room"):
        asyncio.run(thread.run("?"))
    monkeypatch.setattr(batches, "MAX_WAITING", 0)
    with pytest.raises(ModelError, match="0 requests waiting") as caught:
        asyncio.run(thread.run("?"))
    assert caught.value.status == 503
    thread.close()


def test_what_waits_is_taken_together_and_who_left_is_not():
    held, seen = threading.Event(), []

    def work(jobs):
        held.wait(120)
        seen.append([job.asked for job in jobs])
        for job in jobs:
            job.tell(job.asked)

    async def ask():
        thread = Batches("model", work, most=3)
        first = asyncio.create_task(thread.run("first"))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(thread.run(number)) for number in range(5)]
        await asyncio.sleep(0.05)
        others[1].cancel()
        await asyncio.sleep(0)
        held.set()
        found = await asyncio.gather(first, *others, return_exceptions=True)
        thread.close()
        return found

    found = asyncio.run(ask())
    assert [answer for answer in found if isinstance(answer, (str, int))] == ["first", 0, 2, 3, 4]
    assert seen == [["first"], [0, 2, 3], [4]]


@pytest.mark.parametrize("write", [write_tiny_gpt2, write_tiny_llama, write_tiny_bart, write_tiny_t5])
def test_requests_in_a_batch_are_answered_as_alone(tmp_path, write):
    """Prompts of unlike length, with lengths, stops, seeds and log probabilities of their own; one asks too much."""
    model = LocalWeights(str(write(tmp_path / "model")))
    asked = [
        chat("hello", max_tokens=12, logprobs=True, top_logprobs=1),
        chat("a ship in the harbour of", max_tokens=3),
        chat("x", max_tokens=16, temperature=1.5, seed=5),
        chat("the price of rice", max_tokens=16, stop=["e", "q"]),
        chat("to y" * 60),
        chat("once more hello", max_tokens=1),
    ]

    async def together():
        first = asyncio.create_task(model.answer(chat("first")))
        await asyncio.sleep(0)
        found = await asyncio.gather(*(model.answer(one) for one in asked), return_exceptions=True)
        await first
        return found

    found = asyncio.run(together())
    for one, answer in zip(asked, found, strict=True):
        if isinstance(answer, RequestError):
            with pytest.raises(RequestError, match="tokens"):
                asyncio.run(model.answer(one))
            continue
        alone = asyncio.run(model.answer(one))
        assert (answer.text, answer.usage, answer.finish_reason) == (alone.text, alone.usage, alone.finish_reason)
        rows = [json.loads(body)["choices"][0]["logprobs"] for body in (answer.body, alone.body)]
        if rows[0]:
            made = [[row["logprob"] for row in told["content"]] for told in rows]
            assert made[0] == pytest.approx(made[1], abs=1e-4)


def test_who_leaves_a_batch_leaves_the_others_in_it(model):
    async def ask():
        first = asyncio.create_task(model.answer(chat(max_tokens=30)))
        await asyncio.sleep(0)
        stream = model.stream(chat("x", max_tokens=100))
        leaves = asyncio.create_task(anext(stream))
        stays = asyncio.create_task(model.answer(chat("hello", max_tokens=90)))
        await leaves
        await stream.aclose()
        await first
        return await stays

    assert asyncio.run(ask()).text == said(model, max_tokens=90).text


def test_a_model_whose_answers_depend_on_what_is_beside_is_asked_one_at_a_time(folder):
    config = transformers.LlamaConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert Writer(transformers.LlamaForCausalLM(config), tokenizer).batches
    config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    assert not Writer(transformers.LlamaForCausalLM(config), tokenizer).batches


@pytest.mark.parametrize("forced", [None, 5])
def test_an_encoder_decoder_says_what_the_library_generates_and_has_a_window_of_its_own(tmp_path, forced):
    folder = str(write_tiny_bart(tmp_path / "bart", forced_bos_token_id=forced))
    model = LocalWeights(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    library = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    text = "a text of thirty characters ok"
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert ids.shape[1] == 32
    expected = library.generate(ids, max_new_tokens=9, do_sample=False, num_beams=1)[0]
    said = asyncio.run(model.answer(chat(text, max_tokens=9 - (forced is not None))))
    assert said.text == tokenizer.decode(expected[1 + (forced is not None) :], skip_special_tokens=True)
    with pytest.raises(RequestError, match=r"33 tokens; .* reads 32\."):
        asyncio.run(model.answer(chat(text + "!")))
