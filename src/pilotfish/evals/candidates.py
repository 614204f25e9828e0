"""From what a user writes to something that answers: `[NAME=]MODEL`, and `A>B` for a cascade of two.

MODEL is an endpoint (`large`, or URL#model), a specialist (its folder, or a task of the home), a recording (FILE, or
FILE#model), a function (`module:function`), or weights in this process (`weights:FOLDER`, a folder with a
`config.json`). Nothing heavy is loaded here: a candidate opens when its turn comes, so that memory is its own.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pilotfish.config.settings import LargeSettings
from pilotfish.core.errors import ConfigError, TaskError
from pilotfish.core.ids import sha256
from pilotfish.core.item import Item
from pilotfish.core.messages import Price
from pilotfish.evals.answerers import Accepts, Answerer, Asked, Called, Cascade, Distilled, Sampling
from pilotfish.evals.recordings import Recording, read_recording
from pilotfish.models.build import large_model
from pilotfish.models.http import HttpModel
from pilotfish.specialists.card import NAME as SPECIALIST_CARD
from pilotfish.specialists.encoder import Encoder
from pilotfish.specialists.specialist import Specialist

Kind = Literal["endpoint", "specialist", "recording", "function", "weights", "cascade"]

_ALIAS = re.compile(r"(?P<name>[\w.+-]+)=(?P<rest>.+)", re.DOTALL)
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model to be compared. `sha256` identifies what answers, as far as can be known from here."""

    name: str
    kind: Kind
    spec: str
    sha256: str
    open: Callable[[], Answerer]
    is_local: bool = False
    price: Price | None = None
    recordings: tuple[Recording, ...] = ()

    def covers(self, item: Item) -> bool:
        """Whether it can answer the item at all: a recording only what it holds."""
        return all(recording.covers(item) for recording in self.recordings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where models are looked for, and with what they are asked.

    `find_task` gives the folder of a task's specialist and the policy of its certificate, `accept` the policy of a
    stated certainty. Both come from the command, since this layer does not decide what may be served.
    """

    home: Path = Path()
    large: LargeSettings = field(default_factory=LargeSettings)
    open_encoder: Callable[[], Encoder] | None = None
    find_task: Callable[[str], tuple[Path, Accepts | None]] | None = None
    accept: Callable[[float], Accepts] | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    sampling: Sampling = field(default_factory=Sampling)
    key_env: str = ""


def candidate(text: str, place: Place) -> Candidate:
    """What `text` names. Raises `ConfigError` where it is nothing that answers."""
    alias = _ALIAS.fullmatch(text)
    name, spec = (alias["name"], alias["rest"]) if alias else ("", text)
    if ">" in spec:
        return _cascade(spec, name, place)
    for make in _KINDS:
        found = make(spec, name, place)
        if found is not None:
            return found
    raise ConfigError(
        f"{spec!r} is nothing that answers.",
        hint="Expected: large, URL#model, a recording (FILE or FILE#model), a specialist's folder, a task of the home, "
        "module:function, weights:FOLDER, or two of them as A>B@CERTAINTY.",
    )


def distinct(candidates: list[Candidate]) -> list[Candidate]:
    """The same. Raises `ConfigError` where two carry one name."""
    names = [found.name for found in candidates]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"Two models are called {twice!r}.", hint="Name them: NAME=MODEL.")
    return candidates


def _endpoint(spec: str, name: str, place: Place) -> Candidate | None:
    large = place.large
    if spec == "large" or (large.model and spec == large.model):
        model = large_model(large)
        price = place.prices.get(name or large.model, large.price)
        identity = f"{large.url} {large.model}"
        return Candidate(
            name=name or large.model,
            kind="endpoint",
            spec=spec,
            sha256=sha256(identity.encode()),
            price=price,
            open=lambda: Asked(model, place.sampling, price),
        )
    if not spec.startswith(("http://", "https://")):
        return None
    url, _, served = spec.rpartition("#")
    if not url or not served:
        raise ConfigError(f"The endpoint {spec!r} has no model name.", hint="Write it as URL#model.")
    price = place.prices.get(name or served)
    key = os.environ.get(place.key_env, "").strip() if place.key_env else ""

    def opened() -> Answerer:
        http = HttpModel(url=url, name=served, key=key, timeout_s=large.timeout_s, price=price)
        return Asked(http, place.sampling, price)

    return Candidate(
        name=name or served,
        kind="endpoint",
        spec=spec,
        sha256=sha256(f"{url} {served}".encode()),
        price=price,
        open=opened,
    )


def _specialist(spec: str, name: str, place: Place) -> Candidate | None:
    folder = Path(spec)
    if not (folder / SPECIALIST_CARD).is_file():
        return None
    return _distilled(name or folder.resolve().name, spec, folder, place)


def _task(spec: str, name: str, place: Place) -> Candidate | None:
    if place.find_task is None or "/" in spec or Path(spec).exists():
        return None
    try:
        folder, _ = place.find_task(spec)
    except TaskError:
        return None
    return _distilled(name or spec, spec, folder, place)


def _distilled(name: str, spec: str, folder: Path, place: Place) -> Candidate:
    def opened() -> Answerer:
        assert place.open_encoder is not None
        return Distilled(Specialist.load(folder, place.open_encoder()))

    identity = sha256((folder / SPECIALIST_CARD).read_bytes())
    return Candidate(name=name, kind="specialist", spec=spec, sha256=identity, is_local=True, open=opened)


def _recording(spec: str, name: str, place: Place) -> Candidate | None:
    path, model = (Path(spec), "") if Path(spec).is_file() else _split(spec)
    if not path.is_file():
        return None
    name = name or model or path.name.split(".")[0]
    price = place.prices.get(name)
    recording = read_recording(path, model, price=price)
    return Candidate(
        name=name,
        kind="recording",
        spec=spec,
        sha256=sha256(path.read_bytes() + model.encode()),
        price=price,
        recordings=(recording,),
        open=lambda: recording,
    )


def _split(spec: str) -> tuple[Path, str]:
    path, _, model = spec.partition("#")
    return Path(path), model


def _weights(spec: str, name: str, place: Place) -> Candidate | None:
    source = spec.removeprefix("weights:")
    folder = Path(source)
    if source == spec and not (folder / "config.json").is_file():
        return None

    def opened() -> Answerer:
        # Here, so that nobody needs transformers who compares something else.
        weights = importlib.import_module("pilotfish.models.local_weights")
        return Asked(weights.LocalWeights(source, max_tokens=place.sampling.max_tokens), place.sampling)

    files = sorted(folder.iterdir()) if folder.is_dir() else []
    identity = "".join(f"{path.name} {path.stat().st_size} " for path in files) or source
    return Candidate(
        name=name or folder.name,
        kind="weights",
        spec=spec,
        sha256=sha256(identity.encode()),
        is_local=True,
        open=opened,
    )


def _function(spec: str, name: str, _place: Place) -> Candidate | None:
    if not _FUNCTION.fullmatch(spec):
        return None
    module, _, called = spec.partition(":")
    try:
        function: Any = getattr(importlib.import_module(module), called)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"The function {spec!r} cannot be imported: {error}.") from error
    source = inspect.getsource(inspect.getmodule(function) or function) if inspect.isroutine(function) else spec
    return Candidate(
        name=name or called,
        kind="function",
        spec=spec,
        sha256=sha256(source.encode()),
        is_local=True,
        open=lambda: Called(function),
    )


_KINDS = (_endpoint, _recording, _specialist, _weights, _function, _task)


def _cascade(spec: str, name: str, place: Place) -> Candidate:
    """`A>B@0.9`; without a number A must be a task whose certificate has a policy."""
    parts, _, least = spec.partition("@") if re.search(r"@[\d.]+$", spec) else (spec, "", "")
    first_spec, _, second_spec = parts.partition(">")
    first, second = candidate(first_spec.strip(), place), candidate(second_spec.strip(), place)
    accepts = _accepts(first_spec.strip(), least, place)
    return Candidate(
        name=name or f"{first.name}>{second.name}",
        kind="cascade",
        spec=spec,
        sha256=sha256(f"{first.sha256} {second.sha256} {least}".encode()),
        is_local=first.is_local and second.is_local,
        price=second.price,
        recordings=(*first.recordings, *second.recordings),
        open=lambda: Cascade(first.open(), second.open(), accepts),
    )


def _accepts(first: str, least: str, place: Place) -> Accepts:
    if least:
        assert place.accept is not None
        return place.accept(float(least))
    if place.find_task is not None:
        try:
            _, accepts = place.find_task(first)
        except TaskError:
            accepts = None
        if accepts is not None:
            return accepts
    raise ConfigError(
        f"The cascade from {first!r} has no certainty from which its answers are accepted.",
        hint="Write A>B@CERTAINTY, with a certainty in 0..1; the specialist of a certified task brings its own.",
    )
