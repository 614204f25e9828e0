"""From what a user names to a model: a file, a folder, a name of the catalogue, or a hub id.

Files come first, since a path is unambiguous; the catalogue comes before the hub, since it needs no network. Everything
found says where it comes from and when that was read, or entered in the catalogue. The readers of weight files are
loaded where one is named.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish.core.errors import UserError
from pilotfish.sizing import hub
from pilotfish.sizing.architecture import Architecture
from pilotfish.sizing.catalogue import Entry, catalogue
from pilotfish.sizing.families import KNOWN, architecture
from pilotfish.sizing.reading import Config, read_json

if TYPE_CHECKING:
    from pilotfish.sizing.tensors import Stored

EXPECTED = "Expected: a config.json, a folder with one, a .gguf or .safetensors file, a catalogue name, or a hub id."
_INDEX = "model.safetensors.index.json"
_SUFFIXES = (".json", ".gguf", ".safetensors")
_CLASSES = {
    "GPT2": "BPE", "Llama": "BPE", "CodeLlama": "BPE", "Qwen2": "BPE", "Gemma": "BPE", "Bart": "BPE", "Roberta": "BPE",
    "GPTNeoX": "BPE", "Bloom": "BPE", "Whisper": "BPE", "Bert": "WordPiece", "DistilBert": "WordPiece",
    "MobileBert": "WordPiece", "Electra": "WordPiece", "MPNet": "WordPiece", "T5": "unigram", "Albert": "unigram",
    "XLMRoberta": "unigram", "MBart": "unigram", "Pegasus": "unigram", "XLNet": "unigram",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is inspected. `architecture` is None exactly where `why_none` says why; `stored` is what a file holds."""

    name: str
    source: str
    date: str
    architecture: Architecture | None
    why_none: str = ""
    stored: Stored | None = None
    entry: Entry | None = None


def find(name: str, cache: Path) -> Subject:
    """The model of that name. Raises `UserError` where there is none or its file cannot be used."""
    path = Path(name).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path)
    entry = catalogue().find(name)
    if entry is not None:
        return from_entry(entry)
    if path.suffix in _SUFFIXES or name.startswith((".", "/", "~")):
        raise UserError(f"There is no file {name!r}.", hint=EXPECTED)
    if hub.is_id(name):
        kept = hub.fetch(cache, name)
        return replace(_folder(kept), name=name, source=f"hub id {name}, config.json")
    near = catalogue().nearest(name)
    hint = f"Nearest in the catalogue: {', '.join(near)}." if near else EXPECTED
    raise UserError(f"There is no model {name!r} in the catalogue, and no such file.", hint=hint)


def from_entry(entry: Entry) -> Subject:
    """The subject of a catalogue entry."""
    if entry.config is None:
        return Subject(
            name=entry.title,
            source=entry.source,
            date=entry.entered,
            architecture=None,
            why_none=f"undisclosed: {entry.undisclosed}",
            entry=entry,
        )
    found = architecture(Config(entry.config, f"catalogue entry {entry.name}"))
    assert found is not None  # the catalogue's test asks for each entry
    return Subject(name=entry.title, source=entry.source, date=entry.entered, architecture=found, entry=entry)


def _file(path: Path) -> Subject:
    if path.name.endswith(".index.json"):
        return _tensors_only(path, _weights(path))
    if path.suffix == ".json":
        return _config(path, path.stem if path.stem != "config" else path.resolve().parent.name or "config")
    kind = _magic(path)
    if kind == "gguf":
        return _gguf(path)
    if path.suffix == ".safetensors":
        return _tensors_only(path, _weights(path))
    raise UserError(f"{str(path)!r} is neither JSON, GGUF nor safetensors.", hint=EXPECTED)


def _magic(path: Path) -> str:
    try:
        with path.open("rb") as file:
            begins = file.read(4)
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read: {error.strerror}.") from error
    return "gguf" if begins == b"GGUF" or path.suffix == ".gguf" else ""


def _gguf(path: Path) -> Subject:
    from pilotfish.sizing import gguf_shape  # noqa: PLC0415
    from pilotfish.sizing.gguf import read_gguf  # noqa: PLC0415

    header = read_gguf(path)
    found = gguf_shape.architecture(header)
    name = header.values.get("general.name")
    return Subject(
        name=name if isinstance(name, str) and name else path.stem,
        source=f"GGUF header of {path.name}",
        date=_date(path),
        architecture=found,
        why_none="" if found else "the header does not tell how its attention works",
        stored=header.stored,
    )


def _tensors_only(path: Path, stored: Stored) -> Subject:
    return Subject(
        name=path.name.removesuffix(".index.json").removesuffix(".safetensors"),
        source=f"safetensors header of {path.name}",
        date=_date(path),
        architecture=None,
        why_none="a safetensors header tells tensors, not how they are used; put its config.json beside it",
        stored=stored,
    )


def _config(path: Path, name: str) -> Subject:
    values = read_json(path)
    config = Config(values, str(path))
    if not config.model_type:
        raise UserError(f"{str(path)!r} has no model_type.", hint="Expected a model's config.json.")
    found = architecture(config)
    known = ", ".join(KNOWN)
    return Subject(
        name=name,
        source=f"{path.name} of {name}",
        date=_date(path),
        architecture=found,
        why_none="" if found else f"unknown architecture {config.model_type!r} (known: {known})",
    )


def _folder(path: Path) -> Subject:
    stored = _stored(path)
    if (path / "config.json").is_file():
        found = _config(path / "config.json", path.resolve().name)
        kind = _tokenizer(path)
        shape = found.architecture
        if shape is not None and kind:
            shape = replace(shape, tokenizer=kind)
        return replace(found, stored=stored, architecture=shape)
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1:
        return _gguf(files[0])
    if stored is not None:
        return replace(_tensors_only(path / _INDEX, stored), name=path.resolve().name)
    several = f" It holds {len(files)} GGUF files; name one of them." if files else ""
    raise UserError(f"The folder {str(path)!r} holds no config.json and no weights.{several}", hint=EXPECTED)


def _stored(path: Path) -> Stored | None:
    found = next((path / name for name in (_INDEX, "model.safetensors") if (path / name).is_file()), None)
    return None if found is None else _weights(found)


def _weights(path: Path) -> Stored:
    """The tensors of a safetensors file, or of the shards of an index."""
    from pilotfish.sizing.safetensors_header import read_index, read_safetensors  # noqa: PLC0415

    return read_index(path) if path.suffix == ".json" else read_safetensors(path)


def _tokenizer(path: Path) -> str | None:
    """The kind of tokenizer, from its own file, else from the class that its configuration names."""
    if (path / "tokenizer.json").is_file():
        model = read_json(path / "tokenizer.json").get("model")
        kind = model.get("type") if isinstance(model, dict) else None
        if isinstance(kind, str):
            return "unigram" if kind == "Unigram" else kind
    if (path / "tokenizer_config.json").is_file():
        return _class(read_json(path / "tokenizer_config.json"))
    return None


def _class(values: Mapping[str, Any]) -> str | None:
    name = values.get("tokenizer_class")
    return _CLASSES.get(name.removesuffix("Fast").removesuffix("Tokenizer")) if isinstance(name, str) else None


def _date(path: Path) -> str:
    return datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC).date().isoformat()
