"""The encoder that reads prompts for `pilotfish route`: the one that is named, or the route's own beside its file.

`train --finetune` writes the route's own encoder into a folder named after the route's file; who reads the route later
finds it there, and `adopt` takes it into the home, from which that of an earlier route goes. What fine-tuning has done
so far stands in a hidden folder beside the route until it is finished, so that the same command goes on after an
interruption.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.cli import options

if TYPE_CHECKING:
    from pilotfish.config.settings import Settings
    from pilotfish.guarantees.route_attempt import Encoded, Finetuning
    from pilotfish.routing.route import Route
    from pilotfish.store.base import RouteRecord

_OURS = re.compile(r"[0-9a-f]{16}")
"""The folder of an encoder in a home is named by its hash; what is named otherwise is not ours to delete."""


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


def drop_unused(home: Path, newest: RouteRecord | None) -> int:
    """Delete the encoders that the route adopted last does not read from a home; how many went.

    An earlier route never comes back, and a gateway that still decides with one holds its encoder in memory. Where the
    newest cannot be read nothing goes.
    """
    from pilotfish.core.errors import SpecialistError
    from pilotfish.routing.route import Route
    from pilotfish.store.build import encoder, encoders

    if newest is None or not encoders(home).is_dir():
        return 0
    try:
        used, gone = encoder(home, Route.from_json(newest.route).encoder_sha256), 0
    except SpecialistError:
        return 0
    for folder in list(encoders(home).iterdir()):
        if folder != used and _OURS.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)
            gone += not folder.exists()
    return gone


def take(route: Route, route_path: Path, home: Path, settings: Settings) -> None:
    """Copy the route's own encoder into a home, where the gateway finds it; nothing where that already has it, or the
    shared encoder is the one that the route reads.

    Raises `SpecialistError` where the gateway would find none of these: everything would go to the large model without
    a word.
    """
    wanted = route.encoder_sha256
    if not wanted:
        return
    from pilotfish.core.errors import SpecialistError
    from pilotfish.specialists.encoder import FILES
    from pilotfish.store.build import encoder

    source, target = folder_of(route_path), encoder(home, wanted)
    own, kept = _identity(source), _identity(target)
    if kept == wanted:
        return
    if own == wanted:
        target.parent.mkdir(exist_ok=True)
        keep({name: (source / name).read_bytes() for name in FILES}, target)
        return
    shared, why = _shared(settings)
    # The gateway looks into the home first, and what it finds broken there it does not replace by another.
    if shared == wanted and not target.is_dir():
        return
    places = {f"{source.name}/ beside the route": _told(own, source), f"the home {str(home)!r}": _told(kept, target)}
    places["the shared encoder"] = why or shared[:12]
    raise SpecialistError(
        f"The route reads prompts with the encoder {wanted[:12]}, which the gateway would not find: "
        f"{'; '.join(f'{place}: {said}' for place, said in places.items())}. Nothing is adopted.",
        hint=f"Of `route train --finetune`: copy the folder {source.name}/ that it wrote beside the route. Of "
        "`route train --encoder`: name the same encoder in [learning] encoder. Else train the route anew.",
    )


def _identity(folder: Path) -> str:
    """The hash of the encoder in a folder; empty where none can be loaded."""
    from pilotfish.core.errors import SpecialistError
    from pilotfish.specialists.encoder import Encoder

    try:
        return Encoder.load(folder).sha256
    except SpecialistError:
        return ""


def _told(identity: str, folder: Path) -> str:
    return identity[:12] or ("broken" if folder.is_dir() else "none")


def _shared(settings: Settings) -> tuple[str, str]:
    """The hash of the encoder that the gateway's specialists share, or why there is none."""
    from pilotfish.core.errors import PilotfishError

    try:
        found = options.encoder_from(settings)
    except (PilotfishError, OSError) as error:
        return "", f"cannot be loaded ({error})"
    return (found.sha256, "") if found is not None else ("", "none")


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
