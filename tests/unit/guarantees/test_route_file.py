"""The file of a route: it comes back as it went, a route alone is one too, and what is none says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pilotfish.core.errors import DataError, SpecialistError
from pilotfish.core.outcome import Outcome
from pilotfish.guarantees.route_file import RouteFile, fingerprints
from pilotfish.routing.gain import Gain
from pilotfish.routing.route import Route, Step
from tools.certificates import certificate, refusal

ROUTE = Route(
    steps=(Step(model="small", gain=Gain(intercept=0.1), reads_answer=False),), reference="large", threshold=0.2
)


@pytest.mark.parametrize("verdict", [certificate(), refusal(), None], ids=["certified", "refused", "nothing said"])
def test_what_is_saved_is_loaded(tmp_path: Path, verdict: object) -> None:
    kept = RouteFile(
        route=ROUTE, verdict=verdict, workload="help desk", attempts=3, spent_usd=1.5, taught=frozenset(["a"])
    )  # type: ignore[arg-type]
    kept.save(tmp_path / "route.json")
    assert RouteFile.load(tmp_path / "route.json") == kept
    assert [path.name for path in tmp_path.iterdir()] == ["route.json"]


def test_a_route_alone_is_one_of_which_nothing_is_promised(tmp_path: Path) -> None:
    path = tmp_path / "route.json"
    path.write_text(json.dumps(ROUTE.to_json()))
    assert RouteFile.load(path) == RouteFile(route=ROUTE)


def test_a_verdict_that_is_none_says_so(tmp_path: Path) -> None:
    path = tmp_path / "route.json"
    path.write_text(json.dumps({"route": ROUTE.to_json(), "verdict": {"bound": 0.1}}))
    with pytest.raises(SpecialistError, match="says of its route"):
        RouteFile.load(path)


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_what_holds_no_route_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "route.json"
    path.write_text(text)
    with pytest.raises(SpecialistError):
        RouteFile.load(path)
    with pytest.raises(SpecialistError, match="cannot be read"):
        RouteFile.load(tmp_path / "missing.json")


def test_a_file_whose_route_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"route": {**ROUTE.to_json(), "format": "one"}}))
    with pytest.raises(SpecialistError, match=r"old\.json.*no route: TypeError.*Learn it anew"):
        RouteFile.load(path)


def test_outcomes_that_taught_are_known_again_and_others_of_the_same_name_are_not() -> None:
    def of(prompt: str) -> Outcome:
        return Outcome(request_id="1", prompt=prompt, tried={})

    kept = RouteFile(route=ROUTE, taught=fingerprints([of("monday")]))
    assert kept.unseen([of("monday"), of("tuesday")]) == [of("tuesday")]
    assert kept.unseen([]) == []
    with pytest.raises(DataError, match="All 1 outcomes taught"):
        kept.unseen([of("monday")])
