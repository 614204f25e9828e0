"""The header of safetensors files: eight bytes of length, then JSON. No weight is read.

Nothing in a header is believed: its length is bounded by the format's own limit and by the file, shapes and offsets
are checked against each other and the file, and shards named by an index must be plain names beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pilotfish.core.errors import UserError
from pilotfish.sizing.reading import parse_json, read_json
from pilotfish.sizing.tensors import Stored, Tensor

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""
MAX_TENSORS = 1_000_000
MAX_DIMENSIONS = 8

_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6,
    "F6_E3M2": 6, "C64": 64, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8,
    "BOOL": 8,
}  # fmt: skip


def read_safetensors(path: Path) -> Stored:
    """The tensors of one file. Raises `UserError` saying what is wrong with it."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 10 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise _bad(path, f"its header would be {length:,} bytes long in a file of {size:,}")
            text = file.read(length)
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read: {error.strerror}.") from error
    return Stored(tensors=tuple(_tensors(parse_json(text, str(path)), path, size - 8 - length)))


def read_index(path: Path) -> Stored:
    """The tensors of all shards that an index names and that lie beside it; the others are named as missing."""
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise UserError(f"{str(path)!r} has no weight_map.", hint="An index of safetensors shards was expected.")
    tensors: list[Tensor] = []
    missing: list[str] = []
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise UserError(f"{str(path)!r} names a shard {name!r}, which is no plain file name.")
        shard = path.parent / name
        if shard.is_file():
            tensors += read_safetensors(shard).tensors
        else:
            missing.append(name)
    return Stored(tensors=tuple(tensors), missing=tuple(missing))


def _tensors(header: dict[str, Any], path: Path, n_data: int) -> Iterable[Tensor]:
    if len(header) > MAX_TENSORS:
        raise _bad(path, f"it names {len(header):,} tensors")
    for name, about in header.items():
        if name != "__metadata__":
            yield _tensor(name, about, path, n_data)


def _tensor(name: str, about: object, path: Path, n_data: int) -> Tensor:
    shown = json.dumps(name[:80])
    if not isinstance(about, dict):
        raise _bad(path, f"tensor {shown} is not described")
    kind = about.get("dtype")
    if not isinstance(kind, str) or kind not in _BITS:
        raise _bad(path, f"tensor {shown} has an unknown type")
    shape, offsets = _whole(about.get("shape")), _whole(about.get("data_offsets"))
    if shape is None or offsets is None or len(shape) > MAX_DIMENSIONS or len(offsets) != 2:
        raise _bad(path, f"tensor {shown} has no valid shape and offsets")
    start, end = offsets
    is_weight = kind[0] in "FBC" and kind != "BOOL"
    found = Tensor(name=name, shape=shape, type=kind, n_bytes=end - start, is_weight=is_weight)
    if not 0 <= start <= end <= n_data or 8 * (end - start) != found.elements * _BITS[kind]:
        raise _bad(path, f"tensor {shown} does not fit its offsets")
    return found


def _whole(value: Any) -> tuple[int, ...] | None:  # noqa: ANN401 - any JSON value
    """A list of whole numbers from 0, else None."""
    if isinstance(value, list) and all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in value):
        return tuple(value)
    return None


def _bad(path: Path, why: str) -> UserError:
    return UserError(f"{str(path)!r} is no valid safetensors file: {why}.", hint="Was it downloaded completely?")
