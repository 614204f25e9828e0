"""Writes several answers at once with one generative model of transformers, each as if it were written alone.

Prompts of unlike length are padded at the side where nothing follows, the padding is masked, and places are counted
without it. Each answer has a sampling, a stop and a length of its own, and leaves the batch when it ends or when nobody
waits for it. The loop is written here: what a request asks for is honoured whatever runs beside, which the library's
own generation cannot promise in threads. Requests and answers on the wire are not known here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from pilotfish.core.messages import Usage
from pilotfish.models.batches import Job

_Tensor = Any  # torch's own types are not checked here

_MOST_PADDING = 64
"""Tokens by which prompts of one batch may differ anyway; a longer one at most doubles what is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen. At `temperature` 0 the likeliest; `n_logprobs` is None where none are asked for."""

    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    max_tokens: int
    n_logprobs: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of an answer. The last one has a `finish_reason` and the usage."""

    text: str
    logprobs: list[dict[str, Any]]
    finish_reason: str = ""
    usage: Usage | None = None


class Writing:
    """One answer in the making, after the tokens `ids`, of up to `room` tokens; its job is told what is sure."""

    def __init__(self, job: Job[Any, Piece], ids: list[int], sampling: Sampling, room: int) -> None:
        self.ids = ids
        self.sampling = sampling
        self._job = job
        self._room = room
        self._made: list[int] = []
        self._n_told = 0
        self._waiting: list[dict[str, Any]] = []
        self._generator = torch.Generator()
        _ = self._generator.seed() if sampling.seed is None else self._generator.manual_seed(sampling.seed)

    @property
    def is_over(self) -> bool:
        """Whether it is at its end, or nobody waits for it."""
        return self._job.is_over or self._job.is_left

    def choose(self, scores: _Tensor) -> int:
        """The next token by the scores (one a token of the vocabulary)."""
        sampling = self.sampling
        if sampling.temperature == 0:
            return int(scores.argmax())
        shares, order = (scores / sampling.temperature).softmax(dim=0).sort(descending=True)
        # The smallest set of tokens whose probability reaches top_p: those before which less than that has gathered.
        shares = shares * (shares.cumsum(dim=0) - shares < sampling.top_p)
        return int(order[torch.multinomial(shares, 1, generator=self._generator)])

    def take(
        self, token: int, row: dict[str, Any] | None, text_of: Callable[[list[int]], str], *, is_end: bool
    ) -> None:
        """Go on by a token. What may be the beginning of a stop sequence is kept back until it is known."""
        self._made.append(token)
        self._waiting += [row] if row is not None else []
        text, stops = text_of(self._made), self.sampling.stop
        cut = min((text.find(stop) for stop in stops if stop in text), default=-1)
        if is_end or cut >= 0:
            self._end(text[:cut] if cut >= 0 else text, "stop")
            return
        safe = _safe_length(text, stops)
        if safe > self._n_told:
            self._job.tell(Piece(text=text[self._n_told : safe], logprobs=self._waiting))
            self._n_told, self._waiting = safe, []
        if len(self._made) == self._room:
            self._end(text, "length")

    def _end(self, text: str, reason: str) -> None:
        usage = Usage(prompt=len(self.ids), completion=len(self._made))
        self._job.tell(Piece(text=text[self._n_told :], logprobs=self._waiting, finish_reason=reason, usage=usage))
        self._job.end()


