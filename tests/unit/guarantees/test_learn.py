"""Learning over a home whose log was filled through the store: what `pilotfish distil` and the gateway's learner do."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from pilotfish.core.certificate import Certificate, Claim, Refusal
from pilotfish.guarantees.by_hand import retrain
from pilotfish.guarantees.learn import known_examples, learn
from pilotfish.guarantees.new_answers import new_since
from pilotfish.guarantees.pace import Pace
from pilotfish.specialists.card import read_folder
from pilotfish.store.build import open_writer
from pilotfish.store.home import open_home
from tools.log_rows import audit_row, instructions_row, local_row, request_row
from tools.served_home import INSTRUCTIONS, TASK_ID, sentences
from tools.traffic import many_words, noisy

CLAIM = Claim(max_risk=0.05)


@pytest.fixture
def place(tmp_path):
    place = open_home(tmp_path / "home")
    yield place
    place.registry.close()


def _log(place, pairs, *, start=0, task=TASK_ID, **fields):
    writer = open_writer(place.folder)
    writer.append(instructions_row(task, text=f"{INSTRUCTIONS} {task}"))
    for number, (text, answer) in enumerate(pairs, start):
        values = {"time_s": float(number), "instructions_id": task, "task_id": task, "input": text, "mode": "observe"}
        values |= {"answer": answer, "reference_answer": answer}
        writer.append(request_row(f"{task[:4]}-{number:06}", **(values | fields)))
    writer.close()
    return open_home(place.folder)


def _learn(place, encoder, claim=CLAIM, **options):
    return learn(place, claim, Pace(first_after=200, growth=1.5), lambda: encoder, **options)


def test_a_task_is_found_learnt_certified_and_adopted(place, encoder):
    place = _log(place, sentences(320))
    (outcome,) = _learn(place, encoder)
    assert outcome.is_adopted
    assert outcome.n_known == 320
    assert isinstance(outcome.verdict, Certificate)
    record = place.registry.task(TASK_ID)
    assert (record.mode, record.certificate_id) == ("serve", outcome.verdict.id)
    assert read_folder(place.specialists / record.specialist_sha256[:16]).sha256 == record.specialist_sha256
    assert record.pace["due_at"] == 480
    beside = place.specialists / record.specialist_sha256[:16] / "certificate.json"
    assert Certificate.from_json(json.loads(beside.read_text("utf-8"))).id == outcome.verdict.id
    event, recognised = place.registry.events(TASK_ID)
    assert recognised.kind == "recognised"
    assert (event.kind, event.details["adopted"], event.details["n_known"]) == ("certified", True, 320)


def test_learning_twice_does_nothing_new(place, encoder):
    place = _log(place, sentences(320))
    _learn(place, encoder)
    before = (place.registry.version(), place.registry.verdicts(TASK_ID), sorted(place.specialists.iterdir()))
    assert _learn(place, encoder) == []
    assert (place.registry.version(), place.registry.verdicts(TASK_ID), sorted(place.specialists.iterdir())) == before


def test_what_a_person_asks_for_is_attempted_once_and_spends_like_any_other(place, encoder):
    """Due or not, and whatever it leads to; later looks are as patient as before."""
    place = _log(place, sentences(320))
    (first,) = _learn(place, encoder)
    place.registry.update_task(TASK_ID, mode="observe", certificate_id="")
    assert _learn(place, encoder) == []
    retrain(place.registry, place.registry.task(TASK_ID))
    (second,) = _learn(place, encoder)
    assert (first.verdict.attempt, second.verdict.attempt, place.registry.n_attempts(TASK_ID)) == (1, 2, 2)
    assert 0 < second.verdict.delta_spent < first.verdict.delta_spent
    record = place.registry.task(TASK_ID)
    assert (record.asked_s, record.pace["is_patient"]) == (None, True)
    assert _learn(place, encoder) == []


def test_what_is_asked_for_and_recurs_no_more_is_told_and_forgotten(place):
    place = _log(place, sentences(200))
    assert _learn(place, None, only="x") == []
    place.registry.put_task(dataclasses.replace(place.registry.task(TASK_ID), task_id="gone", name="gone"))
    retrain(place.registry, place.registry.task("gone"))
    assert _learn(place, None, only=TASK_ID[::-1]) == []
    assert place.registry.task("gone").asked_s is not None
    place.registry.update_task(TASK_ID, is_held=True)
    assert _learn(place, None) == []
    assert (place.registry.task("gone").asked_s, place.registry.events("gone")[0].kind) == (None, "waiting")


def test_no_encoder_is_loaded_where_nothing_is_due(place):
    place = _log(place, sentences(199))
    assert _learn(place, None) == []
    assert [task.name for task in place.registry.tasks()] != []


def test_an_empty_log_and_one_without_answers(place, encoder):
    assert _learn(place, encoder) == []
    place = _log(place, sentences(300), reference_answer=None)
    assert _learn(place, encoder) == []
    assert known_examples(place) == {}


def test_a_task_that_a_person_holds_is_left_alone(place, encoder):
    place = _log(place, sentences(320))
    assert _learn(place, None, claim=CLAIM, only="nothing") == []
    place.registry.update_task(TASK_ID, is_held=True)
    assert _learn(place, None) == []
    (outcome,) = _learn(place, encoder, only=TASK_ID)
    assert not outcome.is_adopted
    assert place.registry.task(TASK_ID).mode == "observe"


def test_a_task_named_is_attempted_due_or_not(place, encoder):
    place = _log(place, sentences(120))
    (outcome,) = _learn(place, encoder, only=TASK_ID)
    assert isinstance(outcome.verdict, Refusal | Certificate)
    assert len(place.registry.verdicts(TASK_ID)) == 1


def test_tasks_are_told_apart(place, encoder):
    place = _log(place, sentences(320))
    place = _log(place, noisy(sentences(320, seed=9), 1.0), task="b" * 16)
    outcomes = {outcome.task.task_id: outcome for outcome in _learn(place, encoder)}
    assert outcomes[TASK_ID].is_adopted
    assert isinstance(outcomes["b" * 16].verdict, Refusal)
    assert place.registry.task("b" * 16).mode == "observe"


def test_refusals_count_their_attempts_over_rounds(place, encoder):
    place = _log(place, noisy(sentences(300), 0.5))
    assert [_learn(place, encoder, only=TASK_ID)[0].verdict.attempt for _ in range(2)] == [1, 2]
    shares = [verdict.delta_spent for verdict in place.registry.verdicts(TASK_ID)]
    assert shares[0] > shares[1] > 0
    assert sum(shares) < CLAIM.delta


def test_audited_local_answers_teach_with_what_the_reference_said(place):
    place = _log(place, sentences(30))
    writer = open_writer(place.folder)
    fields = {"instructions_id": TASK_ID, "task_id": TASK_ID, "time_s": 100.0}
    writer.append(local_row("a", input="my car 1 is red", answer="green", **fields))
    writer.append(audit_row("a", reference_answer="red"))
    writer.append(local_row("b", input="my car 2 is red", answer="green", **fields))
    writer.append(request_row("c", input="my car 3 is red", reference_answer="red", sampling="deferred", **fields))
    writer.append(request_row("d", input="broken", reference_answer="red", status=500, **fields))
    writer.close()
    known = {row.request_id: row for row in known_examples(open_home(place.folder))[TASK_ID] if row.time_s == 100.0}
    assert set(known) == {"a", "c"}
    assert (known["a"].answer, known["a"].is_unbiased) == (("red",), True)
    assert not known["c"].is_unbiased


def test_a_stricter_promise_replaces_the_one_in_force(place, encoder):
    """Under it the old certificate does not serve; that it covered more must not keep the new one out."""
    place = _log(place, noisy(sentences(900), 0.03))
    (loose,) = _learn(place, encoder, claim=Claim(max_risk=0.3, per="traffic"))
    assert loose.is_adopted
    (strict,) = _learn(place, encoder, claim=Claim(max_risk=0.08, per="answer"), only=TASK_ID)
    assert isinstance(strict.verdict, Certificate)
    assert strict.is_adopted
    assert place.registry.task(TASK_ID).certificate_id == strict.verdict.id


@pytest.mark.parametrize("is_missing", [True, False])
def test_one_that_cannot_be_loaded_serves_nothing_and_is_learnt_anew_when_asked_for(place, encoder, is_missing):
    """Else nothing could answer more than the certificate says that it does: a task whose encoder was built anew would
    stay with the large model."""
    place = _log(place, sentences(400))
    (first,) = _learn(place, encoder)
    assert first.is_adopted
    if is_missing:
        shutil.rmtree(place.specialists / first.verdict.artefact_sha256[:16])
    else:
        # The settings name none any more, so the one that it was learnt on is another.
        encoder = None
    (again,) = _learn(place, encoder, only=TASK_ID)
    assert isinstance(again.verdict, Certificate)
    assert (again.is_adopted, again.verdict.attempt) == (True, 2)
    assert place.registry.task(TASK_ID).certificate_id == again.verdict.id


def test_while_serving_a_better_specialist_is_proven_on_later_rows(place, encoder):
    pairs = many_words(1100)
    claim = Claim(max_risk=0.1, per="traffic")
    place = _log(place, pairs[:300])
    (first,) = _learn(place, encoder, claim=claim, only=TASK_ID)
    assert first.is_adopted
    place = _log(place, pairs[300:600], start=300, sampling="deferred", mode="serve")
    assert _learn(place, encoder, claim=claim) == []
    pace = Pace.from_json(place.registry.task(TASK_ID).pace)
    assert pace.proving_since_s == 599.0
    place = _log(place, pairs[600:850], start=600, sampling="audit", mode="serve")
    (second,) = _learn(place, encoder, claim=claim)
    assert second.is_adopted
    assert second.verdict.coverage > first.verdict.coverage
    assert all(int(key[-6:]) >= 600 for key in second.verdict.details["request_ids"])


def test_an_intent_that_appears_while_serving_is_learnt(place, encoder):
    """The new specialist may answer what the one in force could not; the task's shape follows it."""
    claim = Claim(max_risk=0.1, per="traffic")
    place = _log(place, noisy(sentences(300), 0.1))
    (first,) = _learn(place, encoder, claim=claim, only=TASK_ID)
    assert first.is_adopted
    certificate = dataclasses.replace(first.verdict, coverage=0.5)
    assert place.registry.adopt(certificate)
    new = [(text.replace(" is red", " is violet"), answer.replace("red", "violet")) for text, answer in sentences(700)]
    place = _log(place, new[:300], start=300, sampling="deferred", mode="serve")
    assert _learn(place, encoder, claim=claim) == []
    before = place.registry.task(TASK_ID).shape
    assert "violet" not in before.fields[0].values
    place = _log(place, new[300:560], start=600, sampling="audit", mode="serve")
    (second,) = _learn(place, encoder, claim=claim)
    assert second.is_adopted
    record = place.registry.task(TASK_ID)
    assert "violet" in record.shape.fields[0].values
    assert "violet" in read_folder(place.specialists / record.specialist_sha256[:16]).card.classes[0]


