"""A verifier's word is a signal of that very model: outcomes name it, and so does a route that reads it."""

from __future__ import annotations

from dataclasses import replace

from pilotfish.cli.main import EXIT_USER
from pilotfish.core.outcome import Outcome
from pilotfish.guarantees.route_file import RouteFile
from tools.outcomes import outcomes, write


def verified(found: list[Outcome], by: str, *, backwards: bool = False) -> list[Outcome]:
    """A verifier sees what log-probabilities showed, or the contrary."""
    told = []
    for one in found:
        sure = 1.0 + one.tried["small"].logprobs[1] / 1.1
        small = replace(
            one.tried["small"],
            logprobs=(),
            tokens=(),
            verifier=1.0 - sure if backwards else sure,
            verified_by=by,
        )
        told.append(replace(one, tried={**one.tried, "small": small}))
    return told


def test_a_route_names_the_verifier_it_was_proven_with(pilotfish, tmp_path):
    file, route = write(tmp_path / "o.jsonl", verified(outcomes(400), "judge")), tmp_path / "route.json"
    said = pilotfish("route", "train", file, "--out", route, "--margin", "0.1")
    assert said.code == 0, said.out
    assert "The verifier is judge" in said.out
    kept = RouteFile.load(route).route
    assert (kept.steps[0].gain.signals, kept.steps[0].verifier) == (("verifier",), "judge")
    # Another verifier's word is nothing that the route could read.
    other = replace(kept, steps=(replace(kept.steps[0], verifier="other"),))
    assert other.id != kept.id
    outcome = verified(outcomes(1, seed=3), "judge")[0]
    assert kept.need(0, outcome, outcome.tried["small"]) is not None
    assert other.need(0, outcome, outcome.tried["small"]) is None
    for command in ("evaluate", "simulate"):
        news = verified(outcomes(40, seed=1), "judge") + verified(outcomes(9, seed=2), "another")
        said = pilotfish("route", command, route, "--on", write(tmp_path / "new.jsonl", news))
        assert "9 outcomes were verified by another model than judge, and are left out." in said.out
        said = pilotfish("route", command, route, "--on", write(tmp_path / "new.jsonl", news[40:]))
        assert (said.code, "another model has verified all these outcomes" in said.err) == (EXIT_USER, True)
        said = pilotfish(
            "route", command, route, "--on", write(tmp_path / "new.jsonl", verified(outcomes(40, seed=1), ""))
        )
        assert "left out" not in said.out


def test_where_outcomes_name_several_the_word_of_the_most_is_read_and_proves(pilotfish, tmp_path):
    found = outcomes(800)
    mixed = verified(found[:784], "judge") + verified(found[784:], "another", backwards=True)
    file, route = write(tmp_path / "o.jsonl", mixed), tmp_path / "route.json"
    assert pilotfish("route", "train", file, "--out", route, "--margin", "0.1").code == 0
    kept = RouteFile.load(route)
    assert kept.route.steps[0].verifier == "judge"
    proving = kept.unseen(mixed)
    n_other = sum(one.tried["small"].verified_by == "another" for one in proving)
    assert n_other > 0
    assert kept.verdict.n == len(proving) - n_other


def test_a_first_look_reads_no_two_verifiers_as_one(pilotfish, tmp_path):
    found = outcomes(400)
    for n, is_read in ((396, True), (300, False)):
        mixed = verified(found[:n], "judge") + verified(found[n:], "another")
        said = pilotfish("route", "evaluate", "--on", write(tmp_path / "o.jsonl", mixed), "--json")
        names = [one["name"] for one in said.json["rankings"]]
        # A signal is used where it is known of 95 % of the outcomes.
        assert any(name.startswith("learnt from the answer") for name in names) == is_read, names


def test_outcomes_that_name_no_verifier_are_read_as_before(pilotfish, tmp_path):
    file, route = write(tmp_path / "o.jsonl", verified(outcomes(400), "")), tmp_path / "route.json"
    said = pilotfish("route", "train", file, "--out", route, "--margin", "0.1")
    assert (said.code, "The verifier is" in said.out) == (0, False)
    step = RouteFile.load(route).route.to_json()["steps"][0]
    assert (step["gain"]["signals"], "verifier" in step) == (("verifier",), False)
