"""The run-time half of a specialist that extracts: tags words, reads values off them, and answers closed fields beside.

What it gives for an extracted field is read off words of the input, so it stands there by construction. Its
certainty is the probability of all tags of the text together, times those of the closed fields; a text whose tags
mark what is no number or no date where one is asked for has certainty 0. One text at a time, as `specialist.py` says.
"""

from __future__ import annotations

from collections.abc import Sequence

from pilotfish.core.errors import MissingExtraError
from pilotfish.core.grounding import Words, canonical
from pilotfish.core.task import Field
from pilotfish.specialists.card import Folder
from pilotfish.specialists.encoder import MAX_CHARACTERS, Encoder
from pilotfish.specialists.specialist import Predictions, Specialist, tensors_of
from pilotfish.specialists.tagging import Tagger, features, spans

try:
    import numpy as np
    from numpy.typing import NDArray
except ImportError as error:
    raise MissingExtraError("local", "numpy") from error


class Extractor(Specialist):
    """A loaded specialist that extracts. `predict` may be called from several threads."""

    def __init__(self, folder: Folder, encoder: Encoder | None) -> None:
        super().__init__(folder, encoder)
        if encoder is None:
            raise ValueError("it names no encoder")
        tensors = tensors_of(folder)
        self._reader = encoder.words()
        self._tagger = Tagger(**{name: tensors[f"tag.{name}"] for name in Tagger.__dataclass_fields__})
        self._fields = [item for item in folder.card.shape.fields if item.is_extracted]

    @staticmethod
    def reads_with(encoder: Encoder) -> str:
        """The identity of what it needs of the encoder: the graph that gives the states of words, too."""
        return encoder.words().sha256

    def predict(self, texts: Sequence[str], embeddings: NDArray[np.float32] | None = None) -> Predictions:
        """The answers to n texts, alike to the last bit whether asked alone or together.

        `embeddings` save nothing here: the same run gives them and the states of words.
        """
        read, extracted, certainty = [], [], np.empty(len(texts))
        for number, text in enumerate(texts):
            words = words_of(text)
            embedding, states = self._reader.read(text, words.places)
            tags, probability = self._tagger.tag(self._tagger.known(features_of(words)), states)
            values, is_readable = values_of(self._fields, words, tags)
            certainty[number] = probability * is_readable
            read.append(embedding)
            extracted.append(values)
        stacked = np.array(read, np.float32).reshape(len(texts), self._reader.dimension)
        closed, scope = self._closed(texts, stacked)
        answers = []
        for number, values in enumerate(extracted):
            taken, shares = iter(values), iter(closed)
            answer = []
            for item, classes in zip(self.card.shape.fields, self.card.classes, strict=True):
                if item.is_extracted:
                    answer.append(next(taken))
                    continue
                row = next(shares)[number]
                answer.append(classes[int(row.argmax())])
                certainty[number] *= row.max()
            answers.append(tuple(answer))
        return Predictions(answers=answers, certainty=certainty, scope=scope)


def words_of(text: str) -> Words:
    """The words that are read of a text."""
    return Words.of(text[:MAX_CHARACTERS])


def features_of(words: Words) -> NDArray[np.int32]:
    """The columns of the words of a text."""
    return features([words.text[start:end] for start, end in words.places])


def values_of(fields: Sequence[Field], words: Words, tags: Sequence[int]) -> tuple[list[str], bool]:
    """The canonical value of each extracted field as tagged, and whether all that is tagged could be read as such.

    A field that is no list has the first of its spans.
    """
    found: list[list[str]] = [[] for _ in fields]
    is_readable = True
    for number, first, end in spans(tags):
        value = canonical(fields[number].source, words.between(first, end))
        if value is None:
            is_readable = False
        else:
            found[number].append(value)
    values = [
        (f"[{', '.join(sorted(several))}]" if item.is_list else several[0]) if several else item.empty
        for item, several in zip(fields, found, strict=True)
    ]
    return values, is_readable
