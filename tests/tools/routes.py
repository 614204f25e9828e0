"""A certified route written by hand: what it decides by is one number, so that tests know what it will do."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pilotfish.core.certificate import Certificate, Claim
from pilotfish.routing.gain import Gain
from pilotfish.routing.route import Cost, Route, Step
from pilotfish.store.build import open_routes
from tools.certificates import certificate

THRESHOLD = 0.5


def route(
    *,
    signal: str = "least logprob",
    reads_answer: bool = True,
    own_s: float = 1.0,
    further_s: float | None = None,
    prefix: int = 0,
) -> Route:
    """`small` first, kept where its least likely token has a log-probability of -0.5 at least; then `big`."""
    gain = Gain(signals=(signal,), weights=(1.0,)) if reads_answer else Gain(intercept=0.1)
    step = Step(
        model="small",
        gain=gain,
        reads_answer=reads_answer,
        prefix=prefix,
        cost=Cost(latency_s=own_s),
        further=Cost(latency_s=further_s),
    )
    return Route(steps=(step,), reference="big", threshold=THRESHOLD)


def promise(found: Route, *, margin: float = 0.05, **fields: Any) -> Certificate:
    return certificate(
        task_id="route",
        task_name="small > big",
        claim=Claim(max_risk=margin, per="loss"),
        bound=margin / 2,
        min_certainty=-(THRESHOLD if found.threshold is None else found.threshold),
        min_scope=0.0,
        artefact_sha256=found.id,
        **fields,
    )


def adopt(home: Path, found: Route | None = None, **fields: Any) -> Certificate:
    """Let a route decide in a home."""
    found = found or route()
    made = promise(found, **fields)
    routes = open_routes(home)
    routes.adopt(made, found.to_json())
    routes.close()
    return made


def without_threshold(found: Route) -> Route:
    return dataclasses.replace(found, threshold=None)
