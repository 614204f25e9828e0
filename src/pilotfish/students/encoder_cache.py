"""Builds the encoder artefact once and keeps it in the user's cache directory.

It decides where the artefact stands and when it must be built; the graph is `encoder_graph.py`'s, running
it `specialists/encoder.py`'s. A folder appears complete by one rename, so two processes may build at once:
the later finds the earlier's folder and uses it. Every load checks the hashes.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish.core.errors import SpecialistError, UserError
from pilotfish.core.ids import sha256
from pilotfish.specialists import encoder as artefact
from pilotfish.specialists.encoder import Encoder
from pilotfish.students import weights

WORD_DEPTH = 2 / 3
"""Of the layers are behind the states of words: of six, the fourth found names better (wnut17 dev: entity F1 0.48, the
second 0.45, the last 0.41), since the last ones are trained to say what the whole text is about."""

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_TOKENS = 128
"""Covers short requests whole; 128 tokens take 7 ms on one thread, 512 would take 35."""


def open_encoder(cache: Path, source: str = weights.DEFAULT) -> Encoder:
    """The encoder made from the weights at `source`, built below `cache`/encoders on first use (a second).

    A built default encoder opens without its weights at hand, and without what builds it. Raises `UserError` where
    the weights are missing or cannot be used, or what builds it is not installed, `SpecialistError` where the
    artefact cannot be loaded although just built.
    """
    found = None if source in weights.KNOWN_SHA256 else weights.find(source)
    folder = _folder(cache, source, found)
    try:
        encoder = Encoder.load(folder)
    except SpecialistError:
        return _build(folder, found or weights.find(source))
    if not (folder / artefact.WORDS_CARD).is_file():
        # Built by an earlier version. Without its weights at hand it still serves all but extractions.
        with contextlib.suppress(UserError, OSError):
            _add_words(folder, found or weights.find(source))
    return encoder


def built_encoder(cache: Path, source: str = weights.DEFAULT) -> Path:
    """The folder of the artefact that `open_encoder` opens, built where it is missing; raises as that does."""
    open_encoder(cache, source)
    return _folder(cache, source, None if source in weights.KNOWN_SHA256 else weights.find(source))


def _folder(cache: Path, source: str, found: weights.Weights | None) -> Path:
    name, weights_sha256 = (found.name, found.sha256) if found else (source, weights.KNOWN_SHA256[source])
    return cache / "encoders" / f"{name}-{weights_sha256[:12]}"


def _build(folder: Path, found: weights.Weights) -> Encoder:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".building-") as temporary:
        built = Path(temporary) / "encoder"
        built.mkdir()
        write_artefact(built, found)
        try:
            built.rename(folder)
        except OSError:  # the folder exists: another process was first, or it is corrupt
            try:
                return Encoder.load(folder)
            except SpecialistError:
                shutil.rmtree(folder, ignore_errors=True)
                built.rename(folder)
    return Encoder.load(folder)


def write_artefact(folder: Path, found: weights.Weights, graph: bytes | None = None) -> None:
    """The files that `Encoder.load` opens, in `folder`; `graph` stands for the int8 graph of the weights `found`."""
    for name, content in contents(found, graph=graph).items():
        (folder / name).write_bytes(content)
    _add_words(folder, found)


def contents(
    found: weights.Weights,
    *,
    graph: bytes | None = None,
    replaced: Mapping[str, NDArray[Any]] | None = None,
    name: str = "",
    max_tokens: int = MAX_TOKENS,
) -> dict[str, bytes]:
    """The files of the artefact made from these weights; fine-tuned tensors stand for their own, under another name.

    A `graph` that is given stands for the int8 one. `max_tokens` of a text are read, as far as the weights go.
    """
    # Only building needs onnx: what is built opens with the `local` extra alone.
    from pilotfish.students import encoder_files, encoder_graph  # noqa: PLC0415

    architecture = encoder_files.read_architecture(found.folder)
    files = {
        artefact.GRAPH: graph or encoder_graph.write_graph(found.folder, replaced=replaced),
        artefact.TOKENIZER: (found.folder / "tokenizer.json").read_bytes(),
    }
    card = {
        "format": artefact.FORMAT,
        "name": name or found.name,
        "dimension": architecture.dimension,
        "max_tokens": min(max_tokens, architecture.max_tokens),
        "weights_sha256": found.sha256,
        "files": {file: sha256(content) for file, content in files.items()},
    }
    return {**files, artefact.CARD: (json.dumps(card, indent=2) + "\n").encode()}


def _add_words(folder: Path, found: weights.Weights) -> None:
    """Beside the encoder the graph that also gives the states of words, its card last: with it the graph is whole."""
    from pilotfish.students import encoder_files, encoder_graph  # noqa: PLC0415

    layer = round(WORD_DEPTH * encoder_files.read_architecture(found.folder).n_layers)
    graph = encoder_graph.write_graph(found.folder, word_layer=layer)
    card = {
        "format": artefact.FORMAT,
        "layer": layer,
        "encoder_sha256": sha256((folder / artefact.CARD).read_bytes()),
        "graph_sha256": sha256(graph),
    }
    for name, content in {artefact.WORDS: graph, artefact.WORDS_CARD: json.dumps(card, indent=2).encode()}.items():
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".building-", delete=False) as partial:
            partial.write(content)
        Path(partial.name).replace(folder / name)
