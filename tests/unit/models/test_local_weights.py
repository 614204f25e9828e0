from __future__ import annotations

import asyncio
import json
import string

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

transformers = pytest.importorskip("transformers", reason="needs the transformers extra")
torch = pytest.importorskip("torch", reason="needs the transformers extra")

from pilotfish.core.errors import ConfigError  # noqa: E402
from pilotfish.core.messages import ChatRequest, Message  # noqa: E402
from pilotfish.models.local_weights import LocalWeights  # noqa: E402
from pilotfish.models.timed import timed_answer  # noqa: E402


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A causal model of a few kilobytes with random weights, in the layout that transformers saves."""
    place = tmp_path_factory.mktemp("tiny-causal")
    words = ["<s>", *string.printable]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<s>").save_pretrained(place)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(words), n_embd=16, n_layer=1, n_head=2, n_positions=128, bos_token_id=0, eos_token_id=0
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(place)
    return place


def test_weights_answer_and_stream_alike(folder):
    model = LocalWeights(str(folder), max_tokens=8)
    request = ChatRequest(messages=[Message(role="user", content="hello")])

    async def both():
        return await model.answer(request), await timed_answer(model, request)

    whole, timed = asyncio.run(both())
    assert whole.text == timed.text
    assert timed.ttft_s is not None
    assert timed.usage.completion <= 8
    assert json.loads(whole.body)["model"] == str(folder)


def test_a_folder_without_weights_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot load"):
        LocalWeights(str(tmp_path))
