"""`pilotfish demo`: the real gateway, its log and the official client, on the bundled traffic."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilotfish.cli.main import EXIT_USER
from pilotfish.core.errors import UserError
from pilotfish.students.encoder_cache import open_encoder

pytest.importorskip("openai", reason="the demo drives the gateway with the official client")


@pytest.fixture(scope="module")
def default_encoder(tmp_path_factory):
    """The default encoder, built once, where its weights are installed."""
    cache = Path(os.environ.get("PILOTFISH_CACHE") or tmp_path_factory.mktemp("cache"))
    try:
        open_encoder(cache)
    except UserError as error:
        pytest.skip(str(error))
    return cache


def test_the_demo_runs_the_gateway_and_reports(pilotfish, default_encoder, monkeypatch, tmp_path):
    monkeypatch.setenv("PILOTFISH_CACHE", str(default_encoder))
    said = pilotfish("demo", "--requests", "300", "--json", "--home", tmp_path / "home")
    assert (said.code, said.err) == (0, "")
    found = said.json
    assert found["requests"] == 300
    assert {"promise", "tasks", "served", "disagreement", "controls", "cost_usd"} <= set(found)
    assert found["client_latency_ms"]["reference"]["n"] == 300
    assert found["pretended_delay_ms"] > 0
    assert found["cost_usd"]["spent"] > 0
    assert sum(task["requests"] for task in found["tasks"]) <= 300
    assert pilotfish("tasks", "--json", "--home", tmp_path / "home").json["requests"] == 300
    (row,) = pilotfish("log", "list", "-n", "1", "--json", "--home", tmp_path / "home").json
    assert pilotfish("explain", row["request_id"], "--home", tmp_path / "home").code == 0


def test_the_demo_needs_a_folder_of_its_own(pilotfish, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "diary.txt").write_text("mine")
    said = pilotfish("demo", "--home", tmp_path / "home")
    assert said.code == EXIT_USER
    assert "is not empty" in said.err
    assert (tmp_path / "home" / "diary.txt").read_text() == "mine"
