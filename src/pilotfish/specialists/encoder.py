"""The sentence encoder that all specialists share: texts in, unit vectors out, on one thread.

It runs an int8 ONNX graph with onnxruntime and knows nothing of tasks or of how the graph was made
(`students/encoder_graph.py`). Texts are run one by one, in bulk too: int8 activations are scaled per
tensor, so a batch would give a text another embedding than it gets when it is served alone. That costs a
factor 1.4 in bulk (13,083 banking77 texts: 15 CPU-s) and makes calibrating and serving the same thing.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.core.errors import MissingExtraError, SpecialistError
from pilotfish.core.ids import sha256
from pilotfish.specialists import card as cards

# Else onnxruntime (1.31) writes a device id to the user's cache and reports to Microsoft, from its import on.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

try:
    import numpy as np
    import onnxruntime
    from numpy.typing import NDArray
    from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors
    from tokenizers import Tokenizer
except ImportError as error:
    raise MissingExtraError("local", error.name or "onnxruntime") from error

FORMAT = 2
"""The first had weights of int8, which give other embeddings where a processor has AVX2 and no VNNI."""

CARD = cards.ENCODER
GRAPH = "model.int8.onnx"
WORDS_CARD = "words.json"
WORDS = "words.int8.onnx"
TOKENIZER = "tokenizer.json"
FILES = (CARD, GRAPH, TOKENIZER)

MAX_CHARACTERS = 8192
"""A longer text is cut in its middle before it is split into tokens, which bounds the time of that; 128 tokens
of ordinary text are 500 to 900 characters."""

_FAILURES = tuple(
    getattr(onnx_errors, name)
    for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")
)


Text = str | tuple[int, ...]
"""A text, or the numbers of the tokens that one was split into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """A text as its tokenizer splits it: the special tokens `before` and `after`, the `ids` [n] between and where they
    stand in the text, `offsets` [n, 2]."""

    before: NDArray[np.int64]
    ids: NDArray[np.int64]
    after: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def under(self, places: Sequence[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The first and the last piece of what stands at each of the places; first > last where no piece does."""
        sought = np.array(places, np.int64).reshape(-1, 2)
        first = np.searchsorted(self.offsets[:, 1], sought[:, 0], "right")
        last = np.searchsorted(self.offsets[:, 0], sought[:, 1], "left") - 1
        return first, last


class Graph:
    """Another graph that reads the same tokens, such as the lower layers alone. `SpecialistError` for no such graph."""

    def __init__(self, content: bytes) -> None:
        self.session = _session(content)


class Encoder:
    """A loaded encoder. `encode` may be called from several threads."""

    def __init__(
        self,
        session: Any,  # noqa: ANN401
        tokenizer: Tokenizer,
        card: dict[str, Any],
        sha256: str,
        folder: Path | None,
    ) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._folder = folder
        self._words: WordReader | None = None
        self._lock = threading.Lock()
        self.max_tokens: int = card["max_tokens"]
        self.name: str = card["name"]
        self.dimension: int = card["dimension"]
        self.sha256 = sha256

    @classmethod
    def load(cls, folder: Path) -> Encoder:
        """The encoder in `folder`; its identity `sha256` is the hash of `encoder.json`, which names its files' hashes.

        Raises `SpecialistError` where a file is missing, differs from its hash, or is of another format.
        """
        try:
            contents = {name: (folder / name).read_bytes() for name in FILES}
        except OSError as error:
            raise SpecialistError(f"The encoder {folder.name} cannot be read: {error}") from error
        return cls.of(contents, folder.name, folder)

    @classmethod
    def of(cls, contents: Mapping[str, bytes], name: str, folder: Path | None = None) -> Encoder:
        """The encoder in these `FILES` of the folder `name`; a specialist's folder may hold them too. As `load`.

        Only in a `folder` of its own may it have a graph for words.
        """
        try:
            card = json.loads(contents[CARD])
            if card["format"] > FORMAT:
                raise SpecialistError(f"The encoder {name} has a newer format.", hint="Update pilotfish.")
            if card["format"] < FORMAT:
                raise SpecialistError(
                    f"The encoder {name} is of an earlier version, whose results differ between processors.",
                    hint="Let it be learnt again: pilotfish distil TASK, or pilotfish route train.",
                )
            wrong = [file for file in (GRAPH, TOKENIZER) if sha256(contents[file]) != card["files"][file]]
            known = {key: card[key] for key in ("name", "dimension", "max_tokens")}
        except (ValueError, KeyError, TypeError) as error:
            raise SpecialistError(f"The encoder {name} cannot be read: {error}") from error
        if wrong:
            raise SpecialistError(f"The encoder {name} was changed: {', '.join(wrong)} differs from its hash.")
        tokenizer = Tokenizer.from_str(contents[TOKENIZER].decode())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(_session(contents[GRAPH]), tokenizer, known, sha256(contents[CARD]), folder)

    def run(self, text: Text, graph: Graph | None = None) -> NDArray[np.float32]:
        """What the graph says of one text: its embedding, or of another `graph` of the same encoder its own output.

        Raises `SpecialistError` where onnxruntime fails.
        """
        return self.outputs(self.tokens(text), graph=graph)[0]

    def outputs(
        self, tokens: Sequence[int], graph: Graph | None = None, **others: NDArray[np.float32]
    ) -> list[NDArray[np.float32]]:
        """All that the graph says of one text of these tokens; `others` are its further inputs. As `run`."""
        session = self._session if graph is None else graph.session
        inputs: dict[str, NDArray[Any]] = {"input_ids": np.array(tokens, np.int64), **others}
        try:
            found = session.run(None, {name: value[None] for name, value in inputs.items()})
        except _FAILURES as error:
            raise SpecialistError(f"The encoder failed: {error}") from error
        return [output[0] for output in found]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The embeddings, float32 [n, dimension], each of length 1. Of a text over `max_tokens` both ends are read.

        Raises `SpecialistError` where onnxruntime fails.
        """
        embeddings = np.empty((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            embeddings[row] = self.run(text)
        return embeddings

    def words(self) -> WordReader:
        """What also gives the states of words, from the graph beside the encoder's own: 22 MB that extractions need.

        Loaded once. Raises `SpecialistError` where it is missing, differs from its hash, or belongs to another encoder.
        """
        with self._lock:
            if self._words is None:
                self._words = self._load_words()
        return self._words

    def _load_words(self) -> WordReader:
        if self._folder is None:
            raise SpecialistError(f"The encoder {self.name} is a specialist's own, and has no graph for words.")
        hint = (
            f"Delete {self._folder.name} in the cache of encoders: both are built again, where the weights are at hand."
        )
        try:
            written = (self._folder / WORDS_CARD).read_bytes()
            card = json.loads(written)
            graph = (self._folder / WORDS).read_bytes()
            is_whole = card["graph_sha256"] == sha256(graph) and card["encoder_sha256"] == self.sha256
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SpecialistError(f"The encoder {self.name} has no graph for words: {error}", hint=hint) from error
        if not is_whole:
            raise SpecialistError(f"The graph for words of {self.name} differs from its hash.", hint=hint)
        return WordReader(self, Graph(graph), sha256(written))

    def count_tokens(self, text: Text) -> int:
        """How many tokens of `text` are read."""
        return len(self.tokens(text))

    def pieces(self, text: str) -> Pieces:
        """What `text` is split into, up to `MAX_CHARACTERS`."""
        read = self._tokenizer.encode(text[:MAX_CHARACTERS].encode("utf-8", "replace").decode())
        ids, body = np.array(read.ids, np.int64), np.flatnonzero(np.array(read.special_tokens_mask) == 0)
        before, after = (ids[: body[0]], ids[body[-1] + 1 :]) if len(body) else (ids, ids[:0])
        offsets = np.array([read.offsets[piece] for piece in body], np.int64).reshape(-1, 2)
        return Pieces(before=before, ids=ids[body], after=after, offsets=offsets)

    def tokens(self, text: Text) -> Sequence[int]:
        """The numbers of the tokens that are read of `text`."""
        if not isinstance(text, str):
            return text
        if len(text) > MAX_CHARACTERS:
            text = f"{text[: MAX_CHARACTERS // 2]} {text[-MAX_CHARACTERS // 2 :]}"
        # A lone surrogate, which JSON can carry, is no UTF-8 and would be refused by the tokenizer.
        tokens: list[int] = self._tokenizer.encode(text.encode("utf-8", "replace").decode()).ids
        if len(tokens) <= self.max_tokens:
            return tokens
        half = self.max_tokens // 2
        return tokens[: self.max_tokens - half] + tokens[-half:]


class WordReader:
    """Reads the words of a text: its embedding, and for each word a state that its neighbours have coloured."""

    def __init__(self, encoder: Encoder, graph: Graph, sha256: str) -> None:
        self._encoder = encoder
        self._graph = graph
        self.dimension = encoder.dimension
        self.sha256 = sha256

    def read(self, text: str, places: Sequence[tuple[int, int]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The embedding [dimension], the encoder's, and the states [places, dimension] of the words at `places`.

        A word's state is the mean of those of its first and last piece; 0 where none is read (past `MAX_CHARACTERS`). A
        text over `max_tokens` is read in windows. Raises `SpecialistError` where onnxruntime fails.
        """
        pieces = self._encoder.pieces(text)
        n, n_before = len(pieces.ids), len(pieces.before)
        size = self._encoder.max_tokens - n_before - len(pieces.after)
        states = np.zeros((n + 1, self.dimension), np.float32)
        embedding = np.empty(0, np.float32)
        for start in range(0, max(1, n), size):
            window = pieces.ids[start : start + size]
            tokens = np.concatenate([pieces.before, window, pieces.after])
            embedding, found = self._encoder.outputs(tokens.tolist(), self._graph)
            states[start : start + len(window)] = found[n_before : n_before + len(window)]
        if n > size or len(text) > MAX_CHARACTERS:
            embedding = self._encoder.encode([text])[0]
        first, last = pieces.under(places)
        # What no piece covers points at the row of zeros behind the last piece.
        unread = first > last
        first[unread], last[unread] = n, n
        return embedding, (states[first] + states[last]) * np.float32(0.5)


def _session(graph: bytes) -> Any:  # noqa: ANN401 (onnxruntime is untyped)
    options = onnxruntime.SessionOptions()
    # Several sessions on one thread each beat one on several; a spinning pool burns the gateway's core.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except _FAILURES as error:
        raise SpecialistError(f"onnxruntime cannot load the encoder: {error}") from error
