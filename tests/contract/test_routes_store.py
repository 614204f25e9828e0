"""The promises of `Routes`: the route adopted last decides until it is withdrawn, and none comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotfish.core.errors import StoreError
from pilotfish.routing.route import Route
from pilotfish.store.base import Routes
from pilotfish.store.build import open_registry, open_routes
from tools.routes import promise, route

FIRST, SECOND = route(), route(further_s=1.0)


@pytest.fixture
def routes(home: Path) -> Iterator[Routes]:
    opened = open_routes(home)
    yield opened
    opened.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def state_of(routes: Routes) -> dict[str, Any] | None:
    newest = routes.newest()
    return None if newest is None else newest.audit_state


def test_the_newest_is_in_force_and_a_withdrawn_one_lets_no_older_one_back(routes: Routes, home: Path) -> None:
    assert routes.newest() is None
    first, second = promise(FIRST), promise(SECOND, attempt=2)
    routes.adopt(first, FIRST.to_json())
    version = routes.version()
    with pytest.raises(StoreError, match="had 1 attempts here"):
        routes.adopt(promise(SECOND), SECOND.to_json())
    routes.adopt(second, SECOND.to_json())
    assert routes.version() > version
    newest = routes.newest()
    assert newest is not None
    assert (newest.certificate, Route.from_json(newest.route), newest.withdrawn_s) == (second, SECOND, None)
    assert routes.withdraw(second.id, "It lost.")
    assert not routes.withdraw(second.id, "Again.")
    newest = routes.newest()
    assert newest is not None
    assert newest.withdrawn_s is not None
    for made, found in ((first, FIRST), (second, SECOND)):
        with pytest.raises(StoreError, match="void"):
            routes.adopt(made, found.to_json())
    registry = open_registry(home)
    event = registry.events()[0]
    assert (event.kind, event.message, event.task_id) == ("withdrawn", "It lost.", "route")
    assert registry.certificate(second.id) == second
    registry.close()


def test_audits_go_on_through_another_adoption_and_end_with_the_route(routes: Routes) -> None:
    certificate = promise(FIRST)
    routes.adopt(certificate, FIRST.to_json())
    for _ in range(2):
        routes.change_audit(certificate.id, lambda state: {"n": (state or {"n": 0})["n"] + 1})
    routes.adopt(certificate, FIRST.to_json())
    assert state_of(routes) == {"n": 2}
    routes.withdraw(certificate.id, "")
    routes.change_audit(certificate.id, lambda state: {"n": 9})
    assert state_of(routes) == {"n": 2}
