"""From what a user writes to something that answers: `[NAME=]MODEL`, and `A>B` for a cascade of two.

MODEL is an endpoint (`large`, or URL#model), a specialist (its folder, or a task of the home), a recording (FILE, or
FILE#model), a function (`module:function`), or weights in this process (`weights:FOLDER`, a folder with a
`config.json`, or a file called `*.gguf`). Nothing heavy is loaded here: a candidate opens when its turn comes, so that
memory is its own.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pilotfish.config.settings import ModelSettings, Settings
from pilotfish.core.errors import ConfigError, TaskError
from pilotfish.core.ids import sha256
from pilotfish.core.item import Item
from pilotfish.core.messages import Price
from pilotfish.evals.answerers import Answerer, Asked, Called, Cascade, Distilled, Gate, Sampling
from pilotfish.evals.recordings import Recording, read_recording
from pilotfish.models.build import configured_model, large_model
from pilotfish.models.http import HttpModel
from pilotfish.specialists.card import NAME as SPECIALIST_CARD
from pilotfish.specialists.load import load

if TYPE_CHECKING:  # without an encoder nothing of what runs one is installed
    from pilotfish.specialists.encoder import Encoder

Kind = Literal["endpoint", "specialist", "recording", "function", "weights", "cascade"]

FIRST_TIER = "first-tier:"

_HASHED_BYTES = 1 << 24

_ALIAS = re.compile(r"(?P<name>[\w.+-]+)=(?P<rest>.+)", re.DOTALL)
_SUFFIXES = re.compile(r"(\.(jsonl?|csv|tsv|log|eval|gz))+$")
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


class FoundTask(NamedTuple):
    """A task's specialist, and the policy of its certificate where it has one."""

    folder: Path
    gate: Gate | None
    has_first_tier: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where models are looked for, and with what they are asked.

    `find_task` gives a task's specialist with the policy of its certificate, `gate` the policy of a stated certainty.
    Both come from the command, since this layer does not decide what may be served.
    """

    home: Path = Path()
    settings: Settings = field(default_factory=Settings)
    open_encoder: Callable[[], Encoder | None] | None = None
    find_task: Callable[[str], FoundTask] | None = None
    gate: Callable[[float], Gate] | None = None
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
        "module:function, weights:FOLDER, a .gguf file, or two of them as A>B@CERTAINTY.",
    )


def distinct(candidates: list[Candidate]) -> list[Candidate]:
    """The same. Raises `ConfigError` where two carry one name."""
    names = [found.name for found in candidates]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"Two models are called {twice!r}.", hint="Name them: NAME=MODEL.")
    return candidates


def _endpoint(spec: str, name: str, place: Place) -> Candidate | None:
    configured = _configured(spec, name, place)
    if configured is not None or not spec.startswith(("http://", "https://")):
        return configured
    url, _, served = spec.rpartition("#")
    if not url or not served:
        raise ConfigError(f"The endpoint {spec!r} has no model name.", hint="Write it as URL#model.")
    price = place.prices.get(name or served)
    key = os.environ.get(place.key_env, "").strip() if place.key_env else ""

    def opened() -> Answerer:
        http = HttpModel(url=url, name=served, key=key, timeout_s=place.settings.large.timeout_s)
        return Asked(http, place.sampling, price)

    return Candidate(
        name=name or served,
        kind="endpoint",
        spec=spec,
        sha256=sha256(f"{url} {served}".encode()),
        price=price,
        open=opened,
    )


def _configured(spec: str, name: str, place: Place) -> Candidate | None:
    """The large model, or one of [models.NAME]."""
    large = place.settings.large
    settings: ModelSettings
    if spec == "large" or (large.model and spec == large.model):
        known, settings = large.model, large
    elif spec in place.settings.models:
        known, settings = spec, place.settings.models[spec]
    else:
        return None
    price = place.prices.get(name or known, settings.price)
    if settings.weights:
        return Candidate(
            name=name or known,
            kind="weights",
            spec=spec,
            sha256=_weights_sha256(settings.weights),
            price=price,
            is_local=True,
            open=lambda: Asked(configured_model(known, settings, client_url=""), place.sampling, price),
        )
    model = large_model(large) if settings is large else configured_model(spec, settings, client_url=large.url)
    return Candidate(
        name=name or known,
        kind="endpoint",
        spec=spec,
        sha256=sha256(f"{settings.url} {settings.model or known}".encode()),
        price=price,
        open=lambda: Asked(model, place.sampling, price),
    )


def _specialist(spec: str, name: str, place: Place) -> Candidate | None:
    """A specialist's folder or task; `first-tier:` before it means its n-gram tier alone."""
    only_first = spec.startswith(FIRST_TIER)
    bare = spec.removeprefix(FIRST_TIER)
    folder = Path(bare)
    if (folder / SPECIALIST_CARD).is_file():
        known, gate = folder.resolve().name, None
    else:
        found = _task(bare, place)
        if found is None:
            return None
        known, folder = bare, found.folder
        gate = found.gate if found.has_first_tier else None

    def opened() -> Answerer:
        assert place.open_encoder is not None
        return Distilled(load(folder, place.open_encoder()), gate, only_first=only_first)

    identity = sha256((folder / SPECIALIST_CARD).read_bytes() + spec[: len(FIRST_TIER) * only_first].encode())
    return Candidate(name=name or known, kind="specialist", spec=spec, sha256=identity, is_local=True, open=opened)


