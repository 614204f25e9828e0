"""Models of a few kilobytes with random weights, in the layout that transformers saves: stand-ins for the hub's."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

CHARACTERS = ["<s>", *string.printable]
LABELS = ("negative", "positive")
CHAT = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "


def _save(model: Any, place: Path, *, chat_template: str = "") -> Path:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(CHARACTERS)}, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    if isinstance(model, transformers.T5ForConditionalGeneration):
        tokenizer.post_processor = processors.TemplateProcessing(single="$A <s>", special_tokens=[("<s>", 0)])
    elif not isinstance(model, transformers.GPT2LMHeadModel):
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A <s>", pair="<s> $A <s> $B:1 <s>:1", special_tokens=[("<s>", 0)]
        )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<s>", pad_token="<s>", cls_token="<s>", sep_token="<s>"
    )
    if chat_template:
        fast.chat_template = chat_template
    fast.save_pretrained(place)
    model.save_pretrained(place)
    return place


def write_tiny_gpt2(
    place: Path, *, chat_template: str = "", seed: int = 0, n_layers: int = 2, is_new: bool = False
) -> Path:
    """A causal language model over characters, of GPT-2's architecture; `is_new` with the weights one trains from."""
    torch.manual_seed(seed)
    size = {"vocab_size": len(CHARACTERS), "n_embd": 32, "n_layer": n_layers, "n_head": 2, "n_positions": 128}
    # Larger weights than it would be trained from: else it says one letter for ever.
    spread = 0.02 if is_new else 0.5
    config = transformers.GPT2Config(**size, bos_token_id=0, eos_token_id=0, initializer_range=spread)
    return _save(transformers.GPT2LMHeadModel(config), place, chat_template=chat_template)


def write_tiny_llama(place: Path, *, seed: int = 0) -> Path:
    """A causal language model over characters, of Llama's architecture: places are told apart by turning."""
    torch.manual_seed(seed)
    size = {"vocab_size": len(CHARACTERS), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 128}
    config = transformers.LlamaConfig(**size, **heads, bos_token_id=0, eos_token_id=0, initializer_range=0.5)
    return _save(transformers.LlamaForCausalLM(config), place)


def write_tiny_t5(place: Path, *, seed: int = 0) -> Path:
    """An encoder-decoder over characters, of T5's architecture."""
    torch.manual_seed(seed)
    size = {"vocab_size": len(CHARACTERS), "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
    ends = {"decoder_start_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    return _save(
        transformers.T5ForConditionalGeneration(transformers.T5Config(**size, **ends, dropout_rate=0.0)), place
    )


def write_tiny_bart(place: Path, *, forced_bos_token_id: int | None = None, seed: int = 0) -> Path:
    """An encoder-decoder over characters that reads 32 of them, of BART's architecture."""
    torch.manual_seed(seed)
    size = {"vocab_size": len(CHARACTERS), "d_model": 32, "max_position_embeddings": 32, "init_std": 0.5}
    size |= {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    size |= {f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "decoder_start_token_id": 0}
    config = transformers.BartConfig(**size, **ends, forced_eos_token_id=None)
    model = transformers.BartForConditionalGeneration(config)
    model.generation_config.forced_bos_token_id = forced_bos_token_id
    return _save(model, place)


def _distilbert(**more: Any) -> transformers.DistilBertConfig:
    size = {"vocab_size": len(CHARACTERS), "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2}
    return transformers.DistilBertConfig(**size, max_position_embeddings=128, pad_token_id=0, **more)


def write_tiny_classifier(place: Path, *, seed: int = 0) -> Path:
    """A classifier of two labels, of DistilBERT's architecture."""
    torch.manual_seed(seed)
    config = _distilbert(id2label=dict(enumerate(LABELS)), label2id={label: i for i, label in enumerate(LABELS)})
    return _save(transformers.DistilBertForSequenceClassification(config), place)


def write_tiny_encoder(place: Path, *, seed: int = 0) -> Path:
    """A model without a head, of DistilBERT's architecture."""
    torch.manual_seed(seed)
    return _save(transformers.DistilBertModel(_distilbert()), place)


def write_tiny_reader(place: Path, *, seed: int = 0) -> Path:
    """A model that answers questions from a context, of DistilBERT's architecture."""
    torch.manual_seed(seed)
    return _save(transformers.DistilBertForQuestionAnswering(_distilbert()), place)
