"""The card of a specialist folder, and the check that the folder is what its card says.

`specialist.json` holds what the specialist is and the SHA-256 of each file beside it; its own hash is
therefore the identity of the whole folder. A certificate names that identity and is not part of it. The
card knows nothing of arrays or predictions. It holds no date, so equal input gives an equal folder.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.core.errors import SpecialistError
from pilotfish.core.ids import sha256
from pilotfish.core.task import AnswerShape, Field, Retrieval

FORMAT = 1
NAME = "specialist.json"

ENCODER = "encoder.json"
"""Stands beside it, with the graph and the tokenizer it names, where the encoder was fine-tuned for the task."""

_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a specialist is.

    `classes` are the values that it can answer, per field of `shape`. `encoder_sha256` is empty where the n-grams
    answer alone. `scores` are figures of its learning
    (out of fold), `versions` those of the packages that fitted it. `files` maps file names to their SHA-256.
    """

    task_id: str
    task_name: str
    shape: AnswerShape
    classes: tuple[tuple[str, ...], ...]
    encoder_sha256: str
    data_sha256: str
    n_examples: int
    students: tuple[str, ...]
    scores: dict[str, float]
    versions: dict[str, str]
    files: dict[str, str]

    @property
    def shares_encoder(self) -> bool:
        """Whether it reads the shared encoder's embeddings, rather than those of its own, or none."""
        return bool(self.encoder_sha256) and ENCODER not in self.files


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A checked folder: its card, its identity and the content of its files."""

    card: Card
    sha256: str
    contents: dict[str, bytes]


def write_folder(folder: Path, card: Card, contents: dict[str, bytes]) -> str:
    """Writes the files and the card (with their hashes) into `folder`; the result is the folder's identity."""
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    hashed = dataclasses.replace(card, files={name: sha256(content) for name, content in contents.items()})
    row = {"format": FORMAT, **dataclasses.asdict(hashed)}
    written = (json.dumps(row, indent=2, sort_keys=True) + "\n").encode()
    (folder / NAME).write_bytes(written)
    return sha256(written)


def read_folder(folder: Path) -> Folder:
    """The folder's content, each file checked against its hash.

    Raises `SpecialistError` where the card is broken or of a newer format, names a file outside the folder, or a
    file is missing or changed. What is hashed is what is returned: a file is read once.
    """
    try:
        written = (folder / NAME).read_bytes()
        card = _card(json.loads(written), folder.name)
        outside = [name for name in card.files if not _FILE_NAME.fullmatch(name)]
        if outside:
            raise SpecialistError(f"The specialist {folder.name} names files outside its folder: {outside[0]!r}.")
        contents = {name: (folder / name).read_bytes() for name in card.files}
        wrong = [name for name, expected in card.files.items() if sha256(contents[name]) != expected]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SpecialistError(
            f"The specialist {folder.name} cannot be read: {type(error).__name__}: {error}",
            hint="Distil the task again.",
        ) from error
    if wrong:
        raise SpecialistError(
            f"The specialist {folder.name} was changed: {', '.join(wrong)} differs from its hash.",
            hint="Distil the task again.",
        )
    return Folder(card=card, sha256=sha256(written), contents=contents)


def _card(row: dict[str, Any], name: str) -> Card:
    if row["format"] > FORMAT:
        raise SpecialistError(
            f"The specialist {name} has format {row['format']}; this version reads up to {FORMAT}.",
            hint="Update pilotfish.",
        )
    shape = row["shape"]
    known = {item.name: row[item.name] for item in dataclasses.fields(Card)}
    known["shape"] = AnswerShape(
        kind=shape["kind"],
        fields=tuple(Field(**{**item, "values": tuple(item["values"])}) for item in shape["fields"]),
        style=tuple((value, text) for value, text in shape["style"]),
        why_open=shape["why_open"],
        retrieval=_retrieval(shape.get("retrieval")),
    )
    known["classes"] = tuple(tuple(values) for values in row["classes"])
    known["students"] = tuple(row["students"])
    return Card(**known)


def _retrieval(row: dict[str, Any] | None) -> Retrieval | None:
    """Whose answers they are; None in folders of other shapes."""
    if row is None:
        return None
    return Retrieval(
        owner=row["owner"],
        forgotten=tuple((value, time_s) for value, time_s in row["forgotten"]),
        min_overlap=row["min_overlap"],
    )
