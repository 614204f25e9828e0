"""`pilotfish export` as a user meets it."""

from __future__ import annotations

import json

import pytest

from tools.served_home import TASK_ID


@pytest.mark.usefixtures("tiny")
def test_the_specialist_in_force_is_written(pilotfish, certified, tmp_path):
    said = pilotfish("export", TASK_ID, "--to", tmp_path / "out", "--home", certified, "--json")
    assert (said.code, said.err) == (0, "")
    written = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert said.json["certificate"] == written["id"]
    assert said.json["bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    again = pilotfish("export", TASK_ID, "--to", tmp_path / "out", "--home", certified)
    assert again.code == 2
    assert "Name a new one" in again.err


@pytest.mark.usefixtures("tiny")
def test_nothing_is_written_without_a_certificate(pilotfish, observed, tmp_path):
    pilotfish("tasks", "--home", observed)
    said = pilotfish("export", TASK_ID, "--to", tmp_path / "out", "--home", observed)
    assert (said.code, said.out) == (1, "")
    assert "has no certificate" in said.err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("tiny")
def test_a_page_needs_onnxruntime_web(pilotfish, certified, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = pilotfish("export", TASK_ID, "--to", tmp_path / "out", "--web", "--home", certified)
    assert said.code == 2
    assert "npm install onnxruntime-web" in said.err
