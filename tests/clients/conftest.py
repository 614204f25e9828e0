"""What the clients' tests share: gateways as in tests/gateway, with one learnt specialist in the home of some."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tools.gateway import Place, gateway
from tools.served_home import Learnt, adopt, learn


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What other people's clients warn of is theirs to mend."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))


Serve = Callable[..., AbstractContextManager[Place]]


@pytest.fixture(scope="session")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    return learn(tmp_path_factory.mktemp("learnt"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def serve(home: Path, learnt: Learnt, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """A gateway whose task `colours` is answered locally."""
    monkeypatch.setenv("PILOTFISH_CACHE", str(learnt.folder / "cache"))
    shutil.copytree(learnt.folder / "specialists", home / "specialists")
    adopt(learnt, home)
    settings = {"max_risk": 0.05, "audit_rate": 0.0}
    return partial(gateway, home, quality=settings, learning={"encoder": learnt.encoder})
