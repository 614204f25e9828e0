"""An encoder that encodes no text twice: what it has encoded stands in one file beside the log.

Learning again and again from a growing log would otherwise spend half of its time on texts it knows. The
embeddings are kept bit for bit, since training, calibration and serving must see the same ones. The file is a
cache: one that cannot be read is made anew. Two runs at once may each lose what the other added, nothing else.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pilotfish.core.errors import MissingExtraError
from pilotfish.specialists.encoder import Encoder, Graph, Text, WordReader

try:
    import numpy as np
    from numpy.typing import NDArray
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save_file
except ImportError as error:
    raise MissingExtraError("local", error.name or "numpy") from error

MAX_TEXTS = 40_000
"""The latest ones are kept: 61 MB at 384 dimensions, twice what one specialist learns from."""


class RememberedEncoder(Encoder):
    """`encoder` with a memory in the file `path`. Use as a context manager: the memory is written at the end."""

    def __init__(self, encoder: Encoder, path: Path) -> None:
        self._encoder = encoder
        self._path = path
        self.name, self.dimension, self.sha256 = encoder.name, encoder.dimension, encoder.sha256
        self._known = self._read()
        self._n_read = len(self._known)

    def __enter__(self) -> RememberedEncoder:
        return self

    def __exit__(self, *_: object) -> None:
        if len(self._known) > self._n_read:
            self._write()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `Encoder.encode`, of texts it knows from memory."""
        keys = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        self._known.update(zip(new, self._encoder.encode(list(new.values())), strict=True))
        embeddings = np.empty((len(texts), self.dimension), np.float32)
        for row, key in enumerate(keys):
            embeddings[row] = self._known[key]
        return embeddings

    def words(self) -> WordReader:
        """As `Encoder.words`; the states of words are too many to remember."""
        return self._encoder.words()

    def count_tokens(self, text: Text) -> int:
        """As `Encoder.count_tokens`."""
        return self._encoder.count_tokens(text)

    def run(self, text: Text, graph: Graph | None = None) -> NDArray[np.float32]:
        """As `Encoder.run`, from no memory."""
        return self._encoder.run(text, graph)

    def _read(self) -> dict[bytes, NDArray[np.float32]]:
        try:
            tensors = load_file(self._path)
            keys, embeddings = tensors[f"keys {self.sha256}"], tensors[f"embeddings {self.sha256}"]
        except (OSError, SafetensorError, KeyError):
            return {}
        return dict(zip(map(bytes, keys), embeddings, strict=True))

    def _write(self) -> None:
        kept = list(self._known.items())[-MAX_TEXTS:]
        # Named by the encoder, so that another encoder's memory is never mistaken for this one's.
        tensors: dict[str, NDArray[Any]] = {
            f"keys {self.sha256}": np.frombuffer(b"".join(key for key, _ in kept), np.uint8).reshape(-1, 16),
            f"embeddings {self.sha256}": np.stack([embedding for _, embedding in kept]),
        }
        partial = self._path.with_suffix(f".{os.getpid()}")
        save_file(tensors, partial)
        partial.replace(self._path)
