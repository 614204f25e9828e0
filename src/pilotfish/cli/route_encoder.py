"""The encoder that reads prompts for `pilotfish route`: the one that is named, or the route's own beside its file.

`train --finetune` writes the route's own encoder into a folder named after the route's file; who reads the route later
finds it there, and `adopt` takes it into the home. What fine-tuning has done so far stands in a hidden folder beside
the route until it is finished, so that the same command goes on after an interruption.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilotfish.guarantees.route_attempt import Encoded, Finetuning
    from pilotfish.routing.route import Route


def folder_of(route_path: Path) -> Path:
    """Where the own encoder of the route in this file stands."""
    return route_path.with_name(f"{route_path.stem}.encoder")


def unfinished(route_path: Path) -> Path:
    """Where fine-tuning for the route in this file goes on."""
    return route_path.with_name(f".{route_path.name}.tuning")


def named(source: str | None) -> Encoded | None:
    """The encoder that `--encoder` names."""
    if source is None:
        return None
    from pilotfish.config import load
    from pilotfish.guarantees.route_attempt import Encoded
    from pilotfish.students import weights
    from pilotfish.students.encoder_cache import open_encoder

    encoder = open_encoder(load.cache(), weights.DEFAULT if source == "default" else source)
    return Encoded(embed=encoder.encode, sha256=encoder.sha256)


def finetuning(source: str | None, route_path: Path) -> Finetuning:
    """Fine-tuning of the encoder that `--encoder` names, the default one where it names none.

    Raises `MissingExtraError` without torch, `UserError` where the weights are missing.
    """
    from pilotfish.config import load
    from pilotfish.guarantees.route_attempt import Finetuning
    from pilotfish.students import weights
    from pilotfish.students.encoder_cache import open_encoder
    from pilotfish.students.outcome_reader import RECIPE
    from pilotfish.students.recipe import Tuning

    name = weights.DEFAULT if source in (None, "default") else source
    return Finetuning(
        encoder=open_encoder(load.cache(), name),
        tuning=Tuning(weights=weights.find(name), recipe=RECIPE),
        folder=unfinished(route_path),
    )


def of_route(route: Route, route_path: Path | None, source: str | None) -> Encoded | None:
    """What reads prompts for a route: its own encoder where it stands beside its file, else the one that is named.

    A route that was learnt only to be judged has no file.
    """
    from pilotfish.guarantees.route_attempt import Encoded
    from pilotfish.specialists.encoder import Encoder

    folder = folder_of(route_path) if route_path is not None else None
    if route.encoder_sha256 and folder is not None and folder.is_dir():
        own = Encoder.load(folder)
        if own.sha256 == route.encoder_sha256:
            return Encoded(embed=own.encode, sha256=own.sha256)
    return named(source)


def take(route: Route, route_path: Path, home: Path) -> None:
    """Copy the route's own encoder into a home, where the gateway finds it. Raises `SpecialistError` where it is
    broken."""
    from pilotfish.specialists.encoder import FILES, Encoder
    from pilotfish.store.build import encoder

    source = folder_of(route_path)
    if route.encoder_sha256 and source.is_dir() and Encoder.load(source).sha256 == route.encoder_sha256:
        target = encoder(home, route.encoder_sha256)
        target.parent.mkdir(exist_ok=True)
        if not target.is_dir():
            keep({name: (source / name).read_bytes() for name in FILES}, target)


def keep(files: Mapping[str, bytes], folder: Path) -> None:
    """Write the files of an encoder into a folder of their own, all or none; without files an earlier one goes.

    Raises `UserError` where the folder holds something else.
    """
    from pilotfish.core.errors import UserError
    from pilotfish.specialists.card import ENCODER

    if folder.is_dir() and not (folder / ENCODER).is_file():
        raise UserError(f"{folder.name} is to hold the route's encoder, but holds something else.", hint="Move it.")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        made = Path(temporary) / "encoder"
        made.mkdir()
        for name, content in files.items():
            (made / name).write_bytes(content)
        if folder.is_dir():
            shutil.rmtree(folder)
        if files:
            os.replace(made, folder)
