"""With a stated risk and a certified specialist: local answers, deferrals, audits and withdrawal."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pilotfish.core.certificate import Claim, FirstTier
from pilotfish.guarantees.drift import Drift
from pilotfish.specialists.specialist import Specialist
from pilotfish.store.build import open_log, open_registry
from tools.gateway import Place, gateway
from tools.served_home import TASK_ID, Learnt, adopt, messages, sentences
from tools.upstream import Asked, Reply

SERVING = {"max_risk": 0.05, "audit_rate": 0.0}
Serve = Callable[..., AbstractContextManager[Place]]


@pytest.fixture
def serve(served_home: Path, learnt: Learnt) -> Serve:
    """Opens a gateway whose encoder is the tiny one."""
    return partial(gateway, served_home, learning={"encoder": learnt.encoder, "check_every_s": 0.05})


def colour_of(asked: Asked) -> Reply:
    """What a good reference answers."""
    text = asked.json["messages"][-1]["content"]
    return Reply(text=next((colour for colour in ("red", "green", "blue") if colour in text), "none"))


def ask(place: Place, text: str, **fields: object) -> tuple[str, dict[str, str]]:
    raw = place.client.chat.completions.with_raw_response.create(
        model="auto",
        messages=messages(text),  # type: ignore[arg-type]
        **fields,  # type: ignore[arg-type]
    )
    return raw.parse().choices[0].message.content or "", dict(raw.headers)


def test_a_certified_specialist_answers_without_the_reference(serve: Serve, served_home: Path, learnt: Learnt) -> None:
    certificate = adopt(learnt, served_home)
    with serve(colour_of, quality=SERVING) as place:
        asked = sentences(20, seed=1)
        answers = [ask(place, text) for text, _ in asked]
        assert [answer for answer, _ in answers] == [colour for _, colour in asked]
        headers = answers[0][1]
        assert (headers["x-pilotfish-model"], headers["x-pilotfish-reason"]) == ("pilotfish/colours", "certified")
        assert (headers["x-pilotfish-task"], headers["x-pilotfish-certificate"]) == ("colours", certificate.id)
        assert place.server.asked == []
        row = place.rows(20)[0]
        assert (row.mode, row.reason, row.sampling, row.model) == ("serve", "certified", "local", "pilotfish/colours")
        assert (row.answer, row.local_answer, row.reference_answer) == (asked[0][1], asked[0][1], None)
        assert (row.cost_usd, row.prompt_tokens) == (0.0, 0)
        assert (row.certificate_id, row.specialist_sha256) == (certificate.id, certificate.artefact_sha256)
        assert row.certainty is not None
        assert row.certainty >= 0.5


def test_a_local_answer_has_the_shape_the_official_client_expects(
    serve: Serve, served_home: Path, learnt: Learnt
) -> None:
    adopt(learnt, served_home)
    with serve(colour_of, quality=SERVING) as place:
        completion = place.client.chat.completions.create(model="big", messages=messages("my car 1 is red"))  # type: ignore[arg-type]
        assert completion.model == "pilotfish/colours"
        assert completion.choices[0].finish_reason == "stop"
        assert completion.usage is not None
        assert completion.usage.total_tokens == 0
        stream = place.client.chat.completions.create(
            model="big",
            messages=messages("my car 2 is blue"),  # type: ignore[arg-type]
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "blue"
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].usage is not None
        assert stream.response.headers["x-pilotfish-reason"] == "certified"


def test_without_a_stated_risk_nothing_is_answered_locally(serve: Serve, served_home: Path, learnt: Learnt) -> None:
    adopt(learnt, served_home)
    with serve(colour_of) as place:
        _, headers = ask(place, "my car 1 is red")
        assert headers["x-pilotfish-reason"] == "observing"
        assert place.rows(1)[0].sampling == "observe"


@pytest.mark.parametrize(
    "claim", [Claim(max_risk=0.1), Claim(max_risk=0.05, confidence=0.9), Claim(max_risk=0.05, per="traffic")]
)
def test_a_weaker_promise_than_the_one_asked_for_is_not_served(
    serve: Serve, served_home: Path, learnt: Learnt, claim: Claim
) -> None:
    adopt(learnt, served_home, claim=claim)
    with serve(colour_of, quality=SERVING) as place:
        assert ask(place, "my car 1 is red")[1]["x-pilotfish-reason"] == "observing"


@pytest.mark.parametrize(
    ("gates", "reason"), [({"min_certainty": 1.1}, "uncertain"), ({"min_scope": 1.1}, "out-of-scope")]
)
def test_what_a_gate_stops_goes_to_the_reference(
    serve: Serve, served_home: Path, learnt: Learnt, gates: dict[str, float], reason: str
) -> None:
    adopt(learnt, served_home, **gates)
    with serve(colour_of, quality=SERVING) as place:
        answer, headers = ask(place, "my car 1 is red")
        assert (answer, headers["x-pilotfish-reason"], headers["x-pilotfish-model"]) == ("red", reason, "big")
        row = place.rows(1)[0]
        assert (row.sampling, row.local_answer, row.reference_answer) == ("deferred", "red", "red")


def test_options_only_the_reference_can_honour_go_there(serve: Serve, served_home: Path, learnt: Learnt) -> None:
    adopt(learnt, served_home)
    with serve(colour_of, quality=SERVING) as place:
        assert ask(place, "my car 1 is red", n=2)[1]["x-pilotfish-reason"] == "unsupported-option"
        assert ask(place, "my car 1 is red", stop=["x"])[1]["x-pilotfish-reason"] == "unsupported-option"
        assert {row.sampling for row in place.rows(2)} == {"none"}


def test_another_model_by_name_is_never_answered_locally(serve: Serve, served_home: Path, learnt: Learnt) -> None:
    adopt(learnt, served_home)
    with serve(colour_of, quality=SERVING) as place:
        raw = place.client.chat.completions.with_raw_response.create(model="other", messages=messages("it is red"))  # type: ignore[arg-type]
        assert raw.headers["x-pilotfish-reason"] == "other-model"


def test_a_tampered_specialist_defers_and_is_reported_once(
    serve: Serve, served_home: Path, learnt: Learnt, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = adopt(learnt, served_home)
    folder = served_home / "specialists" / certificate.artefact_sha256[:16]
    card = folder / "specialist.json"
    card.write_text(card.read_text().replace('"colours"', '"colors"'))
    with serve(colour_of, quality=SERVING) as place:
        for _ in range(3):
            answer, headers = ask(place, "my car 1 is red")
            assert (answer, headers["x-pilotfish-reason"]) == ("red", "specialist-failed")
        assert place.rows(3)[0].sampling == "deferred"
    assert len([record for record in caplog.records if "cannot serve" in record.message]) == 1


def test_a_missing_folder_defers(serve: Serve, served_home: Path, learnt: Learnt) -> None:
    certificate = adopt(learnt, served_home)
    (served_home / "specialists" / certificate.artefact_sha256[:16]).rename(served_home / "gone")
    with serve(colour_of, quality=SERVING) as place:
        assert ask(place, "my car 1 is red")[1]["x-pilotfish-reason"] == "specialist-failed"


def test_a_certificate_about_another_artefact_is_not_served(serve: Serve, served_home: Path, learnt: Learnt) -> None:
    adopt(learnt, served_home)
    registry = open_registry(served_home)
    registry.update_task(TASK_ID, specialist_sha256="0" * 64)
    registry.close()
    with serve(colour_of, quality=SERVING) as place:
        assert ask(place, "my car 1 is red")[1]["x-pilotfish-reason"] == "observing"


def test_a_full_queue_defers_instead_of_waiting(
    serve: Serve, served_home: Path, learnt: Learnt, monkeypatch: pytest.MonkeyPatch, deadline_s: float
) -> None:
    adopt(learnt, served_home)
    is_released = threading.Event()
    predict = Specialist.predict

    def slow(self: Specialist, texts: list[str]) -> object:
        if texts != ["warm-up"]:
            is_released.wait(120)
        return predict(self, texts)

    monkeypatch.setattr(Specialist, "predict", slow)
    with serve(colour_of, quality=SERVING) as place:
        started_s = time.perf_counter()
        answer, headers = ask(place, "my car 1 is red")
        assert (answer, headers["x-pilotfish-reason"]) == ("red", "overloaded")
        assert deadline_s <= time.perf_counter() - started_s
        is_released.set()
        until_s = time.monotonic() + 120
        while ask(place, "my car 2 is red")[1]["x-pilotfish-reason"] != "certified":
            assert time.monotonic() < until_s


FIRST = FirstTier(min_certainty=0.4, min_scope=0.5, n_served=80, errors=0.0, max_share=0.5)


@pytest.mark.usefixtures("deadline_s")
def test_what_the_first_tier_accepts_is_answered_without_the_encoder_even_when_the_queue_is_stuck(
    serve: Serve, served_home: Path, learnt: Learnt, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = adopt(learnt, served_home, first=FIRST)
    predict = Specialist.predict
    asked: list[str] = []

    def stuck(self: Specialist, texts: list[str]) -> object:
        asked.extend(texts)
        if texts != ["warm-up"]:
            time.sleep(0.3)
        return predict(self, texts)

    monkeypatch.setattr(Specialist, "predict", stuck)
    with serve(colour_of, quality={"max_risk": 0.05, "audit_rate": 1.0}) as place:
        answer, headers = ask(place, "my car 1 is red")
        assert (answer, headers["x-pilotfish-reason"], headers["x-pilotfish-tier"]) == ("red", "certified", "1")
        assert headers["x-pilotfish-certificate"] == certificate.id
        assert ask(place, "#### @@@@ ;;;; qqqq")[1]["x-pilotfish-reason"] == "overloaded"
        assert ask(place, "my car 2 is blue")[1]["x-pilotfish-reason"] == "certified"
        assert asked == ["warm-up", "#### @@@@ ;;;; qqqq"]
        rows = place.rows(3)
        assert [row.tier for row in rows] == [1, None, 1]
        assert [row.sampling for row in rows] == ["audit"] * 3
        deadline_s = time.monotonic() + 120
        registry = open_registry(served_home)
        while ((registry.task(TASK_ID) or learnt.record).audit_state or {}).get("n") != 2:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        assert open_log(served_home).task_counts()[0].n_first == 2
        registry.close()


def test_what_the_first_tier_does_not_accept_is_the_mixtures_to_decide(
    serve: Serve, served_home: Path, learnt: Learnt
) -> None:
    adopt(learnt, served_home, first=dataclasses.replace(FIRST, min_certainty=1.1))
    with serve(colour_of, quality=SERVING) as place:
        _, headers = ask(place, "my car 1 is red")
        assert (headers["x-pilotfish-reason"], headers["x-pilotfish-tier"]) == ("certified", "2")
        assert place.rows(1)[0].tier == 2


def test_a_shadow_goes_through_the_same_tiers(serve: Serve, served_home: Path, learnt: Learnt) -> None:
    adopt(learnt, served_home, mode="shadow", first=FIRST)
    with serve([Reply(text="violet")]) as place:
        _, headers = ask(place, "my car 1 is red")
        assert "x-pilotfish-tier" not in headers
        row = place.rows(1)[0]
        assert (row.local_answer, row.tier, row.sampling) == ("red", 1, "observe")


def test_a_specialist_that_breaks_while_serving_defers(
    serve: Serve, served_home: Path, learnt: Learnt, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    adopt(learnt, served_home)
    predict = Specialist.predict

    def breaking(self: Specialist, texts: list[str]) -> object:
        if "break" in texts[0]:
            raise IndexError("a bug")
        return predict(self, texts)

    monkeypatch.setattr(Specialist, "predict", breaking)
    with serve(colour_of, quality=SERVING) as place:
        for _ in range(2):
            assert ask(place, "break, it is red")[1]["x-pilotfish-reason"] == "specialist-failed"
        assert ask(place, "my car 2 is red")[1]["x-pilotfish-reason"] == "certified"
    assert len([record for record in caplog.records if "failed; its requests" in record.message]) == 1


def test_a_shadow_is_logged_and_never_seen(serve: Serve, served_home: Path, learnt: Learnt) -> None:
    adopt(learnt, served_home, mode="shadow")
    with serve([Reply(text="violet")]) as place:
        answer, headers = ask(place, "my car 1 is red")
        assert (answer, headers["x-pilotfish-reason"]) == ("violet", "shadow")
        row = place.rows(1)[0]
        assert (row.mode, row.sampling, row.probability) == ("shadow", "observe", 1.0)
        assert (row.local_answer, row.reference_answer, row.answer) == ("red", "violet", "violet")
        assert row.certainty is not None


def test_every_request_may_be_audited_without_the_client_noticing(
    serve: Serve, served_home: Path, learnt: Learnt
) -> None:
    adopt(learnt, served_home)

    is_answered = threading.Event()

    def once_answered(asked: Asked) -> Reply:
        return colour_of(asked) if is_answered.wait(120) else Reply(status=500)

    with serve(once_answered, quality={"max_risk": 0.05, "audit_rate": 1.0}) as place:
        answer, headers = ask(place, "my car 1 is red")
        is_answered.set()
        assert (answer, headers["x-pilotfish-reason"]) == ("red", "certified")
        place.server.wait_for_request()
        log, request_id = open_log(served_home), headers["x-pilotfish-request-id"]
        deadline_s = time.monotonic() + 120
        while (audit := open_log(served_home).audit(request_id)) is None:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        assert (audit.reference_answer, audit.status, audit.prompt_tokens) == ("red", 200, 11)
        row = log.row(request_id)
        assert row is not None
        assert (row.sampling, row.probability, row.answer) == ("audit", 1.0, "red")


def test_a_streamed_request_is_audited_as_a_stream(serve: Serve, served_home: Path, learnt: Learnt) -> None:
    adopt(learnt, served_home)
    with serve(colour_of, quality={"max_risk": 0.05, "audit_rate": 1.0}) as place:
        list(place.client.chat.completions.create(model="auto", messages=messages("it is red"), stream=True))  # type: ignore[arg-type, call-overload]
        deadline_s = time.monotonic() + 120
        while not (rows := [row for row in place.rows(1) if row.reference_answer is not None]):
            assert time.monotonic() < deadline_s
        assert rows[0].reference_answer == "red"
        assert place.server.asked[0].json["stream"] is True


def test_the_coin_falls_before_the_decision_so_deferrals_carry_it_too(
    serve: Serve, served_home: Path, learnt: Learnt
) -> None:
    adopt(learnt, served_home, min_certainty=1.1)
    with serve(colour_of, quality={"max_risk": 0.05, "audit_rate": 0.5}) as place:
        for number in range(40):
            ask(place, f"my car {number} is red")
        rows = place.rows(40)
        assert {(row.sampling, row.probability) for row in rows} == {("audit", 0.5), ("deferred", 1.0)}
        assert len(place.server.asked) == 40


def test_a_broken_promise_is_withdrawn_at_once_and_for_good(serve: Serve, served_home: Path, learnt: Learnt) -> None:
    adopt(learnt, served_home)
    quality = {"max_risk": 0.05, "audit_rate": 1.0}
    with serve([Reply(text="violet")], quality=quality) as place:
        for number in range(200):
            answer, headers = ask(place, f"my car {number} is red")
            if headers["x-pilotfish-reason"] == "observing":
                break
        assert answer == "violet"
        assert 1 < number < 60
        registry = open_registry(served_home)
        record = registry.task(TASK_ID)
        assert record is not None
        assert (record.mode, record.certificate_id) == ("observe", "")
        event = registry.events(TASK_ID)[0]
        assert event.kind == "withdrawn"
        assert "differed" in event.message
        registry.close()
        assert place.rows(number + 1)[-1].sampling == "observe"
    with serve([Reply(text="violet")], quality=quality) as place:
        assert ask(place, "my car 1 is red")[1]["x-pilotfish-reason"] == "observing"


def test_audits_survive_a_restart(serve: Serve, served_home: Path, learnt: Learnt) -> None:
    adopt(learnt, served_home)
    for expected in (1, 2):
        with serve(colour_of, quality={"max_risk": 0.05, "audit_rate": 1.0}) as place:
            ask(place, "my car 1 is red")
            registry = open_registry(served_home)
            deadline_s = time.monotonic() + 120
            while ((registry.task(TASK_ID) or learnt.record).audit_state or {}).get("n") != expected:
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
            registry.close()


STRANGE = {"baseline": {"scope": {"edges": [2.0], "counts": [0, 5000], "n": 5000}}}
"""All calibration rows had a scope that no request reaches, so a dozen requests are a drift."""


def task_of(place: Place) -> dict[str, Any]:
    status = json.loads(place.client.get(f"http://127.0.0.1:{place.port}/pilotfish/status", cast_to=str))
    task: dict[str, Any] = status["tasks"][0]
    return task


def test_drift_raises_the_coin_at_once_and_is_an_event(serve: Serve, served_home: Path, learnt: Learnt) -> None:
    adopt(learnt, served_home, details=STRANGE)
    with serve(colour_of, quality={"max_risk": 0.05, "audit_rate": 0.04}) as place:
        assert (task_of(place)["audit_rate"], task_of(place)["drift"]["is_raised"]) == (0.04, False)
        for number in range(1, 60):
            ask(place, f"my car {number} is red")
            task = task_of(place)
            if task["drift"]["is_raised"]:
                break
        assert 5 < number < 40
        assert (task["mode"], task["audit_rate"]) == ("serve", 0.2)
        for after in range(60):
            ask(place, f"my cup {after} is blue")
        probability = [row.probability for row in place.rows(number + 60) if row.sampling == "audit"]
        drawn = {row.probability for row in place.rows(number + 60)[number:] if row.sampling == "audit"}
        assert drawn == {0.2}, "what is logged is the coin that fell"
        assert set(probability) <= {0.04, 0.2}
        registry = open_registry(served_home)
        event = registry.events(TASK_ID)[0]
        registry.close()
        assert (event.kind, event.details["coin"], event.details["certificate_id"]) == (
            "drift",
            0.2,
            task["certificate"],
        )
        assert "The scope of the requests has drifted" in event.message
    with serve(colour_of, quality={"max_risk": 0.05, "audit_rate": 0.04}) as place:
        assert task_of(place)["audit_rate"] == 0.2, "a restart hides no drift"


def test_audits_that_withdraw_nothing_end_what_drift_has_raised(
    serve: Serve, served_home: Path, learnt: Learnt
) -> None:
    adopt(learnt, served_home, details=STRANGE, claim=Claim(max_risk=0.4))
    with serve(colour_of, quality={"max_risk": 0.4, "audit_rate": 1.0}) as place:
        registry = open_registry(served_home)
        deadline_s = time.monotonic() + 10
        while len(events := [event for event in registry.events(TASK_ID) if event.kind == "drift"]) < 2:
            ask(place, "my car 1 is red")
            assert time.monotonic() < deadline_s
        registry.close()
        assert "audits since the drift did not withdraw the certificate" in events[0].message
        assert task_of(place)["mode"] == "serve"
        assert task_of(place)["drift"]["is_raised"] is False


def test_a_drift_that_another_process_noticed_raises_the_coin_here(
    serve: Serve, served_home: Path, learnt: Learnt
) -> None:
    certificate = adopt(learnt, served_home, details=STRANGE)
    with serve(colour_of, quality={"max_risk": 0.05, "audit_rate": 0.04}) as place:
        assert task_of(place)["audit_rate"] == 0.04
        other = Drift(certificate, 0.04)
        while not other.observe(certainty=0.9, scope=0.9, is_local=True):
            pass
        registry = open_registry(served_home)
        registry.update_task(TASK_ID, drift_state=other.to_json())
        deadline_s = time.monotonic() + 120
        while task_of(place)["audit_rate"] != 0.2:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        # What this process has seen less of does not undo it.
        ask(place, "my car 1 is red")
    record = registry.task(TASK_ID)
    registry.close()
    assert record is not None
    assert record.drift_state is not None
    assert record.drift_state["turn"] == 1


def test_what_was_watched_is_written_down_at_the_end(serve: Serve, served_home: Path, learnt: Learnt) -> None:
    adopt(learnt, served_home)
    for expected in (3, 6):
        with serve(colour_of, quality=SERVING) as place:
            for number in range(3):
                ask(place, f"my car {number} is red")
        registry = open_registry(served_home)
        record = registry.task(TASK_ID)
        registry.close()
        assert record is not None
        assert record.drift_state is not None
        assert record.drift_state["n"] == expected


def test_without_a_rate_the_certificate_chooses_one(serve: Serve, served_home: Path, learnt: Learnt) -> None:
    certificate = adopt(learnt, served_home)
    with serve(colour_of, quality={"max_risk": 0.05}) as place:
        rate = task_of(place)["audit_rate"]
        assert rate == Drift(certificate).rate
        assert 0.01 < rate < 0.1


def test_an_audit_that_fails_is_no_evidence(serve: Serve, served_home: Path, learnt: Learnt) -> None:
    adopt(learnt, served_home)
    failing = Reply(status=500, body=b'{"error":{"message":"down"}}')
    with serve([failing], quality={"max_risk": 0.05, "audit_rate": 1.0}) as place:
        _, headers = ask(place, "my car 1 is red")
        place.server.wait_for_request()
        deadline_s = time.monotonic() + 120
        while (audit := open_log(served_home).audit(headers["x-pilotfish-request-id"])) is None:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        assert (audit.status, audit.reference_answer) == (500, None)
        registry = open_registry(served_home)
        record = registry.task(TASK_ID)
        assert record is not None
        assert record.audit_state is None
        registry.close()


def test_what_another_process_decides_is_taken_over(serve: Serve, served_home: Path, learnt: Learnt) -> None:
    with serve(colour_of, quality=SERVING) as place:
        assert ask(place, "my car 1 is red")[1]["x-pilotfish-reason"] == "observing"
        adopt(learnt, served_home)
        deadline_s = time.monotonic() + 120
        while ask(place, "my car 1 is red")[1]["x-pilotfish-reason"] != "certified":
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        status = json.loads(place.client.get(f"http://127.0.0.1:{place.port}/pilotfish/status", cast_to=str))
        assert status["tasks"][0]["mode"] == "serve"
