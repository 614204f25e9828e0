"""llama.cpp's own C functions, out of the library that xllamacpp ships: what its Python face leaves out.

Two things are reached this way: rewriting a GGUF file with its matrices in fewer bits (the kernels of `llama-quantize`,
which the library does not hold as one function), and the scores of every token of a text, which no server tells.
Structures that may grow with a version are never read beyond the fields checked here: they travel as bytes of more
room than they need. Needs the `llama` extra.
"""

from __future__ import annotations

import ctypes as c
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pilotfish.core.errors import ConfigError, MissingExtraError

try:
    import xllamacpp
except ImportError as error:
    raise MissingExtraError("llama", error.name or "xllamacpp") from error

CHUNK_TOKENS = 128
"""Of a text that are read at once: their scores take so many times the vocabulary in memory."""


class _Settings(c.Structure):
    """Parameters of a model or a context, given and taken by value; real ones are shorter."""

    _fields_ = (("words", c.c_uint32 * 256),)


class _Batch(c.Structure):
    _fields_ = (
        ("n_tokens", c.c_int32),
        ("token", c.POINTER(c.c_int32)),
        ("embd", c.c_void_p),
        ("pos", c.POINTER(c.c_int32)),
        ("n_seq_id", c.POINTER(c.c_int32)),
        ("seq_id", c.POINTER(c.POINTER(c.c_int32))),
        ("logits", c.POINTER(c.c_int8)),
    )


class _Reading(c.Structure):
    """How a GGUF file is opened: without its weights, and where the shapes of its tensors go."""

    _fields_ = (("no_alloc", c.c_bool), ("shapes", c.POINTER(c.c_void_p)))


_P, _TEXT, _INT, _BOOL, _SIZE, _LONG = c.c_void_p, c.c_char_p, c.c_int32, c.c_bool, c.c_size_t, c.c_int64
_LOG = c.CFUNCTYPE(None, c.c_int, _TEXT, _P)

_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ggml_free": (None, (_P,)),
    "ggml_get_tensor": (_P, (_P, _TEXT)),
    "ggml_n_dims": (c.c_int, (_P,)),
    "ggml_nelements": (_LONG, (_P,)),
    "ggml_nrows": (_LONG, (_P,)),
    "ggml_quantize_chunk": (_SIZE, (c.c_int, _P, _P, _LONG, _LONG, _LONG, _P)),
    "ggml_row_size": (_SIZE, (c.c_int, _LONG)),
    "gguf_add_tensor": (None, (_P, _P)),
    "gguf_free": (None, (_P,)),
    "gguf_get_alignment": (_SIZE, (_P,)),
    "gguf_get_data_offset": (_SIZE, (_P,)),
    "gguf_get_n_tensors": (_LONG, (_P,)),
    "gguf_get_tensor_name": (_TEXT, (_P, _LONG)),
    "gguf_get_tensor_offset": (_SIZE, (_P, _LONG)),
    "gguf_get_tensor_type": (c.c_int, (_P, _LONG)),
    "gguf_init_empty": (_P, ()),
    "gguf_init_from_file": (_P, (_TEXT, _Reading)),
    "gguf_set_kv": (None, (_P, _P)),
    "gguf_set_tensor_type": (None, (_P, _TEXT, c.c_int)),
    "gguf_set_val_u32": (None, (_P, _TEXT, c.c_uint32)),
    "gguf_write_to_file": (_BOOL, (_P, _TEXT, _BOOL)),
    "llama_backend_init": (None, ()),
    "llama_batch_free": (None, (_Batch,)),
    "llama_batch_init": (_Batch, (_INT, _INT, _INT)),
    "llama_context_default_params": (_Settings, ()),
    "llama_decode": (_INT, (_P, _Batch)),
    "llama_free": (None, (_P,)),
    "llama_get_logits_ith": (c.POINTER(c.c_float), (_P, _INT)),
    "llama_get_memory": (_P, (_P,)),
    "llama_init_from_model": (_P, (_P, _Settings)),
    "llama_log_set": (None, (_LOG, _P)),
    "llama_memory_clear": (None, (_P, _BOOL)),
    "llama_model_default_params": (_Settings, ()),
    "llama_model_free": (None, (_P,)),
    "llama_model_get_vocab": (_P, (_P,)),
    "llama_model_load_from_file": (_P, (_TEXT, _Settings)),
    "llama_set_n_threads": (None, (_P, _INT, _INT)),
    "llama_tokenize": (_INT, (_P, _TEXT, _INT, c.POINTER(_INT), _INT, _BOOL, _BOOL)),
    "llama_vocab_bos": (_INT, (_P,)),
    "llama_vocab_n_tokens": (_INT, (_P,)),
}

