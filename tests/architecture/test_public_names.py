"""The public names are a decision: one is added or removed here as well, and a removal needs a deprecation first."""

from __future__ import annotations

import inspect

import pytest

import pilotfish

NAMES = [
    "Answer",
    "Certificate",
    "ChatRequest",
    "Claim",
    "Encoder",
    "Exchange",
    "Message",
    "ModelError",
    "Options",
    "PilotfishError",
    "Price",
    "RecordedModel",
    "Refusal",
    "ScriptedModel",
    "ServerSettings",
    "Settings",
    "Specialist",
    "Step",
    "Traffic",
    "__version__",
    "backtest",
    "open_encoder",
    "read_traffic",
    "serving",
    "verify",
]


def test_the_public_names_are_these_in_this_order() -> None:
    assert pilotfish.__all__ == NAMES == sorted(NAMES) == dir(pilotfish)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "__version__"])
def test_a_public_name_loads_under_its_own_name_and_says_what_it_is(name: str) -> None:
    found = getattr(pilotfish, name)
    assert found.__name__ == name
    assert inspect.getdoc(found)
    assert found.__module__.startswith("pilotfish.")


def test_any_other_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'backtset'"):
        pilotfish.backtset  # noqa: B018
