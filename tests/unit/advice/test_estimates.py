"""What nobody measured is estimated, named and never chosen."""

from __future__ import annotations

import pytest

from pilotfish.advice.advise import Sources, advise
from pilotfish.advice.estimates import Terms, inspected, of_catalogue
from pilotfish.advice.needs import Needs, Stated
from pilotfish.advice.tables import headline, next_sentences, tables
from pilotfish.config.settings import LargeSettings, ModelSettings, Settings
from pilotfish.core.errors import UserError
from pilotfish.core.messages import Price
from pilotfish.sizing.catalogue import catalogue
from pilotfish.sizing.machine import Speed
from pilotfish.sizing.sources import from_entry

TERMS = Terms(tokens=(400.0, 20.0), speed=Speed(bandwidth=2e10, method="stated", measured="stated"))
SETTINGS = Settings(
    large=LargeSettings(url="https://api.example/v1", model="large", input_usd_per_mtok=2.0, output_usd_per_mtok=10.0),
    models={
        "cheap": ModelSettings(url="https://api.example/v1", input_usd_per_mtok=0.2, output_usd_per_mtok=1.0),
        "unpriced": ModelSettings(url="https://other.example/v1"),
        "inside": ModelSettings(url="http://10.0.0.7/v1", local=True),
    },
)


def told(needs: Needs, **fields):
    return advise(needs, Sources(settings=SETTINGS, terms=TERMS, **fields))


def test_what_is_only_configured_is_not_chosen_but_worth_measuring():
    found = told(Needs(volume=1000.0, memory=8e9))
    assert found.decision.chosen is None
    words = {row.option.name: row.option.judged.word for row in found.decision.judgements}
    assert words == {
        "large": "not measured",
        "cheap": "not measured",
        "unpriced": "not measured",
        "inside": "not measured",
    }
    assert "nothing that keeps the constraints is shown to be good enough" in headline(found)[0]
    assert found.decision.of("unpriced").unknown == (
        "no price (--price NAME=IN/OUT@SOURCE, or --rent where it runs on a machine of yours)",
    )
    assert found.decision.of("cheap").cost.is_estimate
    # What is in the way of any answer goes first: the machine's price, the missing prices.
    assert next_sentences(found)[0].startswith("Find out about")
    assert any("pilotfish compare large cheap --on DATA" in step.command for step in found.steps)


def test_an_undisclosed_model_gets_no_number_and_a_shape_gets_estimates():
    undisclosed = inspected(from_entry(catalogue().find("gpt-4o")), "gpt-4o", Needs(), TERMS)
    assert (undisclosed.where, undisclosed.memory.value, undisclosed.latency.value) == ("remote", None, None)
    priced = Needs(stated={"gpt-4o": Stated(price=Price(input_usd_per_mtok=1.0, output_usd_per_mtok=5.0))})
    assert inspected(from_entry(catalogue().find("gpt-4o")), "gpt-4o", priced, TERMS).usd_per_call.is_estimate
    small = inspected(from_entry(catalogue().find("qwen2.5-0.5b")), "q", Needs(), TERMS)
    assert small.memory.measured.value is None
    assert 0.3e9 < small.memory.estimate.value < 0.5e9
    # 20 tokens, each of which reads the weights once.
    assert small.latency.estimate.value == pytest.approx(20 * 0.302e9 / 2e10, rel=0.1)


def test_of_the_catalogue_the_largest_that_no_constraint_excludes_are_named():
    found = told(Needs(volume=10.0, memory=8e9, machine=0.1, max_latency=3.0))
    assert len(found.unmeasured) == 3
    sizes = [row.option.parameters for row in found.unmeasured]
    assert sizes == sorted(sizes, reverse=True)
    every = of_catalogue(Needs(), TERMS, ())
    fits = [o for o in every if o.memory.value <= 8e9 and o.latency.value <= 3.0]
    assert sizes == sorted((o.parameters for o in fits), reverse=True)[:3]
    assert found.catalogue["memory"] == sum(o.memory.value > 8e9 for o in every)


def test_measurements_and_estimates_share_no_column():
    found = told(Needs(volume=1000.0, memory=8e9, machine=0.2))
    table = next(table for table in tables(found) if table.title.startswith("Options"))
    assert "USD/1,000 calls (estimate)" in table.columns
    assert "USD/1,000 calls" not in table.columns
    row = {row["name"]: row for row in found.to_json()["options"]}["cheap"]
    assert row["measured"]["usd_per_call"]["value"] is None
    assert row["estimate"]["usd_per_call"]["value"] == pytest.approx((400 * 0.2 + 20 * 1.0) / 1e6)


def test_nothing_to_choose_from_says_what_to_do():
    with pytest.raises(UserError, match="nothing to choose from"):
        advise(Needs(volume=1.0), Sources(settings=Settings(), terms=TERMS))
    with pytest.raises(UserError, match="How many requests"):
        told(Needs())
