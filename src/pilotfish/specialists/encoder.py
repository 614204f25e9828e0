"""The sentence encoder that all specialists share: texts in, unit vectors out, on one thread.

It runs an int8 ONNX graph with onnxruntime and knows nothing of tasks or of how the graph was made
(`students/encoder_graph.py`). Texts are run one by one, in bulk too: int8 activations are scaled per
tensor, so a batch would give a text another embedding than it gets when it is served alone. That costs a
factor 1.4 in bulk (13,083 banking77 texts: 15 CPU-s) and makes calibrating and serving the same thing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pilotfish.core.errors import MissingExtraError, SpecialistError
from pilotfish.core.ids import sha256

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

FORMAT = 1
CARD = "encoder.json"
GRAPH = "model.int8.onnx"
TOKENIZER = "tokenizer.json"

MAX_CHARACTERS = 8192
"""A longer text is cut in its middle before it is split into tokens, which bounds the time of that; 128 tokens
of ordinary text are 500 to 900 characters."""

_FAILURES = tuple(
    getattr(onnx_errors, name)
    for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")
)


class Encoder:
    """A loaded encoder. `encode` may be called from several threads."""

    def __init__(self, session: Any, tokenizer: Tokenizer, card: dict[str, Any], sha256: str) -> None:  # noqa: ANN401
        self._session = session
        self._tokenizer = tokenizer
        self._max_tokens: int = card["max_tokens"]
        self.name: str = card["name"]
        self.dimension: int = card["dimension"]
        self.sha256 = sha256

    @classmethod
    def load(cls, folder: Path) -> Encoder:
        """The encoder in `folder`; its identity `sha256` is the hash of `encoder.json`, which names its files' hashes.

        Raises `SpecialistError` where a file is missing, differs from its hash, or is of a newer format.
        """
        try:
            written = (folder / CARD).read_bytes()
            card = json.loads(written)
            if card["format"] > FORMAT:
                raise SpecialistError(f"The encoder {folder.name} has a newer format.", hint="Update pilotfish.")
            contents = {name: (folder / name).read_bytes() for name in (GRAPH, TOKENIZER)}
            wrong = [name for name in contents if sha256(contents[name]) != card["files"][name]]
            card = {key: card[key] for key in ("name", "dimension", "max_tokens")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SpecialistError(f"The encoder {folder.name} cannot be read: {error}") from error
        if wrong:
            raise SpecialistError(f"The encoder {folder.name} was changed: {', '.join(wrong)} differs from its hash.")
        tokenizer = Tokenizer.from_str(contents[TOKENIZER].decode())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(_session(contents[GRAPH]), tokenizer, card, sha256(written))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The embeddings, float32 [n, dimension], each of length 1. Of a text over `max_tokens` both ends are read.

        Raises `SpecialistError` where onnxruntime fails.
        """
        embeddings = np.empty((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            try:
                embeddings[row] = self._session.run(None, {"input_ids": np.array([self._tokens(text)], np.int64)})[0]
            except _FAILURES as error:
                raise SpecialistError(f"The encoder failed: {error}") from error
        return embeddings

    def count_tokens(self, text: str) -> int:
        """How many tokens of `text` are read."""
        return len(self._tokens(text))

    def _tokens(self, text: str) -> list[int]:
        if len(text) > MAX_CHARACTERS:
            text = f"{text[: MAX_CHARACTERS // 2]} {text[-MAX_CHARACTERS // 2 :]}"
        # A lone surrogate, which JSON can carry, is no UTF-8 and would be refused by the tokenizer.
        tokens: list[int] = self._tokenizer.encode(text.encode("utf-8", "replace").decode()).ids
        if len(tokens) <= self._max_tokens:
            return tokens
        half = self._max_tokens // 2
        return tokens[: self._max_tokens - half] + tokens[-half:]


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
