"""JSON whose values stand in the request: observed, learnt, certified whole, answered as the reference writes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pilotfish.core.certificate import Certificate, Claim
from pilotfish.core.messages import ChatRequest, Message
from pilotfish.guarantees.learn import learn
from pilotfish.guarantees.pace import Pace
from pilotfish.guarantees.verify import logged, recompute, verify
from pilotfish.specialists.load import load
from pilotfish.store.home import open_home
from pilotfish.students.encoder_cache import open_encoder
from pilotfish.tasks.fingerprint import instructions_id
from tools.gateway import gateway
from tools.log_rows import log_answers
from tools.served_home import Learnt
from tools.tiny_tasks import bookings
from tools.upstream import Asked, Reply

SYSTEM = "Extract kind, city and guests as JSON."


def messages(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]


TASK = instructions_id(ChatRequest(messages=[Message(**row) for row in messages("x")]))


def test_an_extraction_is_learnt_certified_and_served(
    home: Path, learnt: Learnt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTFISH_CACHE", str(learnt.folder / "cache"))
    encoder = open_encoder(learnt.folder / "cache", learnt.encoder)
    log_answers(home, bookings(200), task=TASK, instructions=SYSTEM)
    place = open_home(home)
    (outcome,) = learn(place, Claim(max_risk=0.15, confidence=0.8), Pace(first_after=180, growth=1.5), lambda: encoder)
    assert isinstance(outcome.verdict, Certificate)
    assert outcome.is_adopted
    assert recompute(place, outcome.verdict.id, encoder).differences == []
    place.registry.close()
    later = bookings(30, seed=5)
    right = dict(later)

    def reference(asked: Asked) -> Reply:
        return Reply(text=right[asked.json["messages"][-1]["content"]])

    quality: dict[str, object] = {"max_risk": 0.15, "confidence": 0.8, "audit_rate": 0.0}
    with gateway(home, reference, quality=quality, learning={"encoder": learnt.encoder, "check_every_s": 60}) as served:
        local = []
        for text, _ in later:
            raw = served.client.chat.completions.with_raw_response.create(model="auto", messages=messages(text))  # type: ignore[arg-type]
            if raw.headers["x-pilotfish-reason"] == "certified":
                local.append((text, raw.parse().choices[0].message.content))
    assert len(local) > 10
    assert sum(said == right[text] for text, said in local) > 0.8 * len(local)
    for text, said in local:
        found = json.loads(said or "")
        assert found["city"] in text
        assert f"{found.get('guests', 0):,}" in f"{text} 0"


def test_a_promise_per_field_is_certified_verified_and_watched_field_by_field(
    home: Path, learnt: Learnt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTFISH_CACHE", str(learnt.folder / "cache"))
    encoder = open_encoder(learnt.folder / "cache", learnt.encoder)
    log_answers(home, bookings(200), task=TASK, instructions=SYSTEM)
    place = open_home(home)
    claim = Claim(max_risk=0.15, confidence=0.8, per="field")
    (outcome,) = learn(place, claim, Pace(first_after=180, growth=1.5), lambda: encoder)
    certificate = outcome.verdict
    assert isinstance(certificate, Certificate)
    fields = certificate.details["fields"]
    assert set(fields) == {"kind", "city", "guests"}
    assert max(one["bound"] for one in fields.values()) == certificate.bound <= 0.15
    assert recompute(place, certificate.id, encoder).differences == []
    fields["city"]["errors"] += 1
    rows = logged(place, certificate, outcome.task.shape)
    specialist = load(place.specialists / certificate.artefact_sha256[:16], encoder)
    assert [one.field for one in verify(certificate, rows, specialist)] == ["details.fields"]
    place.registry.close()
    later = bookings(12, seed=5)

    def wrong(asked: Asked) -> Reply:
        """Its city is always another one."""
        answer = json.loads(dict(later)[asked.json["messages"][-1]["content"]])
        return Reply(text=json.dumps({**answer, "city": "Elsewhere"}))

    quality: dict[str, object] = {"max_risk": 0.15, "confidence": 0.8, "per": "field", "audit_rate": 1.0}
    with gateway(home, wrong, quality=quality, learning={"encoder": learnt.encoder, "check_every_s": 60}) as served:
        for text, _ in later:
            served.client.chat.completions.create(model="auto", messages=messages(text))  # type: ignore[arg-type]
    record = open_home(home).registry.task(TASK)
    assert record is not None
    state = record.audit_state
    assert state is not None
    assert len(state["watches"]) == 3
    assert sum(x > 0 for x in state["sums"]) == 1