def _violet(pairs):
    return [(text.replace(" is red", " is violet"), answer.replace("red", "violet")) for text, answer in pairs]


def test_a_new_answer_is_proven_at_once_told_and_replaces_the_certificate(place, encoder):
    """The log has not grown by half, and the certificate in force claims all: it is the new answer that counts."""
    claim = Claim(max_risk=0.1, per="traffic")
    place = _log(place, sentences(600))
    (first,) = _learn(place, encoder, claim=claim, only=TASK_ID)
    assert first.is_adopted
    new = _violet(sentences(700, seed=5))
    few = [pair for pair in new if pair[1] == "violet"][:20]
    place = _log(place, few[:19], start=600, sampling="deferred", mode="serve")
    assert _learn(place, encoder, claim=claim) == []
    assert [event.kind for event in place.registry.events(TASK_ID)] == ["certified", "recognised"]
    place = _log(place, few[19:], start=619, sampling="deferred", mode="serve")
    assert _learn(place, encoder, claim=claim) == []
    event = place.registry.events(TASK_ID)[0]
    assert (event.kind, event.details["values"]) == ("new-answers", [["", "violet", 20]])
    assert "now answers 'violet'" in event.message
    pace = Pace.from_json(place.registry.task(TASK_ID).pace)
    assert pace.proving_since_s == 619.0
    assert pace.coin(0.02) > 0.4, "it is proven in a hurry"
    place = _log(place, new[100:320], start=620, sampling="audit", mode="serve")
    (second,) = _learn(place, encoder, claim=claim)
    assert second.is_adopted
    record = place.registry.task(TASK_ID)
    assert record.certificate_id == second.verdict.id
    assert "violet" in record.shape.fields[0].values
    assert place.registry.certificate(first.verdict.id) == first.verdict, "old ones stay readable"
    assert new_since(record, known_examples(place)[TASK_ID]).most == 0