_DEFAULT_CONTEXT = (512, 2048, 512)
"""What the first three numbers of a context's default parameters are, if they stand where they are looked for."""


# Errors are told by what the functions return.
_silent = _LOG(lambda _level, _text, _data: None)


@functools.cache
def library() -> Any:  # noqa: ANN401 - a foreign library
    """The library with the types of its functions, silent. Raises `ConfigError` for one that is not known here."""
    found = c.CDLL(xllamacpp.xllamacpp.__file__)
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(found, name, None)
        if function is None:
            raise ConfigError(
                f"xllamacpp {xllamacpp.__version__} has no {name}.", hint="Another version of it may have."
            )
        function.restype, function.argtypes = result, arguments
    found.llama_log_set(_silent, None)
    return found


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Scorer:
    """A GGUF model that tells how likely each next token of a text is. Not for several threads at once."""

    def __init__(self, path: Path, *, n_threads: int, n_context: int = 1024) -> None:
        """Texts are read up to `n_context` tokens. Raises `ConfigError` for a file of no use."""
        self._lib, self._n_context = library(), n_context
        self._lib.llama_backend_init()
        self._model = self._lib.llama_model_load_from_file(str(path).encode(), self._lib.llama_model_default_params())
        if not self._model:
            raise ConfigError(f"llama.cpp cannot load {path.name}.", hint="Expected a GGUF file of a language model.")
        settings = self._lib.llama_context_default_params()
        if tuple(settings.words[:3]) != _DEFAULT_CONTEXT:
            raise ConfigError(f"The parameters of xllamacpp {xllamacpp.__version__} are not known here.")
        settings.words[0], settings.words[1], settings.words[2] = n_context, CHUNK_TOKENS, CHUNK_TOKENS
        self._context = self._lib.llama_init_from_model(self._model, settings)
        if not self._context:
            raise ConfigError(f"llama.cpp has no memory for {path.name}.")
        self._lib.llama_set_n_threads(self._context, n_threads, n_threads)
        self._vocabulary = self._lib.llama_model_get_vocab(self._model)
        self.n_vocabulary = int(self._lib.llama_vocab_n_tokens(self._vocabulary))
        self._batch = self._lib.llama_batch_init(CHUNK_TOKENS, 0, 1)

    def close(self) -> None:
        """Let go of the weights."""
        self._lib.llama_batch_free(self._batch)
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, with one that begins it, up to the length of the context."""
        data = text.encode()
        # Where there are more tokens than room it tells how many, as a negative number.
        n = -self._lib.llama_tokenize(self._vocabulary, data, len(data), None, 0, True, False)
        room = (c.c_int32 * max(n, 1))()
        found = list(room[: self._lib.llama_tokenize(self._vocabulary, data, len(data), room, n, True, False)])
        first = int(self._lib.llama_vocab_bos(self._vocabulary))
        if first >= 0 and found[:1] != [first]:
            found.insert(0, first)
        return found[: self._n_context]

    def scores(self, tokens: list[int]) -> Iterator[Any]:
        """For each token a pointer to the scores of the one after it [vocabulary], valid until the next is asked."""
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)
        for start in range(0, len(tokens), CHUNK_TOKENS):
            chunk = tokens[start : start + CHUNK_TOKENS]
            self._batch.n_tokens = len(chunk)
            for place, token in enumerate(chunk):
                self._batch.token[place], self._batch.pos[place] = token, start + place
                self._batch.n_seq_id[place], self._batch.seq_id[place][0], self._batch.logits[place] = 1, 0, 1
            if self._lib.llama_decode(self._context, self._batch):
                raise ConfigError("llama.cpp could not read a text.", hint="Is there memory enough?")
            for place in range(len(chunk)):
                yield self._lib.llama_get_logits_ith(self._context, place)


@contextmanager
def opened_gguf(path: Path) -> Iterator[tuple[Any, Any]]:
    """The header of a GGUF file, and the shapes of its tensors, for the functions of `library()`."""
    lib, shapes = library(), c.c_void_p()
    header = lib.gguf_init_from_file(str(path).encode(), _Reading(no_alloc=True, shapes=c.pointer(shapes)))
    if not header:
        raise ConfigError(f"{path.name} is no GGUF file that llama.cpp can read.")
    try:
        yield header, shapes
    finally:
        lib.gguf_free(header)
        lib.ggml_free(shapes)
