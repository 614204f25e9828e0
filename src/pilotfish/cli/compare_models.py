"""Where `compare` finds models, and with which policy a cascade accepts: the wiring that only a command may do.

A task of the home brings its specialist and its certificate's gates; a stated certainty makes gates of its own. Both go
through the one policy object that serves live.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from pilotfish.cli import options
from pilotfish.cli.options import find_task
from pilotfish.config import load
from pilotfish.config.settings import Settings
from pilotfish.core.errors import ConfigError, TaskError
from pilotfish.evals.answerers import Sampling
from pilotfish.evals.candidates import FoundTask, Place, candidate
from pilotfish.evals.judge import PROMPT_SHA256, judge
from pilotfish.evals.late_scores import LateScorer
from pilotfish.evals.money import read_price
from pilotfish.routing.policy import Gates, Policy, policy_of
from pilotfish.store.home import open_home


def place_of(settings: Settings, flags: dict[str, Any]) -> Place:
    """Where models are looked for. Raises `ConfigError` where a price cannot be read."""
    return Place(
        home=load.home(settings),
        settings=settings,
        open_encoder=lambda: options.encoder_from(settings),
        find_task=lambda name: _task(load.home(settings), name),
        gate=lambda least: Policy(Gates(min_certainty=least, min_scope=-math.inf)),
        prices={name: read_price(name, text) for name, text in flags["prices"]},
        sampling=Sampling(
            temperature=flags["temperature"], max_tokens=flags["max_tokens"], wants_certainty=flags["logprobs"]
        ),
        key_env=flags["key_env"],
    )


def judge_of(spec: str, place: Place) -> tuple[str, LateScorer]:
    """The name and the scorer of a model that judges, whose answers are as long as it likes, whoever is compared."""
    found = candidate(spec, replace(place, sampling=Sampling()))
    if found.kind not in ("endpoint", "weights", "function"):
        raise ConfigError(
            f"{spec!r} cannot judge: it is a {found.kind}.",
            hint="Expected a model that reads any prompt: large, URL#model, weights or module:function.",
        )
    return f"judge {spec}, question {PROMPT_SHA256[:8]}", judge(found.open)


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
