"""The reader's place: a folder with traffic, a home learnt from it, and a gateway in front of that home."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pilotfish.cli.main import root
from pilotfish.config.settings import LargeSettings, LearningSettings, QualitySettings, ServerSettings, Settings
from pilotfish.gateway.serve import serving
from pilotfish.models.scripted import ScriptedModel
from tools.documented import TASK, Place, record
from tools.outcomes import outcomes, write
from tools.tiny_models import open_tiny_encoder


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("docs")
    open_tiny_encoder(folder)
    cache, encoder, home = folder / "cache", str(folder / "tiny-bert"), folder / "home"
    last = record(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PILOTFISH_CACHE", str(cache))
        patch.setenv("PILOTFISH_LEARNING_ENCODER", encoder)
        command = ["distil", TASK, "--max-risk", "0.1", "--home", str(home)]
        learnt = CliRunner().invoke(root, command, standalone_mode=False)
        assert learnt.return_value == 0, (learnt.output, learnt.exception)
        settings = Settings(
            home=str(home),
            server=ServerSettings(port=0),
            large=LargeSettings(model="large-model"),
            quality=QualitySettings(max_risk=0.1),
            learning=LearningSettings(encoder=encoder, check_every_s=0.2, first_after=10_000_000),
        )
        with serving(settings, reference=ScriptedModel(["greeting"], name="large-model")) as port:
            yield Place(folder, cache, encoder, port, last)


@pytest.fixture
def at_place(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Working in a fresh folder with the traffic file and an article, as the reader of a page does."""
    shutil.copy(place.folder / "my-traffic.jsonl", tmp_path)
    write(tmp_path / "my-outcomes.jsonl", outcomes(400, gap=0.15))
    (tmp_path / "my-article.md").write_text("Phi-2 has 270 million parameters.\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PILOTFISH_HOME", str(place.folder / "home"))
    monkeypatch.setenv("PILOTFISH_CACHE", str(place.cache))
    monkeypatch.setenv("PILOTFISH_LEARNING_ENCODER", place.encoder)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    return place
