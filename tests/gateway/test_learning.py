"""The background learner: from observed traffic to local answers, by the real subprocess."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from pilotfish.guarantees.pace import NEW_ANSWERS, Pace
from pilotfish.store.build import open_registry
from tools.gateway import Place, gateway
from tools.served_home import TASK_ID, Learnt, adopt, messages, sentences
from tools.upstream import Asked, Reply


def colour_of(asked: Asked) -> Reply:
    text = asked.json["messages"][-1]["content"]
    return Reply(text=next(colour for colour in ("red", "green", "blue") if colour in text))


def ask(place: Place, text: str) -> str:
    raw = place.client.chat.completions.with_raw_response.create(model="auto", messages=messages(text))  # type: ignore[arg-type]
    return raw.headers["x-pilotfish-reason"]


def status(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = place.client.with_options(base_url=f"http://127.0.0.1:{place.port}").get(
        "/pilotfish/status", cast_to=dict[str, Any]
    )
    return found


def wait_for_runs(place: Place, n: int) -> None:
    deadline_s = time.monotonic() + 120
    while status(place)["learner"]["runs"] < n:
        assert time.monotonic() < deadline_s, "nothing was learnt"
        time.sleep(0.05)


@pytest.fixture
def learning(learnt: Learnt) -> dict[str, object]:
    return {"encoder": learnt.encoder, "check_every_s": 0.05, "first_after": 150}


def test_what_was_observed_is_learnt_and_then_served(
    home: Path, learnt: Learnt, learning: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTFISH_CACHE", str(learnt.folder / "cache"))
    # The tiny encoder is untrained, so the promise asked for is one it can keep.
    quality: dict[str, object] = {"max_risk": 0.4, "confidence": 0.6, "audit_rate": 0.0}
    with gateway(home, colour_of, quality=quality, learning=learning) as place:
        for text, _ in sentences(160, seed=3):
            assert ask(place, text) == "observing"
        wait_for_runs(place, 1)
        registry = open_registry(home)
        record = registry.task(TASK_ID)
        registry.close()
        assert record is not None
        assert status(place)["learner"]["progress"] != {}
        assert record.mode == "serve"
        assert "certified" in {ask(place, text) for text, _ in sentences(20, seed=4)}


def test_a_new_answer_starts_learning_before_the_log_has_grown(
    served_home: Path, learnt: Learnt, learning: dict[str, object]
) -> None:
    """Twenty answers, deferred ones here, of one value that the specialist does not know."""
    home = served_home
    adopt(learnt, home)
    pace = Pace(first_after=100_000)
    pace.adopted(time.time())
    registry = open_registry(home)
    registry.update_task(TASK_ID, pace=pace.to_json())
    quality: dict[str, object] = {"max_risk": 0.05, "audit_rate": 0.0}
    with gateway(home, [Reply(text="violet")], quality=quality, learning=learning) as place:
        for number in range(NEW_ANSWERS):
            assert status(place)["learner"]["runs"] == 0
            # What no local answer can honour goes to the reference.
            place.client.chat.completions.create(
                model="auto",
                messages=messages(f"my car {number} is violet"),  # type: ignore[arg-type]
                stop="never",
            )
        wait_for_runs(place, 1)
        event = registry.events(TASK_ID)[-1]
        assert (event.kind, event.details["values"]) == ("new-answers", [["", "violet", NEW_ANSWERS]])
    registry.close()


def test_without_a_stated_risk_nothing_is_learnt(home: Path, learning: dict[str, object]) -> None:
    with gateway(home, colour_of, learning={**learning, "first_after": 5}) as place:
        for text, _ in sentences(10):
            ask(place, text)
        place.rows(10)
        time.sleep(0.3)
        assert status(place)["learner"] == {
            "is_running": False,
            "progress": {},
            "runs": 0,
            "last_error": "",
        }


def test_a_gateway_that_ends_takes_its_learner_along(
    home: Path, learnt: Learnt, learning: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTFISH_CACHE", str(learnt.folder / "cache"))
    with gateway(home, colour_of, quality={"max_risk": 0.1}, learning={**learning, "first_after": 5}) as place:
        for text, _ in sentences(10):
            ask(place, text)
        deadline_s = time.monotonic() + 120
        while not status(place)["learner"]["is_running"]:
            assert time.monotonic() < deadline_s
    running = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(home) in _text(path)]
    assert running == []


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
