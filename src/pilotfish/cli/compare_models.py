"""Where `compare` finds models, and with which policy a cascade accepts: the wiring that only a command may do.

A task of the home brings its specialist and its certificate's gates; a stated certainty makes gates of its own. Both go
through the one policy object that serves live.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pilotfish.cli.options import find_task
from pilotfish.config import load
from pilotfish.config.settings import Settings
from pilotfish.core.errors import ConfigError, ModelError, TaskError
from pilotfish.core.item import Item
from pilotfish.core.messages import Message, Price
from pilotfish.evals.answerers import Sampling
from pilotfish.evals.candidates import FoundTask, Place, candidate
from pilotfish.routing.policy import Gates, Policy, policy_of
from pilotfish.specialists.encoder import Encoder
from pilotfish.store.home import open_home


def place_of(settings: Settings, flags: dict[str, Any]) -> Place:
    """Where models are looked for. Raises `ConfigError` where a price cannot be read."""

    def open_encoder() -> Encoder:
        from pilotfish.students.encoder_cache import open_encoder

        return open_encoder(load.cache(), settings.learning.encoder)

    return Place(
        home=load.home(settings),
        settings=settings,
        open_encoder=open_encoder,
        find_task=lambda name: _task(load.home(settings), name),
        gate=lambda least: Policy(Gates(min_certainty=least, min_scope=-math.inf)),
        prices={name: _price(name, text) for name, text in flags["prices"]},
        sampling=Sampling(
            temperature=flags["temperature"], max_tokens=flags["max_tokens"], wants_certainty=flags["logprobs"]
        ),
        key_env=flags["key_env"],
    )


def judge_of(spec: str, place: Place) -> Callable[[str], str]:
    """A function that puts a prompt to an endpoint. What the judge fails to answer cannot be read, and is counted."""
    found = candidate(spec, place)
    if found.kind != "endpoint":
        raise ConfigError(f"The judge {spec!r} is no endpoint.", hint="Expected: large, or URL#model.")

    async def asked(item: Item) -> str:
        answerer = candidate(spec, place).open()
        try:
            return (await answerer.ask(item, 0, time.perf_counter())).answer
        except ModelError:
            return ""
        finally:
            await answerer.aclose()

    def ask(prompt: str) -> str:
        item = Item(id="", messages=[Message(role="user", content=prompt)], expected=None, tags={})
        return asyncio.run(asked(item))

    return ask


def _task(home: Path, name: str) -> FoundTask:
    """The folder of a task's specialist, and the policy of its certificate where it has one."""
    if not home.is_dir():
        raise TaskError(f"There is no task {name!r}: there is no home yet.")
    opened = open_home(home)
    record = find_task(opened.registry, name)
    if not record.specialist_sha256:
        raise ConfigError(f"The task {name!r} has no specialist.", hint="Learn one: pilotfish distil.")
    certificate = opened.registry.certificate(record.certificate_id) if record.certificate_id else None
    folder = opened.specialists / record.specialist_sha256[:16]
    if certificate is None:
        return FoundTask(folder, None, has_first_tier=False)
    return FoundTask(folder, policy_of(certificate), has_first_tier=certificate.first is not None)


def _price(name: str, text: str) -> Price:
    amounts, _, source = text.partition("@")
    each, _, answer = amounts.partition("/")
    try:
        return Price(input_usd_per_mtok=float(each), output_usd_per_mtok=float(answer or each), source=source)
    except ValueError as error:
        raise ConfigError(
            f"The price of {name!r} is {text!r}.",
            hint="Write IN/OUT@SOURCE AND DATE, in US dollars per million tokens.",
        ) from error
