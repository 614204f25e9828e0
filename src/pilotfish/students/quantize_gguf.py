"""Writes a GGUF model with its matrices in fewer bits, by llama.cpp's own kernels, and asks it about texts.

One type for all matrices, the output's (the embedding, where that is both) of 6 bits at least. The mixes by layer
that `llama-quantize` makes (`_S`, `_M`) need that program. A matrix whose rows do not fit the type takes the next finer
one that they fit. Vectors and routers stay as they are. What a model says is judged in `guarantees/quantized.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pilotfish.core.errors import ConfigError, MissingExtraError
from pilotfish.models.llama_library import Scorer, cores, library, opened_gguf
from pilotfish.students.heard import Heard

try:
    import numpy as np
    from numpy.typing import NDArray
except ImportError as error:
    raise MissingExtraError("local", "numpy") from error

BEFORE = "gguf"
KINDS = {
    "gguf-q8_0": "matrices of 8 bits in blocks of 32",
    "gguf-q6_k": "matrices of 6 bits in blocks of 256",
    "gguf-q5_k": "matrices of 5 bits in blocks of 256, the output's of 6",
    "gguf-q4_k": "matrices of 4 bits in blocks of 256, the output's of 6",
}

_F32, _F16, _BF16 = 0, 1, 30
_Q8_0, _Q5_0, _Q5_1, _Q4_K, _Q5_K, _Q6_K = 8, 6, 7, 12, 13, 14
_TYPES = {"gguf-q8_0": _Q8_0, "gguf-q6_k": _Q6_K, "gguf-q5_k": _Q5_K, "gguf-q4_k": _Q4_K}
_FILE_TYPES = {_Q8_0: 7, _Q4_K: 14, _Q5_K: 16, _Q6_K: 18}
"""What llama.cpp calls a file whose matrices are mostly of a type (general.file_type)."""

_FINER = {_Q4_K: _Q5_0, _Q5_K: _Q5_1, _Q6_K: _Q8_0}
"""In blocks of 32, for rows that blocks of 256 do not fit."""

_WHOLE = ("_norm.weight", "ffn_gate_inp.weight", "position_embd.weight", "token_types.weight")
_READ: dict[int, np.dtype[Any]] = {_F32: np.dtype("<f4"), _F16: np.dtype("<f2"), _BF16: np.dtype("<u2")}
_CHUNK_WEIGHTS = 1 << 22


def quantize(source: Path, kind: str, target: Path) -> int:
    """Write `source` as `target` in one of `KINDS`; the bytes of the file.

    Raises `ConfigError` where the weights of `source` have fewer than 16 bits already, or it is no GGUF file.
    """
    lib, wanted = library(), _TYPES[kind]
    with opened_gguf(source) as (header, shapes):
        made = lib.gguf_init_empty()
        try:
            lib.gguf_set_kv(made, header)
            lib.gguf_set_val_u32(made, b"general.quantization_version", 2)
            lib.gguf_set_val_u32(made, b"general.file_type", _FILE_TYPES[wanted])
            tensors = [_Tensor(header, shapes, number, source) for number in range(lib.gguf_get_n_tensors(header))]
            is_tied = all(tensor.name != "output.weight" for tensor in tensors)
            for tensor in tensors:
                lib.gguf_add_tensor(made, tensor.shape)
                lib.gguf_set_tensor_type(made, tensor.name.encode(), tensor.goes_to(wanted, is_tied=is_tied))
            if not lib.gguf_write_to_file(made, str(target).encode(), True):
                raise ConfigError(f"{str(target)!r} cannot be written.")
            with target.open("ab") as file:
                for tensor in tensors:
                    tensor.write(file, tensor.goes_to(wanted, is_tied=is_tied), lib.gguf_get_alignment(made))
        finally:
            lib.gguf_free(made)
    return target.stat().st_size


class _Tensor:
    """One tensor of a file, its weights still there."""

    def __init__(self, header: Any, shapes: Any, number: int, source: Path) -> None:  # noqa: ANN401 - foreign
        self._lib = lib = library()
        raw = lib.gguf_get_tensor_name(header, number)
        self.name = raw.decode("utf-8", "replace")
        self.shape = lib.ggml_get_tensor(shapes, raw)
        self._type = lib.gguf_get_tensor_type(header, number)
        self._n_rows = lib.ggml_nrows(self.shape)
        self._width = lib.ggml_nelements(self.shape) // self._n_rows
        self._source = source
        self._start = lib.gguf_get_data_offset(header) + lib.gguf_get_tensor_offset(header, number)

    def goes_to(self, wanted: int, *, is_tied: bool) -> int:
        """The type that it is written in."""
        is_matrix = self._lib.ggml_n_dims(self.shape) > 1 and self.name.endswith(".weight")
        if not is_matrix or self.name.endswith(_WHOLE):
            return int(self._type)
        if self._type not in _READ:
            raise ConfigError(
                f"{self.name} of {self._source.name} has fewer than 16 bits already.",
                hint="Quantize the file that was converted in f32, f16 or bf16: two roundings lose more than one.",
            )
        is_end = self.name == "output.weight" or (self.name == "token_embd.weight" and is_tied)
        found = _Q6_K if is_end and wanted in (_Q4_K, _Q5_K) else wanted
        if self._width % 256:
            found = _FINER.get(found, found)
        return int(self._type) if self._width % 32 else found

    def write(self, file: Any, kind: int, alignment: int) -> None:  # noqa: ANN401 - a binary file
        """Append the weights in a type, filled up to the alignment."""
        row_bytes = self._lib.ggml_row_size(self._type, self._width)
        data: NDArray[Any] = np.memmap(self._source, np.uint8, "r", self._start, (self._n_rows * row_bytes,))
        if kind == self._type:
            file.write(data)
        else:
            rows = data.view(_READ[self._type]).reshape(self._n_rows, self._width)
            step = max(1, _CHUNK_WEIGHTS // self._width)
            for start in range(0, self._n_rows, step):
                file.write(self._quantized(_float32(rows[start : start + step], self._type), kind))
        file.write(bytes(-file.tell() % alignment))

    def _quantized(self, rows: NDArray[np.float32], kind: int) -> bytes:
        made = np.empty(len(rows) * self._lib.ggml_row_size(kind, self._width), np.uint8)
        self._lib.ggml_quantize_chunk(kind, rows.ctypes.data, made.ctypes.data, 0, len(rows), self._width, None)
        return made.tobytes()


def _float32(rows: NDArray[Any], kind: int) -> NDArray[np.float32]:
    if kind == _BF16:  # the upper half of a float
        return np.ascontiguousarray(rows.astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(rows, np.float32)


class Gguf:
    """A file that is asked about texts."""

    def __init__(self, path: Path) -> None:
        """Raises `ConfigError` where llama.cpp cannot load it."""
        self.size_bytes = path.stat().st_size
        self._scorer = Scorer(path, n_threads=cores())

    def ask(self, text: str) -> Heard:
        """What it says of a text: the likeliest token at each place, and how likely the text is."""
        answers, confidence, losses, rights = [], [], [], []
        for log_shares, token in self.next_tokens(text):
            best = int(log_shares.argmax())
            answers.append(str(best))
            confidence.append(float(np.exp(log_shares[best])))
            losses.append(-float(log_shares[token]))
            rights.append(best == token)
        return Heard(answers=answers, confidence=confidence, score=float(np.mean(rights)), loss=float(np.mean(losses)))

    def next_tokens(self, text: str) -> Iterator[tuple[NDArray[np.float64], int]]:
        """The log probabilities [vocabulary] at each place of a text but its last, and the token that follows."""
        tokens = self._scorer.tokens(text)
        if len(tokens) < 2:
            raise ConfigError(f"There is no token to predict in {text[:40]!r}.", hint="Leave out texts of one token.")
        size = (self._scorer.n_vocabulary,)
        rows = (np.ctypeslib.as_array(found, size) for found in self._scorer.scores(tokens))
        for row, token in zip(rows, tokens[1:], strict=False):
            yield _log_softmax(row), token

    def close(self) -> None:
        """Let go of the weights."""
        self._scorer.close()


def divergence(before: Path, after: Path, texts: Sequence[str]) -> float:
    """The mean over all tokens of KL(before || after) of the next token's distribution, in nats. Loads both files."""
    one, other = Gguf(before), Gguf(after)
    total, n = 0.0, 0
    for text in texts:
        for (log_p, _), (log_q, _) in zip(one.next_tokens(text), other.next_tokens(text), strict=True):
            total += float((np.exp(log_p) * (log_p - log_q)).sum())
            n += 1
    one.close()
    other.close()
    return total / n


def _log_softmax(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = scores.astype(np.float64) - scores.max()
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return found