class Writer:
    """A model with its tokenizer that writes."""

    def __init__(self, model: _Tensor, tokenizer: _Tensor) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._is_encoder_decoder = bool(getattr(model.config, "is_encoder_decoder", False))
        ends = model.generation_config.eos_token_id
        self._ends = {ends} if isinstance(ends, int) else set(ends or ())
        taken = inspect.signature(model.forward).parameters
        # Scores of a prompt's other tokens would need as much memory as the vocabulary is large, for each.
        self._always = {"logits_to_keep": 1} if "logits_to_keep" in taken else {}
        self._takes_places = "position_ids" in taken and not self._is_encoder_decoder

    @property
    def batches(self) -> bool:
        """Whether an answer of this model is the same beside others.

        Not where it keeps a state over all that it reads, padding included, nor where the longest text of a batch
        decides how places are told apart in all.
        """
        known = getattr(self._model.config, "rope_parameters", None) or getattr(
            self._model.config, "rope_scaling", None
        )
        kind = str(known)
        return not (getattr(self._model, "_is_stateful", False) or "dynamic" in kind or "longrope" in kind)

    def write(self, writings: list[Writing]) -> None:
        """Write all to their ends."""
        for alike in _alike(writings):
            self._write(alike)

    def _write(self, writings: list[Writing]) -> None:
        given, mask = self._begun([writing.ids for writing in writings])
        past = None
        with torch.inference_mode():
            while writings:
                if self._takes_places:
                    n_new = given["input_ids"].shape[1]
                    given["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -n_new:]
                out = self._model(**given, **self._always, attention_mask=mask, past_key_values=past, use_cache=True)
                past, scores = out.past_key_values, out.logits[:, -1].float()
                tokens = [self._go_on(writing, row) for writing, row in zip(writings, scores, strict=True)]
                keep = [index for index, writing in enumerate(writings) if not writing.is_over]
                if len(keep) < len(writings):
                    writings = [writings[index] for index in keep]
                    given, mask = _of(given, keep), mask[keep]
                    past.batch_select_indices(torch.tensor(keep, dtype=torch.long))
                given, mask = self._after(given, mask, torch.tensor([[tokens[index]] for index in keep]))

    def _begun(self, prompts: list[list[int]]) -> tuple[dict[str, _Tensor], _Tensor]:
        """What the model reads first, and the mask of what is no padding."""
        longest = max(map(len, prompts))
        pads = [[0] * (longest - len(ids)) for ids in prompts]
        ones = [[1] * len(ids) for ids in prompts]
        if not self._is_encoder_decoder:  # what is written follows on the right
            ids = torch.tensor([pad + ids for pad, ids in zip(pads, prompts, strict=True)])
            return {"input_ids": ids}, torch.tensor([pad + one for pad, one in zip(pads, ones, strict=True)])
        ids = torch.tensor([ids + pad for pad, ids in zip(pads, prompts, strict=True)])
        mask = torch.tensor([one + pad for pad, one in zip(pads, ones, strict=True)])
        with torch.inference_mode():
            read = self._model.get_encoder()(ids, attention_mask=mask)
        start = torch.tensor([self._start()] * len(prompts))
        return {"decoder_input_ids": start, "encoder_outputs": read}, mask

    def _start(self) -> list[int]:
        """What an answer of a decoder begins with: its start, and a first token where the model prescribes one."""
        known = self._model.generation_config
        start = known.decoder_start_token_id
        given = [self._model.config.decoder_start_token_id if start is None else start, known.forced_bos_token_id]
        return [token for token in given if token is not None]

    def _after(self, given: dict[str, _Tensor], mask: _Tensor, tokens: _Tensor) -> tuple[dict[str, _Tensor], _Tensor]:
        """What the model reads next. What an encoder has read stays as it is."""
        if self._is_encoder_decoder:
            return {**given, "decoder_input_ids": tokens}, mask
        return {"input_ids": tokens}, torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)

    def _go_on(self, writing: Writing, scores: _Tensor) -> int:
        token, n_logprobs = writing.choose(scores), writing.sampling.n_logprobs
        row = None if n_logprobs is None else self._row(scores, token, n_logprobs)
        writing.take(token, row, self._text, is_end=token in self._ends)
        return token

    def _row(self, scores: _Tensor, token: int, n: int) -> dict[str, Any]:
        shares = scores.log_softmax(dim=0)
        top = [self._named(int(index), float(shares[index])) for index in shares.topk(n).indices] if n else []
        return {**self._named(token, float(shares[token])), "top_logprobs": top}

    def _named(self, token: int, logprob: float) -> dict[str, Any]:
        text = self._tokenizer.decode([token])
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    def _text(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text


def _alike(writings: list[Writing]) -> Iterator[list[Writing]]:
    """Prompts of like length together: beside one that is much longer the others would be read as padding mostly."""
    group: list[Writing] = []
    for writing in sorted(writings, key=lambda writing: len(writing.ids)):
        if group and len(writing.ids) > 2 * len(group[0].ids) + _MOST_PADDING:
            yield group
            group = []
        group.append(writing)
    if group:
        yield group


def _of(given: dict[str, _Tensor], keep: list[int]) -> dict[str, _Tensor]:
    """The rows that go on; of what an encoder has read too."""
    read = given.get("encoder_outputs")
    if read is None:
        return given
    read.last_hidden_state = read.last_hidden_state[keep]
    return given


def _safe_length(text: str, stops: tuple[str, ...]) -> int:
    """How much of a text can be told: not half a character, nor what a stop sequence may begin with."""
    whole = len(text.rstrip("\ufffd"))
    starts = [len(text) - size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])]
    return min([whole, *starts])
