"""The run-time half of a specialist: load a checked folder, predict answers with two scores.

Three students look at a text: a linear head on the shared embedding, a linear head on hashed n-grams and a
vote of the nearest exemplars. Their evidence is added in log space with three weights per field, fitted
out of fold; the largest probability of that mixture is the certainty. The n-gram head also answers alone, as a
first tier that needs no embedding. numpy only; it neither learns (`students/`) nor decides what may be served or
by which tier (`routing/`). Every product is taken row by row: matrix products over a batch round differently
from those of one text, and a threshold must see one number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pilotfish.core.errors import MissingExtraError, SpecialistError
from pilotfish.core.task import NO_PAST_ANSWER
from pilotfish.specialists.card import Folder, read_folder
from pilotfish.specialists.ngrams import Rows, Vocabulary, count

try:
    import numpy as np
    from numpy.typing import NDArray
    from safetensors import SafetensorError
    from safetensors.numpy import load
except ImportError as error:
    raise MissingExtraError("local", error.name or "numpy") from error

if TYPE_CHECKING:  # an encoder is loaded only where a specialist has one
    from pilotfish.specialists.encoder import Encoder

TENSORS = "model.safetensors"

N_NEIGHBOURS = 20
"""Exemplars that vote; 10 and 20 measured alike on banking77 and ag_news."""

VOTE_FLOOR = 0.01
"""Added to each vote before its logarithm: a class without a neighbour is unlikely, not impossible."""

DECIMALS = 4
"""Evidence and similarity are rounded to these: sums of float32 differ in the sixth between machines' libraries."""