def _task(name: str, place: Place) -> FoundTask | None:
    if place.find_task is None or "/" in name or Path(name).exists():
        return None
    try:
        return place.find_task(name)
    except TaskError:
        return None


def _recording(spec: str, name: str, place: Place) -> Candidate | None:
    path, model = (Path(spec), "") if Path(spec).is_file() else _split(spec)
    if not path.is_file():
        return None
    name = name or model or _SUFFIXES.sub("", path.name)
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

    return Candidate(
        name=name or folder.name,
        kind="weights",
        spec=spec,
        sha256=_weights_sha256(source),
        is_local=True,
        open=opened,
    )


def _gguf(spec: str, name: str, place: Place) -> Candidate | None:
    path = Path(spec.removeprefix("weights:"))
    if path.suffix != ".gguf" or not path.is_file():
        return None
    name = name or path.stem

    def opened() -> Answerer:
        gguf = importlib.import_module("pilotfish.models.local_gguf")
        return Asked(gguf.LocalGguf(path, name=name), place.sampling)

    identity = _weights_sha256(str(path))
    return Candidate(name=name, kind="weights", spec=spec, sha256=identity, is_local=True, open=opened)


def _weights_sha256(source: str) -> str:
    """Of a file's beginning and size; of the names and sizes of the files in a folder; of a hub id itself."""
    folder = Path(source)
    if folder.is_file():
        with folder.open("rb") as file:
            head = file.read(_HASHED_BYTES)  # names and shapes of all tensors; the rest may be many gigabytes
        return sha256(head + str(folder.stat().st_size).encode())
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    identity = "".join(f"{path.name} {path.stat().st_size} " for path in files) or source
    return sha256(identity.encode())


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


_KINDS = (_endpoint, _gguf, _recording, _specialist, _weights, _function)


def _cascade(spec: str, name: str, place: Place) -> Candidate:
    """`A>B@0.9`; without a number A must be a task whose certificate has a policy."""
    parts, _, least = spec.partition("@") if re.search(r"@[\d.]+$", spec) else (spec, "", "")
    first_spec, _, second_spec = parts.partition(">")
    # An endpoint that goes first must say how certain it is.
    telling = replace(place, sampling=replace(place.sampling, wants_certainty=True))
    first, second = candidate(first_spec.strip(), telling), candidate(second_spec.strip(), place)
    gate = _gate(first_spec.strip(), least, place)
    return Candidate(
        name=name or f"{first.name}>{second.name}",
        kind="cascade",
        spec=spec,
        sha256=sha256(f"{first.sha256} {second.sha256} {least}".encode()),
        is_local=first.is_local and second.is_local,
        price=second.price,
        recordings=(*first.recordings, *second.recordings),
        open=lambda: Cascade(first.open(), second.open(), gate),
    )


def _gate(first: str, least: str, place: Place) -> Gate:
    if least:
        assert place.gate is not None
        return place.gate(float(least))
    found = _task(first, place)
    if found is not None and found.gate is not None:
        return found.gate
    raise ConfigError(
        f"The cascade from {first!r} has no certainty from which its answers are accepted.",
        hint="Write A>B@CERTAINTY, with a certainty in 0..1; the specialist of a certified task brings its own.",
    )
