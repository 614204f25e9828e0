"""With consent to spend: requests asked again, within the budget, whatever happens; and audits against a majority."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pilotfish.core.certificate import SCORERS
from pilotfish.core.log_row import RepeatRow
from pilotfish.guarantees.consistency import asked_again
from pilotfish.guarantees.known import known_examples
from pilotfish.store.build import open_log, open_registry
from pilotfish.store.home import open_home
from tools.gateway import Place, gateway
from tools.served_home import TASK_ID, Learnt, adopt, messages
from tools.upstream import Asked, Reply

COLOURS = ("red", "green", "blue")
PRICE = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 3.0}
COST_USD = (11 * 1.0 + 3 * 3.0) / 1e6
"""Of one call of the scripted server, that counts 11 and 3 tokens, but for 2 cached ones at the same price."""


class Reference:
    """Names the colour; every request whose number in the text is below `wavering` otherwise when asked again."""

    def __init__(self, wavering: int = 0) -> None:
        self.wavering = wavering
        self.asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, asked: Asked) -> Reply:
        text = asked.json["messages"][-1]["content"]
        with self._lock:
            self.asked[text] += 1
            n = self.asked[text]
        said = next(colour for colour in COLOURS if colour in text)
        if n == 2 and int(text.split()[2]) < self.wavering:
            said = COLOURS[COLOURS.index(said) - 1]
        return Reply(text=said)


@pytest.fixture
def known(home: Path, learnt: Learnt) -> Path:
    """A home that knows the task and only observes it."""
    registry = open_registry(home)
    record = dataclasses.replace(learnt.record, mode="observe", certificate_id="", specialist_sha256="")
    registry.put_task(record)
    registry.close()
    return home


def send(place: Place, numbers: range, workers: int = 1) -> None:
    def one(number: int) -> None:
        text = f"my car {number} is {COLOURS[number % 3]}"
        place.client.chat.completions.create(model="auto", messages=messages(text))  # type: ignore[arg-type]

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, numbers))


def wait(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def repeats(home: Path) -> list[RepeatRow]:
    return open_log(home).repeats()


def answered(home: Path) -> int:
    return sum(row.is_answered for row in repeats(home))


def consistency(place: Place) -> dict[str, Any]:
    raw = place.client.get(f"http://127.0.0.1:{place.port}/pilotfish/status", cast_to=str)
    found: dict[str, Any] = json.loads(raw)["consistency"]
    return found


def test_nothing_is_asked_again_without_consent(known: Path) -> None:
    with gateway(known, Reference()) as place:
        send(place, range(20))
        place.rows(20)
    assert len(place.server.asked) == 20
    assert repeats(known) == []


def test_the_self_disagreement_is_measured(known: Path) -> None:
    with gateway(known, Reference(wavering=12), consistency={"calls": 1000, "answers": 3}) as place:
        send(place, range(60))
        wait(lambda: answered(known) == 120)
        assert [row.number for row in repeats(known)] == [1, 2] * 60
        home = open_home(known)
        seen = asked_again(known_examples(home)[TASK_ID])
        majorities = known_examples(home, 3)[TASK_ID]
        home.registry.close()
        assert seen == (12, 60)
        assert [row.answer for row in majorities] == [(COLOURS[number % 3],) for number in range(60)]
        assert all(row.is_unbiased for row in majorities)
        assert {row.reference_answer for row in place.rows(60)} == set(COLOURS)


def test_two_answers_are_asked_of_about_half(known: Path) -> None:
    with gateway(known, Reference(), consistency={"calls": 1000}) as place:
        send(place, range(100))
        wait(lambda: len(place.server.asked) == 100 + answered(known))
    assert 25 < len(repeats(known)) < 75


def test_the_budget_is_kept_under_load_and_over_a_restart(known: Path) -> None:
    asking = {"calls": 31, "answers": 3}
    with gateway(known, Reference(), consistency=asking) as place:
        send(place, range(80), workers=16)
        wait(lambda: answered(known) == 30)
        assert consistency(place)["spent_calls"] == {TASK_ID: 30}
    assert len(place.server.asked) == 110
    with gateway(known, Reference(), consistency=asking) as place:
        send(place, range(80, 100), workers=4)
        place.rows(100)
        assert consistency(place)["spent_calls"] == {TASK_ID: 30}
    assert len(place.server.asked) == 20


def test_a_call_that_has_no_end_is_spent(known: Path) -> None:
    """What is written before the call is all that a kill leaves."""
    with gateway(known, [Reply(text="red"), Reply(hangs=True)], consistency={"calls": 2, "answers": 3}) as place:
        send(place, range(1))
        place.server.wait_for_request(2)
        wait(lambda: len(repeats(known)) == 1)
    (row,) = repeats(known)
    assert (row.status, row.is_answered, row.is_sampled, row.task_id) == (0, False, True, TASK_ID)


def test_a_call_that_fails_is_made_once_more(known: Path) -> None:
    failing = iter([False, True, False, False])

    def script(asked: Asked) -> Reply:
        return Reply(status=500, body=b"{}") if next(failing) else Reply(text="red")

    with gateway(known, script, consistency={"calls": 3, "answers": 3}) as place:
        send(place, range(1))
        wait(lambda: answered(known) == 2)
        assert [row.status for row in repeats(known)] == [500, 200, 200]
        assert consistency(place)["spent_calls"] == {TASK_ID: 3}


def test_a_cap_in_dollars_needs_a_price(known: Path, caplog: pytest.LogCaptureFixture) -> None:
    with gateway(known, Reference(), consistency={"calls": 100, "answers": 3, "usd": 1.0}) as place:
        send(place, range(10))
        place.rows(10)
        assert "no price" in consistency(place)["why_none"]
        assert consistency(place)["spent_usd"] is None
    assert len(place.server.asked) == 10
    assert caplog.text.count("Nothing is asked again") == 1


def test_a_cap_in_dollars_is_kept(known: Path) -> None:
    # The first request only shows what a call costs; then there is room for three requests asked twice more.
    asking = {"calls": 100, "answers": 3, "usd": 7.5 * COST_USD}
    for expected in (10 + 6, 5):
        with gateway(known, Reference(), consistency=asking, large=PRICE) as place:
            send(place, range(expected, expected + (10 if expected > 5 else 5)))
            wait(lambda: answered(known) == 6)
            assert consistency(place)["spent_usd"] == pytest.approx(6 * COST_USD)
        assert len(place.server.asked) == expected


def test_nothing_is_asked_again_that_could_not_be_kept(known: Path) -> None:
    with gateway(known, Reference(), consistency={"calls": 100, "answers": 3}, keep_text=False) as place:
        send(place, range(10))
        place.rows(10)
    assert len(place.server.asked) == 10


def test_a_task_is_found_before_there_is_enough_to_learn(home: Path) -> None:
    with gateway(home, Reference(), consistency={"calls": 6, "answers": 3}) as place:
        send(place, range(30))

        def is_known() -> bool:
            registry = open_registry(home)
            tasks = registry.tasks()
            registry.close()
            return [task.task_id for task in tasks] == [TASK_ID]

        wait(is_known)
        time.sleep(0.2)
        assert len(place.server.asked) == 30
        send(place, range(30, 40))
        wait(lambda: answered(home) == 6)


def test_a_repeat_carries_the_request_but_not_its_idempotency_key(known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with gateway(known, Reference(), consistency={"calls": 2, "answers": 3}) as place:
        place.client.chat.completions.create(
            model="auto",
            messages=messages("my car 1 is red"),  # type: ignore[arg-type]
            temperature=0.7,
            extra_headers={"idempotency-key": "once", "traceparent": "t"},
        )
        wait(lambda: answered(known) == 2)
        first, second, third = place.server.asked
    assert first.body == second.body == third.body
    assert (first.headers.get("idempotency-key"), first.headers["traceparent"]) == ("once", "t")
    assert "idempotency-key" not in second.headers
    assert second.headers["authorization"] == first.headers["authorization"]


def _serving(learnt: Learnt) -> dict[str, Any]:
    return {
        "quality": {"max_risk": 0.05, "audit_rate": 1.0},
        "learning": {"encoder": learnt.encoder, "check_every_s": 0.05},
    }


def audit_state(home: Path) -> dict[str, Any]:
    registry = open_registry(home)
    record = registry.task(TASK_ID)
    registry.close()
    assert record is not None
    return record.audit_state or {}


def test_audits_of_a_majority_ask_three_times(served_home: Path, learnt: Learnt) -> None:
    """A reference that wavers in one answer of three keeps every promise about its majority, budget or not."""
    adopt(learnt, served_home, scorer=SCORERS[3])
    asking = {"calls": 11, "answers": 3}
    with gateway(served_home, Reference(wavering=1000), consistency=asking, **_serving(learnt)) as place:
        send(place, range(20))
        wait(lambda: audit_state(served_home).get("n") == 20)
        assert audit_state(served_home)["losses"] == 0
        assert Counter(row.is_sampled for row in repeats(served_home)) == {True: 10, False: 30}
        home = open_home(served_home)
        complete = [row.is_unbiased for row in known_examples(home, 3)[TASK_ID]]
        home.registry.close()
    assert len(place.server.asked) == 60
    # What only the audits asked again says nothing of requests that were passed on.
    assert complete == [True] * 5 + [False] * 15


def test_a_promise_about_a_majority_serves_only_while_one_is_asked_for(served_home: Path, learnt: Learnt) -> None:
    adopt(learnt, served_home, scorer=SCORERS[3])
    for asking, mode in (({"calls": 9, "answers": 3}, "serve"), ({"calls": 9}, "observe"), ({"answers": 3}, "observe")):
        with gateway(served_home, Reference(), consistency=asking, **_serving(learnt)) as place:
            send(place, range(1))
            status = json.loads(place.client.get(f"http://127.0.0.1:{place.port}/pilotfish/status", cast_to=str))
            assert status["tasks"][0]["mode"] == mode
