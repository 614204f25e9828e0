"""Opens a transformers classifier or causal language model, as it is or with dynamic int8, and asks it about texts.

Dynamic int8 is torch's own: the matrices of linear layers in eight bits, activations scaled at run time. It exists in
memory alone, since torch would save it as pickle. GPT-2's `Conv1D` are linear layers that torch does not know as such;
they are made ones first. What a model says is judged in `guarantees/quantized.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

from pilotfish.core.errors import ConfigError, MissingExtraError
from pilotfish.students.heard import Heard

try:
    import torch
    from torch import nn
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.pytorch_utils import Conv1D
    from transformers.utils.logging import disable_progress_bar
except ImportError as error:
    raise MissingExtraError("transformers", error.name or "transformers") from error

disable_progress_bar()  # the command line has one of its own

FP32 = "fp32"
KINDS = {"torch-dynamic-int8": "weights of linear layers int8, activations scaled at run time"}

MAX_TOKENS = 1024
"""Of a text whose model does not say how many it reads."""

Job = Literal["classification", "language model"]


def job_of(source: str) -> Job:
    """What the model at `source` (a folder or a hub id) is for. `ConfigError` where it is neither or cannot be read."""
    try:
        names = AutoConfig.from_pretrained(source).architectures or []
    except (OSError, ValueError) as error:
        raise ConfigError(f"transformers cannot load {source!r}: {error}") from error
    if any(name.endswith("ForSequenceClassification") for name in names):
        return "classification"
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        return "language model"
    raise ConfigError(
        f"{source!r} is {', '.join(names) or 'of no stated architecture'}; a classifier or a causal language model is "
        "measured.",
        hint="A base model has no answers of its own to compare.",
    )


class Weights:
    """A loaded model. `kind` is fp32 or one of `KINDS`."""

    def __init__(self, source: str, kind: str) -> None:
        """Raises `ConfigError` where the weights cannot be loaded."""
        self.job = job_of(source)
        loader = AutoModelForSequenceClassification if self.job == "classification" else AutoModelForCausalLM
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source)
            model: Any = loader.from_pretrained(source, dtype=torch.float32).eval()
        except (OSError, ValueError) as error:
            raise ConfigError(f"transformers cannot load {source!r}: {error}") from error
        self._config = model.config
        self._model = model if kind == FP32 else _dynamic_int8(model)

    @property
    def size_bytes(self) -> int:
        """The bytes of all weights, shared ones once."""
        tensors: dict[int, torch.Tensor] = {}
        for value in self._model.state_dict().values():
            parts = [part for part in value if torch.is_tensor(part)] if isinstance(value, tuple) else [value]
            tensors |= {part.data_ptr(): part for part in parts if torch.is_tensor(part)}
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

    def ask(self, text: str, expected: object) -> Heard:
        """What it says of `text`; `expected` is the right label of a classifier, by its name or number."""
        if self.job == "language model":
            log_shares, tokens = self.next_tokens(text)
            most = log_shares.max(dim=1)
            return Heard(
                answers=[str(int(index)) for index in most.indices],
                confidence=most.values.exp().tolist(),
                score=float((most.indices == tokens).float().mean()),
                loss=float(-log_shares[torch.arange(len(tokens)), tokens].mean()),
            )
        with torch.inference_mode():
            shares = self._model(self._ids(text)).logits[0].softmax(dim=0)
        index = int(shares.argmax())
        label = str(self._config.id2label[index])
        right = None if expected is None else float(str(expected).casefold() in (label.casefold(), str(index)))
        return Heard(answers=[label], confidence=[float(shares[index])], score=right)

    def next_tokens(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The log probabilities [n, vocabulary] of a language model at each place of the text, and its tokens [n]."""
        ids = self._ids(text)
        first = self._config.bos_token_id
        if first is not None and (not ids.shape[1] or int(ids[0, 0]) != first):
            ids = torch.cat([torch.tensor([[first]]), ids], dim=1)
        if ids.shape[1] < 2:
            raise ConfigError(f"There is no token to predict in {text[:40]!r}.", hint="Leave out texts of one token.")
        ids = ids[:, : self._most]
        with torch.inference_mode():
            return self._model(ids).logits[0, :-1].log_softmax(dim=1), ids[0, 1:]

    @property
    def _most(self) -> int:
        return int(getattr(self._config, "max_position_embeddings", None) or MAX_TOKENS)

    def _ids(self, text: str) -> torch.Tensor:
        ids: torch.Tensor = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=self._most).input_ids
        return ids


def divergence(source: str, kind: str, texts: Sequence[str]) -> float:
    """The mean over all tokens of KL(before || after) of the next token's distribution, in nats. Loads both models."""
    before, after = Weights(source, FP32), Weights(source, kind)
    total, n = 0.0, 0
    for text in texts:
        (log_p, _), (log_q, _) = before.next_tokens(text), after.next_tokens(text)
        total += float((log_p.exp() * (log_p - log_q)).sum())
        n += len(log_p)
    return total / n


def _dynamic_int8(model: Any) -> Any:  # noqa: ANN401 - a torch module
    for name, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            model.set_submodule(name, _linear(module))
    with warnings.catch_warnings():
        # torch prefers a package of its own for this by now (torchao); what it says here is the same.
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def _linear(module: Any) -> nn.Linear:  # noqa: ANN401 - transformers' layer, whose weight stands the other way round
    n_in, n_out = module.weight.shape
    made = nn.Linear(n_in, n_out)
    made.weight = nn.Parameter(module.weight.T.contiguous())
    made.bias = module.bias
    return made
