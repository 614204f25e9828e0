"""No text is encoded twice, and what is remembered is bit for bit what was encoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pilotfish.specialists.encoder import Encoder
from pilotfish.specialists.remembered import RememberedEncoder

TEXTS = ["where is my parcel", "the grinder is broken", "where is my parcel", "", "\udc80 odd"]


def test_what_was_encoded_is_remembered_across_processes(encoder: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "embeddings.safetensors"
    with RememberedEncoder(encoder, path) as first:
        found = first.encode(TEXTS)
    assert np.array_equal(found, encoder.encode(TEXTS))
    with RememberedEncoder(encoder, path) as again:
        again._encoder = _Forbidden()  # type: ignore[assignment]
        assert np.array_equal(again.encode(TEXTS[::-1]), found[::-1])


def test_new_texts_are_added_and_a_broken_file_is_made_anew(encoder: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "embeddings.safetensors"
    path.write_bytes(b"broken")
    with RememberedEncoder(encoder, path) as first:
        first.encode(TEXTS[:2])
    with RememberedEncoder(encoder, path) as second:
        second.encode(["another"])
    with RememberedEncoder(encoder, path) as third:
        third._encoder = _Forbidden()  # type: ignore[assignment]
        assert np.array_equal(third.encode([*TEXTS[:2], "another"]), encoder.encode([*TEXTS[:2], "another"]))
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_the_memory_of_another_encoder_is_not_used(encoder: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "embeddings.safetensors"
    with RememberedEncoder(encoder, path) as first:
        first.encode(TEXTS)
    first.sha256 = "0" * 64
    assert first._read() == {}


class _Forbidden:
    """Stands where nothing new may be encoded."""

    def encode(self, texts: list[str]) -> np.ndarray:
        assert not texts, f"encoded again: {texts}"
        return np.empty((0, 1), np.float32)