_WORDS_ALONE = ("sparse", "sparse_bias", "alone")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Answers with their scores: `certainty` in 0..1 (the probability of the answer, over all fields), `scope` in
    -1..1 (cosine to the nearest exemplar; of the first tier: the share of the text's n-grams that are known)."""

    answers: list[tuple[str, ...]]
    certainty: Floats
    scope: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The students of one field with k classes, over d embedding dimensions, m n-gram columns and n exemplars.

    Those that need an embedding are None where the n-grams answer alone.
    """

    sparse: NDArray[np.float32]  # [m, k], float16 in the folder: converted for each text they took four times as long
    sparse_bias: NDArray[np.float32]
    alone: Floats | None  # [1] the weight of sparse where it answers alone; None in folders without a first tier
    dense: NDArray[np.float32] | None = None  # [k, d]
    dense_bias: NDArray[np.float32] | None = None
    labels: NDArray[np.int16] | None = None  # [n]
    mixture: Floats | None = None  # the weights of dense, sparse and vote, then the vote's temperature


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the students of one field see in n texts: [n, k] scores, and the classes of the nearest exemplars."""

    dense: Floats
    sparse: Floats
    similarities: Floats  # [n, neighbours]
    labels: NDArray[np.int16]  # [n, neighbours]


def vote(similarities: Floats, labels: NDArray[np.int16], n_classes: int, temperature: float) -> Floats:
    """The share of each class among the nearest exemplars [n, n_classes], near ones counting more."""
    nearness = np.exp((similarities - similarities.max(axis=1, keepdims=True)) / temperature)
    cells = np.arange(len(labels))[:, None] * n_classes + labels
    votes = np.bincount(cells.ravel(), weights=nearness.ravel(), minlength=len(labels) * n_classes)
    shares: Floats = votes.reshape(len(labels), n_classes) / nearness.sum(axis=1, keepdims=True)
    return shares


def mix(evidence: Evidence, mixture: Floats) -> Floats:
    """The probabilities of the classes [n, k]: a softmax of the weighted sum of the students' evidence."""
    votes = vote(evidence.similarities, evidence.labels, evidence.dense.shape[1], mixture[3])
    total = mixture[0] * evidence.dense + mixture[1] * evidence.sparse + mixture[2] * np.log(votes + VOTE_FLOOR)
    return softmax(total)


def servable(classes: Sequence[str]) -> NDArray[np.bool_]:
    """Which of a field's values may be an answer: all but the one that stands for "none of the past answers"."""
    return np.array([value != NO_PAST_ANSWER for value in classes])


def softmax(evidence: Floats) -> Floats:
    """The probabilities [n, k] of evidence in log space, which is rounded first."""
    total = np.round(evidence, DECIMALS)
    shares = np.exp(total - total.max(axis=1, keepdims=True))
    probabilities: Floats = shares / shares.sum(axis=1, keepdims=True)
    return probabilities


class Specialist:
    """A loaded specialist. `predict` may be called from several threads."""

    def __init__(self, folder: Folder, encoder: Encoder | None) -> None:
        """`encoder` is what the card asks for (`of` finds it), None where the n-grams answer alone."""
        tensors = tensors_of(folder)
        self.card = folder.card
        self.sha256 = folder.sha256
        self._encoder = encoder
        self._is_shared = folder.card.shares_encoder
        self._vocabulary = Vocabulary(tensors["columns"], tensors["column_weights"])
        if encoder is not None:
            self._projection = tensors["projection"]
            self._exemplars = tensors["exemplars"].astype(np.float32)
        needed = _WORDS_ALONE if encoder is None else Head.__dataclass_fields__
        self._heads = [
            _head({name: tensors.get(f"{index}.{name}") for name in needed})
            for index, values in enumerate(folder.card.classes)
            if values
        ]

    @classmethod
    def load(cls, folder: Path, encoder: Encoder | None) -> Self:
        """The specialist in `folder`; `encoder` is the shared one, where there is one here.

        Raises `SpecialistError` where a file differs from its hash, the content is not that of a specialist, or it was
        learnt on another encoder.
        """
        return cls.of(read_folder(folder), encoder)

    @classmethod
    def of(cls, folder: Folder, encoder: Encoder | None) -> Self:
        """The same of a folder that has been read."""
        card = folder.card
        name = f"The specialist {folder.sha256[:16]}"
        if not card.encoder_sha256:
            encoder = None
        elif not card.shares_encoder:
            encoder = _own_encoder(folder)
        if card.encoder_sha256 != (cls.reads_with(encoder) if encoder else ""):
            other = encoder.name if encoder else "none, which is what [learning] encoder says"
            raise SpecialistError(f"{name} was learnt on another encoder than {other}.", hint="Distil the task again.")
        try:
            return cls(folder, encoder)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise SpecialistError(f"{name} is incomplete: {error}") from error

    @staticmethod
    def reads_with(encoder: Encoder) -> str:
        """The identity of what it needs of the encoder."""
        return encoder.sha256

    @property
    def has_encoder(self) -> bool:
        """Whether texts are encoded; else the n-grams answer alone."""
        return self._encoder is not None

    def predict(self, texts: Sequence[str], embeddings: NDArray[np.float32] | None = None) -> Predictions:
        """The answers to n texts, alike to the last bit whether asked alone or together.

        `embeddings` are those of the texts by the shared encoder, where they are known already. Where the n-grams
        answer alone, what they say is all there is.
        """
        if self._encoder is None:
            return self.predict_first(texts)
        if embeddings is None or not self._is_shared:
            embeddings = self._encoder.encode(texts)
        return self._predictions(*self._closed(texts, embeddings))

    def predict_first(self, texts: Sequence[str]) -> Predictions:
        """The answers of the first tier, the n-gram students alone: no text is encoded, which takes most of the time.

        `SpecialistError` where the folder was written before there was a first tier.
        """
        counts = count(texts)
        rows = self._vocabulary.weigh(counts)
        found = []
        for head in self._heads:
            if head.alone is None:
                raise SpecialistError(f"The specialist {self.sha256[:16]} has no first tier.", hint="Distil it again.")
            found.append(softmax(head.alone * _sparse_evidence(head, rows)))
        return self._predictions(found, self._vocabulary.familiarity(counts))

    def _closed(self, texts: Sequence[str], embeddings: NDArray[np.float32]) -> tuple[list[Floats], Floats]:
        """The probabilities of each closed field's values, and the scope of the texts."""
        rows = self._vocabulary.weigh(count(texts))
        similarities, nearest = self._neighbours(embeddings)
        found = []
        for head in self._heads:
            assert head.labels is not None
            assert head.mixture is not None
            found.append(mix(_evidence(head, embeddings, rows, similarities, head.labels[nearest]), head.mixture))
        return found, np.round(similarities.max(axis=1), DECIMALS)

    def _predictions(self, probabilities: Sequence[Floats], scope: Floats) -> Predictions:
        """The likeliest value of each field, and the product of their probabilities."""
        certainty = np.ones(len(scope))
        values: list[list[str]] = []
        for shares, classes in zip(probabilities, self.card.classes, strict=True):
            best = shares.argmax(axis=1)
            certainty *= shares[np.arange(len(scope)), best] * servable(classes)[best]
            values.append([classes[index] for index in best])
        return Predictions(answers=list(zip(*values, strict=True)), certainty=certainty, scope=scope)

    def _neighbours(self, embeddings: NDArray[np.float32]) -> tuple[Floats, NDArray[np.intp]]:
        size = min(N_NEIGHBOURS, len(self._exemplars))
        similarities = np.empty((len(embeddings), size))
        nearest = np.empty((len(embeddings), size), np.intp)
        for row, embedding in enumerate(embeddings):
            projected = self._projection @ embedding
            found = self._exemplars @ (projected / np.sqrt(projected @ projected))
            nearest[row] = np.argpartition(found, -size)[-size:]
            similarities[row] = found[nearest[row]]
        return similarities, nearest


def _evidence(
    head: Head, embeddings: NDArray[np.float32], rows: Rows, similarities: Floats, labels: NDArray[np.int16]
) -> Evidence:
    assert head.dense is not None
    assert head.dense_bias is not None
    dense = np.empty((len(embeddings), len(head.dense)))
    for row, embedding in enumerate(embeddings):
        dense[row] = head.dense @ embedding + head.dense_bias
    return Evidence(dense=dense, sparse=_sparse_evidence(head, rows), similarities=similarities, labels=labels)


def _sparse_evidence(head: Head, rows: Rows) -> Floats:
    evidence = np.empty((len(rows.starts) - 1, len(head.sparse_bias)))
    for row in range(len(evidence)):
        part = slice(rows.starts[row], rows.starts[row + 1])
        evidence[row] = rows.values[part] @ head.sparse[rows.columns[part]] + head.sparse_bias
    return evidence


def _own_encoder(folder: Folder) -> Encoder:
    """The fine-tuned encoder that the folder holds."""
    # Without one nothing of what runs it need be installed.
    from pilotfish.specialists.encoder import Encoder  # noqa: PLC0415

    return Encoder.of(folder.contents, folder.sha256[:16])


def _head(tensors: dict[str, Any]) -> Head:
    """The head of one field. KeyError where a tensor is missing; folders from before a first tier lack `alone`."""
    missing = [name for name, tensor in tensors.items() if tensor is None and name != "alone"]
    if missing:
        raise KeyError(missing[0])
    return Head(**{**tensors, "sparse": tensors["sparse"].astype(np.float32)})


def tensors_of(folder: Folder) -> dict[str, NDArray[Any]]:
    """The arrays of a folder. Raises `SpecialistError` where it holds none."""
    try:
        return load(folder.contents[TENSORS])
    except (SafetensorError, KeyError) as error:
        raise SpecialistError(f"The specialist of {folder.card.task_name} holds no tensors: {error}") from error
