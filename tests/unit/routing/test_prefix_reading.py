"""How many tokens of an answer decide: as few as tell, all where only the whole of it does."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from pilotfish.core.certificate import Claim
from pilotfish.guarantees.route_attempt import Wanted, attempt_route, trails
from pilotfish.routing.learn import Material
from pilotfish.routing.prefix import LENGTHS, learn_reading
from pilotfish.routing.route import Route
from tools.outcomes import outcomes

N_TOKENS = 20


def told(first: int, last: int, n: int = 150) -> Material:
    """Outcomes whose answers show their doubt in the tokens from `first` to `last`, and chance in the others."""
    source = random.Random(1)
    found = []
    for outcome in outcomes(n, seed=3):
        small = outcome.tried["small"]
        shown = small.logprobs[-1]
        logprobs = tuple(shown if first <= i < last else -source.random() for i in range(N_TOKENS))
        small = replace(small, logprobs=logprobs, tokens=("a",) * N_TOKENS, text="a" * N_TOKENS)
        found.append(replace(outcome, tried={**outcome.tried, "small": small}))
    return Material(outcomes=found, smaller="small", larger="large")


@pytest.mark.parametrize(("first", "last", "read"), [(0, 4, 4), (14, 20, 0)])
def test_as_many_tokens_are_read_as_it_takes(first: int, last: int, read: int) -> None:
    n_tokens, learnt = learn_reading(told(first, last))
    assert (n_tokens, learnt.gain is not None) == (read, True)


def test_where_nothing_tells_nothing_is_learnt_and_every_look_counts() -> None:
    n_tokens, learnt = learn_reading(told(0, 0))
    assert (n_tokens, learnt.gain) == (0, None)


def test_without_log_probabilities_the_whole_answer_decides_even_where_a_prefix_is_wished() -> None:
    material = told(0, 4)
    small = replace(material.outcomes[0].tried["small"], logprobs=(), tokens=())
    first = replace(material.outcomes[0], tried={**material.outcomes[0].tried, "small": small})
    assert learn_reading(replace(material, outcomes=[first, *material.outcomes[1:]]), 8)[0] == 0


def test_the_certificate_is_about_the_decision_on_the_first_tokens() -> None:
    material = told(0, 4, 500)
    claim = Claim(max_risk=0.2, per="loss")
    made = attempt_route(material.outcomes, Wanted(models=("small", "large"), claim=claim))
    route = made.route
    assert route.steps[0].prefix in LENGTHS
    assert route.threshold is not None
    assert Route.from_json(route.to_json()) == route
    # Another length would be another route, and its certificate void.
    assert replace(route, steps=(replace(route.steps[0], prefix=16),)).id != route.id
    for row, outcome in zip(trails(route, made.calibration), made.calibration, strict=True):
        begun = outcome.tried["small"].begun(route.steps[0].prefix)
        live = route.after(0, replace(outcome, tried={}), begun)
        assert (live.need, live.why == "kept") == (row.needs[0], row.place(route.threshold) == 0)
