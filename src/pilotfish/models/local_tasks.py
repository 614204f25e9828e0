"""Models of transformers that do one thing, in this process: classify, answer from a context, embed.

They stand behind the same protocol as those that chat. A classifier answers a text with its label; a reader answers the
last message from the messages before it, in words that stand there; an encoder answers embeddings requests with the
mean over a text's tokens, scaled to length 1. Texts that wait together are labelled and embedded together, padded and
masked; generation stands in `local_weights.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

from pilotfish.core.errors import ConfigError, MissingExtraError, RequestError
from pilotfish.core.messages import Answer, ChatRequest, Price, Usage
from pilotfish.models.base import ModelCard
from pilotfish.models.batches import MAX_BATCH, Batches, Job
from pilotfish.models.wire.embeddings import EMBEDDINGS, TextsToEmbed, encode_embeddings, texts_to_embed
from pilotfish.models.wire.formats import format_of

try:
    import torch
    from transformers import AutoModel, AutoModelForQuestionAnswering, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar
except ImportError as error:
    raise MissingExtraError("transformers", error.name or "transformers") from error

disable_progress_bar()  # the command line has one of its own

TEXTS_AT_ONCE = 16
"""Embedded in one pass of the model."""

MAX_ANSWER_TOKENS = 30
"""Of a reader: longer spans are seldom answers."""


T = TypeVar("T")

_Job = Job[ChatRequest, Answer]


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
        self._batches: Batches[ChatRequest, Answer] = Batches(self._card.name, self._work)

    @property
    def card(self) -> ModelCard:
        """The name given."""
        return self._card

    async def answer(self, request: ChatRequest) -> Answer:
        """The answer. Raises `RequestError` where the request is not of its kind, `ModelError` where torch fails."""
        return await self._batches.run(request)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[bytes, None]:
        """The same as server-sent events: there is nothing to stream before it is whole."""
        answer = await self.answer(request)
        form = format_of(request)
        for event in form.encode_stream(answer.text or "", request, model=self._card.name, usage=answer.usage):
            yield event

    async def aclose(self) -> None:
        """Let go of the weights."""
        self._batches.close()
        self._model = None

    @abstractmethod
    def _work(self, jobs: list[_Job]) -> None:
        """Answer several requests; runs in the thread."""

    def _each(self, jobs: list[_Job], read: Callable[[ChatRequest], T]) -> list[tuple[_Job, T]]:
        """What `read` makes of every request; one that is not of the model's kind ends here."""
        found = []
        for job in jobs:
            try:
                found.append((job, read(job.asked)))
            except RequestError as error:
                job.end(error)
        return found

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, truncation=True, max_length=self._most).input_ids)

    def _padded(self, texts: list[list[int]]) -> tuple[Any, Any]:
        """Texts of unlike length as one tensor, and the mask of what is no padding."""
        longest, pad = max(map(len, texts)), self._model.config.pad_token_id or 0
        ids = [text + [pad] * (longest - len(text)) for text in texts]
        mask = [[1] * len(text) + [0] * (longest - len(text)) for text in texts]
        return torch.tensor(ids), torch.tensor(mask)

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

    def _work(self, jobs: list[_Job]) -> None:
        asked = self._each(jobs, lambda request: self._ids(self._last_text(request)))
        # Without a token for padding a model takes the last one of a text for its end.
        size = MAX_BATCH if self._model.config.pad_token_id is not None else 1
        for start in range(0, len(asked), size):
            batch = asked[start : start + size]
            ids, mask = self._padded([text for _, text in batch])
            with torch.inference_mode():
                labels = self._model(ids, attention_mask=mask).logits.argmax(dim=1).tolist()
            for (job, text), label in zip(batch, labels, strict=True):
                job.tell(self._said(job.asked, str(self._model.config.id2label[label]), len(text)))
                job.end()


class Reader(LocalTask):
    """Answers a question from a context, in words that stand in it."""

    loader = AutoModelForQuestionAnswering

    def _work(self, jobs: list[_Job]) -> None:
        for job, answer in self._each(jobs, self._found):
            job.tell(answer)
            job.end()

    def _found(self, request: ChatRequest) -> Answer:
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

    def _work(self, jobs: list[_Job]) -> None:
        asked = self._each(jobs, self._texts)
        texts = [ids for _, (_, parts) in asked for ids in parts]
        vectors = iter(self._vectors(texts))
        for job, (wanted, parts) in asked:
            n_tokens = sum(map(len, parts))
            rows = [next(vectors) for _ in parts]
            body = encode_embeddings(rows, wanted, model=self._card.name, n_tokens=n_tokens)
            usage = Usage(prompt=n_tokens, completion=0)
            job.tell(Answer(text=None, model=self._card.name, body=body, usage=usage))
            job.end()

    def _texts(self, request: ChatRequest) -> tuple[TextsToEmbed, list[list[int]]]:
        if format_of(request) is not EMBEDDINGS:
            raise RequestError(f"{self._card.name} embeds texts and answers none.", hint="POST /v1/embeddings.")
        wanted = texts_to_embed(request.raw, self._model.config.hidden_size)
        return wanted, [self._ids(text) for text in wanted.texts]

    def _vectors(self, texts: list[list[int]]) -> list[bytes]:
        """In their order; worked at by their length, so that little is padding."""
        found = [b""] * len(texts)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            batch = order[start : start + TEXTS_AT_ONCE]
            ids, mask = self._padded([texts[index] for index in batch])
            with torch.inference_mode():
                states = self._model(ids, attention_mask=mask).last_hidden_state * mask[:, :, None]
                means = states.sum(dim=1) / mask.sum(dim=1, keepdim=True)
                rows = (means / means.norm(dim=1, keepdim=True)).float().numpy()
            for index, row in zip(batch, rows, strict=True):
                found[index] = row.tobytes()
        return found


TASKS: dict[str, type[LocalTask]] = {"classify": Classifier, "answer": Reader, "embed": Embedder}
"""By the word for them in `[models.NAME] task`."""
