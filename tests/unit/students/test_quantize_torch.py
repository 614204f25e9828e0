"""Classifiers and language models at eight bits, asked and measured."""

from __future__ import annotations

import json
import math

import pytest

transformers = pytest.importorskip("transformers", reason="needs the transformers extra")
torch = pytest.importorskip("torch", reason="needs the transformers extra")

from pilotfish.core.errors import ConfigError  # noqa: E402
from pilotfish.students.quantize_torch import FP32, Weights, divergence, job_of  # noqa: E402
from tools.command_line import CommandLine  # noqa: E402
from tools.tiny_transformers import LABELS, write_tiny_classifier, write_tiny_encoder, write_tiny_gpt2  # noqa: E402

INT8 = "torch-dynamic-int8"
TEXTS = [f"text number {number} of them" for number in range(40)]


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return str(write_tiny_gpt2(tmp_path_factory.mktemp("models") / "gpt2"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return str(write_tiny_classifier(tmp_path_factory.mktemp("models") / "distilbert"))


def test_a_classifier_says_what_transformers_says(classifier):
    model = Weights(classifier, FP32)
    pipeline = transformers.pipeline("text-classification", classifier)
    for text in TEXTS[:5]:
        (expected,) = pipeline(text)
        heard = model.ask(text, expected["label"].upper())
        assert (heard.answers, heard.score) == ([expected["label"]], 1.0)
        assert heard.confidence == pytest.approx([expected["score"]], rel=1e-5)
        assert model.ask(text, "neither").score == 0.0
        assert model.ask(text, None).score is None


def test_the_loss_of_a_text_is_that_of_transformers(language):
    model = Weights(language, FP32)
    ids = torch.tensor([[0, *transformers.AutoTokenizer.from_pretrained(language)(TEXTS[0]).input_ids]])
    expected = transformers.AutoModelForCausalLM.from_pretrained(language)(ids, labels=ids).loss.item()
    heard = model.ask(TEXTS[0], None)
    assert heard.loss == pytest.approx(expected, rel=1e-5)
    assert len(heard.answers) == len(heard.confidence) == ids.shape[1] - 1
    assert 0 <= heard.score <= 1


def test_int8_reaches_gpt2s_own_layers_and_is_smaller_and_near(language):
    """GPT-2's layers are no `nn.Linear`: torch alone would leave all but the last as they are."""
    before, after = Weights(language, FP32), Weights(language, INT8)
    kinds = {type(module).__name__ for module in after._model.modules()}
    assert "Conv1D" not in kinds
    assert after.size_bytes < 0.6 * before.size_bytes
    found = divergence(language, INT8, TEXTS[:5])
    assert 0 < found < 0.05
    assert divergence(language, FP32, TEXTS[:2]) == pytest.approx(0, abs=1e-9)


def test_a_model_without_answers_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"DistilBertModel; a classifier or a causal"):
        job_of(str(write_tiny_encoder(tmp_path / "base")))
    with pytest.raises(ConfigError, match="cannot load"):
        job_of(str(tmp_path / "nothing"))


def test_the_command_counts_flips_and_tells_the_divergence(language, tmp_path, capsys):
    data = tmp_path / "texts.jsonl"
    data.write_text("".join(json.dumps({"text": text, "label": LABELS[i % 2]}) + "\n" for i, text in enumerate(TEXTS)))
    said = CommandLine(capsys)("quantize", language, "--on", data, "--margin", 0.2, "--json")
    assert (said.code, said.err) == (0, "")
    (after,) = said.json["after"]
    assert after["kind"] == INT8
    assert after["n_answers"] == sum(map(len, TEXTS))
    assert after["n_confident_flipped"] <= after["n_flipped"] < 0.2 * after["n_answers"]
    assert (after["kl_nats"] > 0, after["is_harmless"], after["verdict"]) == (True, True, "non-inferior")
    assert math.isclose(after["perplexity"], said.json["before"]["perplexity"], rel_tol=0.05)
    assert after["latency_s"]["p50"]["value"] > 0
    assert after["latency_s"]["p99"]["why_none"] == "p99 needs 100 calls"


def test_a_table_for_a_classifier_says_what_is_not_shown(classifier, tmp_path, capsys):
    data = tmp_path / "texts.jsonl"
    data.write_text("".join(json.dumps({"text": text, "label": LABELS[i % 2]}) + "\n" for i, text in enumerate(TEXTS)))
    said = CommandLine(capsys)("quantize", classifier, "--on", data, "--margin", 0.001)
    assert said.code == 1
    assert "Not enough data to tell torch-dynamic-int8 from fp32" in said.out
    assert "of the surest 85 %" in said.out
