"""What the gateway's tests share: one learnt specialist, and homes to put it in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pilotfish.gateway import local
from pilotfish.models import failover
from tools.served_home import Learnt, learn

DEADLINE_S = local.DEADLINE_S
ROUNDS_S = failover._ROUNDS_S


@pytest.fixture(scope="session")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    return learn(tmp_path_factory.mktemp("learnt"))


@pytest.fixture
def deadline_s(monkeypatch: pytest.MonkeyPatch) -> float:
    """What a local answer may take, as it really is: asked for by tests of what comes too late."""
    monkeypatch.setattr(local, "DEADLINE_S", DEADLINE_S)
    return DEADLINE_S


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everywhere else a busy machine must not make an answer late."""
    monkeypatch.setattr(local, "DEADLINE_S", 10.0)


@pytest.fixture
def rounds_s(monkeypatch: pytest.MonkeyPatch) -> tuple[float, ...]:
    """The pauses between rounds of all servers, as they really are: asked for by tests of what happens in one."""
    monkeypatch.setattr(failover, "_ROUNDS_S", ROUNDS_S)
    return ROUNDS_S


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many rounds of all servers as there really are, sooner; their pauses are tests/unit/models' business."""
    monkeypatch.setattr(failover, "_ROUNDS_S", tuple(pause_s / 20 for pause_s in ROUNDS_S))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def served_home(home: Path, learnt: Learnt, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that holds the learnt specialist, not yet in its registry."""
    monkeypatch.setenv("PILOTFISH_CACHE", str(learnt.folder / "cache"))
    shutil.copytree(learnt.folder / "specialists", home / "specialists")
    return home
