"""Models of transformers that do one thing, in this process: classify, answer from a context, embed.

They stand behind the same protocol as those that chat. A classifier answers a text with its label; a reader answers the
last message from the messages before it, in words that stand there; an encoder answers embeddings requests with the
mean over a text's tokens, scaled to length 1. One request at a time; generation stands in `local_weights.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import Any

from pilotfish.core.errors import ConfigError, MissingExtraError, RequestError
from pilotfish.core.messages import Answer, ChatRequest, Price, Usage
from pilotfish.models.base import ModelCard
from pilotfish.models.one_at_a_time import OneAtATime
from pilotfish.models.wire.embeddings import EMBEDDINGS, encode_embeddings, texts_to_embed
from pilotfish.models.wire.formats import format_of

try:
    import torch
    from transformers import AutoModel, AutoModelForQuestionAnswering, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar
except ImportError as error:
    raise MissingExtraError("transformers", error.name or "transformers") from error

disable_progress_bar()  # the command line has one of its own

MAX_ANSWER_TOKENS = 30
"""Of a reader: longer spans are seldom answers."""


class LocalTask(ABC):
    """Weights in this process that do one thing. `source` is a folder or a hub id."""

    loader: Any

    def __init__(self, source: str, *, name: str = "", price: Price | None = None) -> None:
        """Raises `ConfigError` where the weights cannot be loaded."""
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source)
            self._model: Any = self.loader.from_pretrained(source).eval()
        except (OSError, ValueError) as error:
            raise ConfigError(f"transformers cannot load {source!r}: {error}") from error
        self._card = ModelCard(name=name or source, price=price, is_local=True)
        self._most = getattr(self._model.config, "max_position_embeddings", 512)
        self._thread = OneAtATime(self._card.name)

    @property
    def card(self) -> ModelCard:
        """The name given."""
        return self._card

    async def answer(self, request: ChatRequest) -> Answer:
        """The answer. Raises `RequestError` where the request is not of its kind, `ModelError` where torch fails."""
        return await self._thread.run(lambda: self._answer(request))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[bytes, None]:
        """The same as server-sent events: there is nothing to stream before it is whole."""
        answer = await self.answer(request)
        form = format_of(request)
        for event in form.encode_stream(answer.text or "", request, model=self._card.name, usage=answer.usage):
            yield event

    async def aclose(self) -> None:
        """Let go of the weights."""
        self._thread.close()
        self._model = None

    @abstractmethod
    def _answer(self, request: ChatRequest) -> Answer:
        """The answer; runs in the thread."""

    def _said(self, request: ChatRequest, text: str, n_tokens: int) -> Answer:
        usage = Usage(prompt=n_tokens, completion=0)
        return format_of(request).answer_of(text, request, model=self._card.name, usage=usage)

    def _last_text(self, request: ChatRequest) -> str:
        text = request.messages[-1].text if request.messages else None
        if not text or not format_of(request).is_text:
            raise RequestError(f"{self._card.name} reads the text of the last message, and there is none.")
        return text


class Classifier(LocalTask):
    """Answers a text with its label."""

    loader = AutoModelForSequenceClassification

    def _answer(self, request: ChatRequest) -> Answer:
        ids = self._tokenizer(
            self._last_text(request), return_tensors="pt", truncation=True, max_length=self._most
        ).input_ids
        with torch.inference_mode():
            index = int(self._model(ids).logits[0].argmax())
        return self._said(request, str(self._model.config.id2label[index]), ids.shape[1])


class Reader(LocalTask):
    """Answers a question from a context, in words that stand in it."""

    loader = AutoModelForQuestionAnswering

    def _answer(self, request: ChatRequest) -> Answer:
        question = self._last_text(request)
        context = "\n".join(message.text or "" for message in request.messages[:-1]).strip()
        if not context:
            raise RequestError(
                f"{self._card.name} answers from a context, and there is none.",
                hint="Send the context as a message before the question.",
            )
        asked = self._tokenizer(
            question,
            context,
            return_tensors="pt",
            truncation="only_second",
            max_length=self._most,
            return_offsets_mapping=True,
        )
        outside = torch.tensor([0.0 if part == 1 else float("-inf") for part in asked.sequence_ids(0)])
        with torch.inference_mode():
            found = self._model(asked.input_ids, attention_mask=asked.attention_mask)
        scores = (found.start_logits[0] + outside)[:, None] + (found.end_logits[0] + outside)[None, :]
        # A span ends where it begins, or up to so many tokens later.
        is_span = torch.ones_like(scores, dtype=torch.bool).triu().tril(MAX_ANSWER_TOKENS - 1)
        start, end = divmod(int(scores.masked_fill(~is_span, float("-inf")).argmax()), scores.shape[1])
        offsets = asked.offset_mapping[0]
        answer = context[int(offsets[start][0]) : int(offsets[end][1])]
        return self._said(request, answer, asked.input_ids.shape[1])


class Embedder(LocalTask):
    """Answers embeddings requests with the mean over a text's tokens, of length 1."""

    loader = AutoModel

    def _answer(self, request: ChatRequest) -> Answer:
        if format_of(request) is not EMBEDDINGS:
            raise RequestError(f"{self._card.name} embeds texts and answers none.", hint="POST /v1/embeddings.")
        asked = texts_to_embed(request.raw, self._model.config.hidden_size)
        vectors, n_tokens = [], 0
        for text in asked.texts:
            ids = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=self._most).input_ids
            with torch.inference_mode():
                mean = self._model(ids).last_hidden_state[0].mean(dim=0)
            vectors.append((mean / mean.norm()).float().numpy().tobytes())
            n_tokens += ids.shape[1]
        body = encode_embeddings(vectors, asked, model=self._card.name, n_tokens=n_tokens)
        return Answer(text=None, model=self._card.name, body=body, usage=Usage(prompt=n_tokens, completion=0))


TASKS: dict[str, type[LocalTask]] = {"classify": Classifier, "answer": Reader, "embed": Embedder}
"""By the word for them in `[models.NAME] task`."""
