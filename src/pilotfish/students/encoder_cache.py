"""Builds the encoder artefact once and keeps it in the user's cache directory.

It decides where the artefact stands and when it must be built; the graph is `encoder_graph.py`'s, running
it `specialists/encoder.py`'s. A folder appears complete by one rename, so two processes may build at once:
the later finds the earlier's folder and uses it. Every load checks the hashes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from pilotfish.core.errors import SpecialistError
from pilotfish.core.ids import sha256
from pilotfish.specialists import encoder as artefact
from pilotfish.specialists.encoder import Encoder
from pilotfish.students import weights

MAX_TOKENS = 128
"""Covers short requests whole; 128 tokens take 7 ms on one thread, 512 would take 35."""


def open_encoder(cache: Path, source: str = weights.DEFAULT) -> Encoder:
    """The encoder made from the weights at `source`, built below `cache`/encoders on first use (a second).

    A built default encoder opens without its weights at hand, and without what builds it. Raises `UserError` where
    the weights are missing or cannot be used, or what builds it is not installed, `SpecialistError` where the
    artefact cannot be loaded although just built.
    """
    known = weights.KNOWN_SHA256.get(source)
    found = None if known else weights.find(source)
    name, weights_sha256 = (source, known) if known else (found.name, found.sha256) if found else ("", "")
    folder = cache / "encoders" / f"{name}-{weights_sha256[:12]}"
    try:
        return Encoder.load(folder)
    except SpecialistError:
        return _build(folder, found or weights.find(source))


def _build(folder: Path, found: weights.Weights) -> Encoder:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".building-") as temporary:
        built = Path(temporary) / "encoder"
        built.mkdir()
        _write(built, found)
        try:
            built.rename(folder)
        except OSError:  # the folder exists: another process was first, or it is corrupt
            try:
                return Encoder.load(folder)
            except SpecialistError:
                shutil.rmtree(folder, ignore_errors=True)
                built.rename(folder)
    return Encoder.load(folder)


def _write(folder: Path, found: weights.Weights) -> None:
    # Only building needs onnx: what is built opens with the `local` extra alone.
    from pilotfish.students import encoder_graph  # noqa: PLC0415

    architecture = encoder_graph.read_architecture(found.folder)
    contents = {
        artefact.GRAPH: encoder_graph.write_graph(found.folder),
        artefact.TOKENIZER: (found.folder / "tokenizer.json").read_bytes(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    card = {
        "format": artefact.FORMAT,
        "name": found.name,
        "dimension": architecture.dimension,
        "max_tokens": min(MAX_TOKENS, architecture.max_tokens),
        "weights_sha256": found.sha256,
        "files": {name: sha256(content) for name, content in contents.items()},
    }
    (folder / artefact.CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
