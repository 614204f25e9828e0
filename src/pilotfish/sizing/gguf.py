"""The header of a GGUF file: typed key-values and the table of tensors. No weight is read.

Nothing in it is believed: every count and length is checked against what is left of the file before it is used, and
large arrays (the vocabulary) are stepped over, not kept. Format: ggml's docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pilotfish.core.errors import UserError
from pilotfish.sizing.reading import MAX_LAYERS
from pilotfish.sizing.tensors import Stored, Tensor

MAX_TENSORS = 1_000_000
MAX_KEYS = 100_000
MAX_DIMENSIONS = 8
MAX_TEXT = 1 << 16
MAX_DEPTH = 3

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9

BLOCKS = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
"""Tensor types: name, weights in a block, bytes of a block; ggml's type traits."""

Value = int | float | bool | str | tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """A long array that was stepped over."""

    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Key-values and tensors of one file."""

    values: Mapping[str, Value | Array]
    stored: Stored


def read_gguf(path: Path) -> Header:
    """The header of one file. Raises `UserError` saying what is wrong with it."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Cursor(data, str(path)).header()
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # an empty file cannot be mapped
        raise UserError(f"{str(path)!r} is no valid GGUF file: it is empty.") from error


class _Cursor:
    """A place in the bytes that never moves beyond their end."""

    def __init__(self, data: mmap.mmap, where: str) -> None:
        self._data, self._where = data, where
        self._at, self._end = 0, len(data)

    def header(self) -> Header:
        if self._take(4) != b"GGUF":
            raise self._bad("it does not begin with GGUF")
        version = self._number("I")
        if version not in (2, 3):
            raise self._bad(f"its version is {version}, and 2 or 3 were expected")
        n_tensors, n_keys = self._count(MAX_TENSORS, "tensors"), self._count(MAX_KEYS, "keys")
        values: dict[str, Value | Array] = {}
        for _ in range(n_keys):
            key = self._text()
            values[key] = self._value(int(self._number("I")), 0)
        return Header(values=values, stored=Stored(tensors=tuple(self._tensor() for _ in range(n_tensors))))

    def _tensor(self) -> Tensor:
        name = self._text()
        n = int(self._number("I"))
        if n > MAX_DIMENSIONS:
            raise self._bad(f"a tensor has {n} dimensions")
        shape = tuple(int(self._number("Q")) for _ in range(n))
        kind = int(self._number("I"))
        self._number("Q")
        if kind not in BLOCKS:
            raise self._bad(f"a tensor has the unknown type {kind}")
        if any(size < 1 or size > 1 << 40 for size in shape):
            raise self._bad(f"a tensor has the shape {shape}")
        label, block, n_bytes = BLOCKS[kind]
        elements = 1
        for size in shape:
            elements *= size
        is_weight = label[0] != "I" or label.startswith("IQ")
        return Tensor(
            name=name,
            shape=shape,
            type=label,
            n_bytes=-(-elements // block) * n_bytes,
            is_weight=is_weight and not name.startswith("rope_"),
        )

    def _value(self, kind: int, depth: int) -> Value | Array:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _TEXT:
            return self._text(keeps=True)
        if kind == _ARRAY and depth < MAX_DEPTH:
            return self._array(depth)
        raise self._bad(f"a value has the unknown type {kind}")

    def _array(self, depth: int) -> Value | Array:
        kind, length = int(self._number("I")), int(self._number("Q"))
        if kind in _SCALARS:
            code = "<" + _SCALARS[kind]
            width = struct.calcsize(code)
            if length > (self._end - self._at) // width:
                raise self._bad(f"an array would hold {length:,} values")
            if length <= MAX_LAYERS and _SCALARS[kind] not in "fd":
                return tuple(int(self._number(_SCALARS[kind])) for _ in range(length))
            self._at += width * length
            return Array(length=length)
        if length > (self._end - self._at) // 8:
            raise self._bad(f"an array would hold {length:,} values")
        for _ in range(length):
            if kind == _TEXT:
                self._skip_text()
            else:
                self._value(kind, depth + 1)
        return Array(length=length)

    def _count(self, most: int, what: str) -> int:
        found = int(self._number("Q"))
        if found > min(most, self._end):
            raise self._bad(f"it would hold {found:,} {what}")
        return found

    def _number(self, code: str) -> int | float | bool:
        width = struct.calcsize("<" + code)
        found: int | float | bool = struct.unpack("<" + code, self._take(width))[0]
        return found

    def _text(self, *, keeps: bool = False) -> str:
        length = int(self._number("Q"))
        if length > MAX_TEXT and keeps:  # a chat template may be long, and is of no use here
            self._move(length)
            return ""
        if length > MAX_TEXT:
            raise self._bad(f"a name would be {length:,} bytes long")
        return self._take(length).decode("utf-8", "replace")

    def _skip_text(self) -> None:
        self._move(int(self._number("Q")))

    def _take(self, n: int) -> bytes:
        start = self._at
        self._move(n)
        return self._data[start : self._at]

    def _move(self, n: int) -> None:
        if n > self._end - self._at:
            raise self._bad("it ends too early")
        self._at += n

    def _bad(self, why: str) -> UserError:
        return UserError(f"{self._where!r} is no valid GGUF file: {why}.", hint="Was it downloaded completely?")
