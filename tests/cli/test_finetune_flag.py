"""`[learning] finetune` and its flag: when an encoder is tuned, what is told before, and what is served."""

from __future__ import annotations

import importlib.util

import pytest

from pilotfish.cli.main import EXIT_USER
from pilotfish.specialists.card import read_folder
from pilotfish.store.build import open_registry
from tools.gateway import gateway
from tools.served_home import TASK_ID, messages
from tools.upstream import Reply


@pytest.fixture
def distil(tiny, pilotfish, observed):
    def run(*arguments):
        return pilotfish("distil", TASK_ID, "--max-risk", "0.05", "--home", observed, *arguments)

    return run


@pytest.fixture
def without_torch(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "torch" else find(name, *more))


def card_in_force(home):
    registry = open_registry(home)
    record = registry.task(TASK_ID)
    registry.close()
    return read_folder(home / "specialists" / record.specialist_sha256[:16]).card


def test_a_fine_tuned_specialist_is_certified_verified_and_served(distil, pilotfish, observed):
    said = distil("--finetune", "always")
    assert said.code == 0
    assert "Fine-tuning the encoder for" in said.err
    assert "CPU-seconds on this machine" in said.err
    card = card_in_force(observed)
    assert card.students[0] == "cosine head, last 2 layers fine-tuned"
    assert not card.shares_encoder
    assert pilotfish("certify", TASK_ID, "--verify", "--home", observed, "--json").json["verified"]
    # It needs no shared encoder.
    learning = {"encoder": "none"}
    with gateway(observed, [Reply()], quality={"max_risk": 0.05, "audit_rate": 0.0}, learning=learning) as place:
        raw = place.client.chat.completions.with_raw_response.create(
            model="auto", messages=messages("my shirt 77 is green")
        )
        assert raw.headers["x-pilotfish-reason"] == "certified"
        assert raw.parse().choices[0].message.content == "green"


@pytest.mark.parametrize("arguments", [(), ("--finetune", "never")])
def test_a_frozen_one_that_is_good_enough_is_kept(distil, observed, arguments):
    assert "Fine-tuning" not in distil(*arguments).err
    assert card_in_force(observed).shares_encoder


def test_without_torch_auto_goes_on_and_always_names_the_extra(distil, without_torch, observed):
    said = distil("--finetune", "always")
    assert said.code == EXIT_USER
    assert "pilotfish[train]" in said.err
    assert distil().code == 0


def test_a_mode_that_there_is_not_is_an_error(distil, pilotfish, monkeypatch):
    monkeypatch.setenv("PILOTFISH_LEARNING_FINETUNE", "sometimes")
    said = pilotfish("config", "show")
    assert said.code == EXIT_USER
    assert "must be one of auto, never, always" in said.err
