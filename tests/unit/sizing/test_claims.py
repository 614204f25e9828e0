"""Sentences and what becomes of them: right, wrong, cannot be judged, or left alone (the default)."""

from __future__ import annotations

import pytest

from pilotfish.sizing.claims import judge

RIGHT = [
    "GPT-2 has a context window of 1024 tokens.",
    "GPT-2 has 1.5 billion parameters.",
    "GPT-2 XL is a 1.5-billion-parameter model.",
    "BERT-base has 12 layers.",
    "BERT-base has 110 million parameters.",
    "BERT-large has 340M parameters.",
    "BERT has 12 attention heads.",
    "BERT-base uses WordPiece tokenization.",
    "BERT is an encoder-only model.",
    "Mistral 7B needs 14 GB in fp16.",
    "Mistral 7B has 7.3B parameters.",
    "Mistral 7B has 8 key-value heads.",
    "Llama 3 8B has 8 billion parameters.",
    "Llama-3-8B (8B) is popular.",
    "Llama 3.1 405B has 126 layers.",
    "Llama 3.1 supports a context window of up to 128K tokens.",
    "Llama 2 has a 4k-token context.",
    "DistilBERT is 40 % smaller than BERT.",
    "Mixtral 8x7B has 46.7B parameters.",
    "Mixtral 8x7B uses 13B active parameters.",
    "DeepSeek-V3 has 671B parameters.",
    "Gemma 7B has 8.5 billion parameters.",
    "Phi-2 has 2.7 billion parameters.",
    "Phi-2 has over 2 billion parameters.",
    "TinyLlama has about 1.1 billion parameters.",
    "GPT-2 small has a vocabulary of 50,257 tokens.",
    "RoBERTa-base has 125M parameters.",
    "T5-small has 60 million parameters.",
    "GPT-4's context window is 8,192 tokens.",
    "**Phi-2** has 2.7B parameters.",
]
WRONG = [
    "Phi-2 has 270 million parameters.",
    "Phi-2 has a context window of 32K tokens.",
    "Llama 3 has 405 billion parameters.",
    "GPT-2 small has 117M parameters.",
    "BERT has 200 billion parameters.",
    "BERT-base has 24 layers.",
    "BERT is a decoder-only model.",
    "Mixtral 8x7B has 56B parameters.",
    "Llama 3 70B needs 35 GB in fp16.",
    "Gemma 2 9B has over 20 billion parameters.",
    "DistilBERT is 60% smaller than BERT-base.",
    "GPT-2 uses WordPiece.",
    "Llama 2 7B has a 32k-token context window.",
]
UNPUBLISHED = [
    "GPT-4 has over 1T parameters.",
    "GPT-4 has 1.76 trillion parameters.",
    "PaLM 2 has up to 540B parameters.",
    "GPT-4o is a 200 billion parameter model.",
]
LEFT_ALONE = [
    "Phi-2 does not have 270 million parameters.",
    "Does Phi-2 have 270 million parameters?",
    "If Phi-2 had 270 million parameters, it would fit on a phone.",
    "It is a myth that Phi-2 has 270 million parameters.",
    "Some claim Phi-2 has 270 million parameters.",
    "Our Phi-2 has 270 million parameters after pruning.",
    "A distilled version of GPT-2 has 82 million parameters.",
    "Models like GPT-2 have 1.5 billion parameters.",
    "GPT-2-style decoder has 6 layers.",
    "BERT-tiny has 2 layers.",
    "BERT-based classifiers have 4 layers.",
    "GPT-2 has 12 million parameters in its norms.",
    "GPT-2 has 768 parameters per token.",
    "GPT-2 has 12 layers more than a single-layer model.",
    "Phi-2 has 10 times more layers than a toy.",
    "Phi-2 was trained on 1.4 trillion tokens.",
    "Phi-2 scores 56.7 on MMLU.",
    "Llama 3 was released in 2024 in 8B and 70B.",
    "Llama 3 405B does everything.",
    "Llama 3 8B needs 24 GB in fp16.",
    "GPT-4 Turbo has a context window of 128K tokens.",
    "GPT-4 costs 30 dollars a million tokens.",
    "GPT-4 has 100 million users.",
    "Mistral 7B v0.2 has a context window of 32K tokens.",
    "LoRA on GPT-2 trains 0.3 million parameters.",
    "DistilBERT is 60% faster than BERT.",
    "DistilBERT is 44 % smaller than BERT-base.",
    "A model of 7 billion parameters needs 14 GB.",
    "SuperBERT has 3 layers.",
    "GPT-2 fine-tuned by us has 3 billion parameters.",
    "The first 6 layers of BERT have 12 heads.",
    "Phi-2 and Gemma 2B have 2 and 3 billion parameters respectively.",
    "Phi-2 (2023) was a surprise.",
    "We train GPT-2 with 6 layers.",
    "Llama 3 8B (8K) is a good default.",
    "Phi-2 is better than GPT-2 (1.5B).",
    "```\nPhi-2 has 270 million parameters.\n```",
]


@pytest.mark.parametrize("sentence", RIGHT)
def test_right_claims(sentence):
    assert [claim.verdict for claim in judge(sentence)] == ["right"]


@pytest.mark.parametrize("sentence", WRONG)
def test_wrong_claims(sentence):
    (claim,) = judge(sentence)
    assert claim.verdict == "wrong"
    assert claim.value
    assert claim.source


@pytest.mark.parametrize("sentence", UNPUBLISHED)
def test_no_verdict_on_what_was_never_published(sentence):
    (claim,) = judge(sentence)
    assert claim.verdict == "cannot judge"
    assert "published" in claim.value


@pytest.mark.parametrize("sentence", LEFT_ALONE)
def test_what_cannot_be_judged_is_left_alone(sentence):
    assert judge(sentence) == []


def test_a_claim_names_its_line_and_its_source():
    text = "# Small models\n\nSmall models are\nhandy. Phi-2 has\n270 million parameters.\n"
    (claim,) = judge(text)
    assert (claim.line, claim.text) == (4, "Phi-2 has 270 million parameters")
    assert claim.value == "2,779,683,840"
    assert "microsoft/phi-2" in claim.source
