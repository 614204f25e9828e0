"""The replay's honesty: what a row's treatment may depend on, and what it must not."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from pilotfish.core.certificate import Certificate, Claim, Refusal
from pilotfish.guarantees.advance import Workshop
from pilotfish.guarantees.drift import Drift
from pilotfish.replay.timeline import Embeddings, Setup, Timeline
from tools.served_home import COLOURS, sentences
from tools.traffic import changed, colour_task, many_words, noisy, task_rows

CLAIM = Claim(max_risk=0.1, per="traffic")
PAIRS = noisy(sentences(700, seed=3), 0.04)


@pytest.fixture
def replay(encoder, tmp_path):
    def run(pairs, *, claim=CLAIM, **options):
        workshop = Workshop(claim=claim, encoder=encoder, folder=tmp_path / "specialists")
        setup = Setup(workshop=workshop, **({"first_after": 120, "growth": 1.5, "audit_rate": 0.1} | options))
        rows = task_rows(pairs)
        embeddings = Embeddings([row.text for row in rows], encoder)
        return Timeline(colour_task(pairs), rows, embeddings, setup).run(lambda _: None)

    return run


def _flags(found, *names, upto=None):
    return {name: getattr(found, name)[:upto].tolist() for name in names}


def _verdicts(found, before=float("inf")):
    """Every verdict with its position, without the second it was written in."""
    return [
        (position, {**tried.verdict.to_json(), "created_at": "", "id": ""})
        for position, tried in found.verdicts
        if position <= before
    ]


def test_a_learnable_task_is_served_as_promised(replay):
    found = replay(PAIRS)
    assert found.mode == "serve"
    assert isinstance(found.verdict, Certificate)
    assert found.served.sum() > 0.5 * len(PAIRS)
    assert (found.served & found.differs).sum() <= 0.1 * len(PAIRS)
    assert found.first_served_at == found.rows[int(np.argmax(found.served))].position
    assert found.withdrawn_at is None


@pytest.mark.parametrize("k", [150, 400])
def test_nothing_depends_on_what_comes_later(replay, k):
    """Other texts and answers from row k on: whatever happened before stays as it was."""
    poisoned = PAIRS[:k] + [(f"poison {i}", f"a prose answer number {i}") for i in range(len(PAIRS) - k)]
    honest, other = replay(PAIRS), replay(poisoned)
    names = ("ran", "served", "audited", "differs", "naive")
    assert _flags(honest, *names, upto=k) == _flags(other, *names, upto=k)
    assert _verdicts(honest, before=k) == _verdicts(other, before=k)
    assert _flags(honest, "served") != _flags(other, "served")


def test_while_serving_only_deferred_and_audited_answers_are_known(replay):
    """The recorded answers to requests that were answered locally and not audited change nothing but the score."""
    honest = replay(PAIRS)
    unseen = honest.served & ~honest.audited
    hidden = [(text, "purple" if unseen[i] else answer) for i, (text, answer) in enumerate(PAIRS)]
    other = replay(hidden)
    assert _flags(honest, "ran", "served", "audited", "naive") == _flags(other, "ran", "served", "audited", "naive")
    assert _verdicts(honest) == _verdicts(other)
    assert other.differs[unseen].all()
    assert unseen.sum() > 100


def test_every_answer_before_the_first_certificate_counts(replay):
    """Poisoning one observed answer does change what is learnt: the test above is no accident."""
    honest = replay(PAIRS)
    ((position, _), *_) = honest.adopted
    changed = [(text, "purple" if i % 10 == 0 and i < position else answer) for i, (text, answer) in enumerate(PAIRS)]
    assert _verdicts(replay(changed)) != _verdicts(honest)


@pytest.mark.parametrize("n", [1, 250, 699])
def test_nothing_is_served_before_n_observed_requests(replay, n):
    found = replay(PAIRS, serve_from=n + 1, is_patient=False)
    assert not found.ran[:n].any()
    assert not found.served[:n].any()
    assert all(position > n for position, _ in found.verdicts)
    if n == 250:
        assert found.first_served_at == 251


def test_observing_to_the_end_serves_nothing(replay):
    found = replay(PAIRS, serve_from=10_000)
    assert (found.mode, found.verdict, found.first_served_at) == ("observe", None, None)


def test_coins_do_not_look_at_the_request(replay):
    """Every row whose coin fell is audited, whatever was decided; a seed repeats the coins."""
    found = replay(PAIRS)
    fell = np.random.default_rng(0).random(len(PAIRS)) < 0.1
    assert found.audited[fell & found.ran].all()
    assert not found.audited[~found.ran].any()
    assert (replay(PAIRS, seed=1).audited != found.audited).any()


def test_audits_withdraw_when_the_reference_changes_its_mind_and_the_task_learns_again(replay):
    found = replay(sentences(150, seed=1) + changed(sentences(600, seed=2)), audit_rate=0.2)
    (before, first), *_, (after, last) = found.adopted
    at = found.withdrawn_at
    assert before <= 150 < at < after
    assert not found.served[at : at + 120].any(), "it must first see how the changed traffic is answered"
    proof = [int(key) for key in last.verdict.details["request_ids"]]
    assert min(proof) > at
    assert found.mode == "serve"
    assert found.served[after:].mean() > 0.5
    assert (found.served & found.differs)[after:].mean() < 0.1
    assert last.verdict.attempt > first.verdict.attempt


def test_a_better_specialist_is_proven_on_later_coin_drawn_rows(replay):
    found = replay(many_words(1000), is_patient=False, first_after=200)
    (start, first), (position, last) = found.adopted
    assert last.verdict.coverage > first.verdict.coverage + 0.03
    proof = [int(key) - 1 for key in last.verdict.details["request_ids"]]
    assert found.audited[proof].all()
    assert start - 1 <= min(proof) <= max(proof) < position
    assert found.served[position - 1 :].mean() > found.served[start - 1 : position - 1].mean() + 0.03


def test_answers_that_were_closed_and_turn_into_prose(replay):
    """The certificate falls, nothing is served any more, and the refusal says that the answers are open now."""
    prose = [(text, f"Dear customer, number {i} is {answer}.") for i, (text, answer) in enumerate(sentences(900))]
    found = replay(PAIRS[:300] + prose, audit_rate=0.2)
    assert found.first_served_at <= 300 < found.withdrawn_at
    assert not found.served[found.withdrawn_at :].any()
    assert isinstance(found.verdict, Refusal)
    assert found.verdict.short_of in ("closed answers", "agreement")


def test_open_answers_are_never_encoded(tmp_path):
    class NoEncoder:
        dimension = 4
        name, sha256 = "none", "0" * 64

        def encode(self, texts):
            raise AssertionError("there was nothing to encode")

    pairs = [(text, f"Dear customer, number {i}.") for i, (text, _) in enumerate(sentences(300))]
    rows = task_rows(pairs)
    setup = Setup(workshop=Workshop(claim=CLAIM, encoder=NoEncoder(), folder=tmp_path), first_after=100)
    timeline = Timeline(colour_task(pairs), rows, Embeddings([row.text for row in rows], NoEncoder()), setup)
    found = timeline.run(lambda _: None)
    assert found.verdict.short_of == "closed answers"


def test_embeddings_are_those_of_all_texts_at_once(encoder):
    texts = [text for text, _ in sentences(1100)]
    found = Embeddings(texts, encoder)
    assert found.upto(3).shape == (3, encoder.dimension)
    assert (found.upto(5000) == encoder.encode(texts)).all()


def test_the_first_tier_answers_as_its_certificate_says(replay):
    found = replay(PAIRS)
    certificate = found.adopted[-1][1].verdict
    position = found.adopted[-1][0]
    assert certificate.first is not None
    assert not (found.first & ~found.served).any()
    share = found.first[position:].sum() / max(1, found.ran[position:].sum())
    assert share == pytest.approx(certificate.first.n_served / certificate.n, abs=0.15)


def test_the_naive_threshold_stands_behind_the_same_scope_gate(replay):
    """A control that lacked the gate would look worse than it is."""
    found = replay(noisy(sentences(700, seed=3), 0.3), claim=dataclasses.replace(CLAIM, max_risk=0.3))
    assert found.adopted
    assert found.naive.sum() >= found.served.sum()
    assert not (found.naive & ~found.ran).any()


def swapped(pairs):
    """The same texts under a reference that has exchanged all names."""
    names = dict(zip(COLOURS, (*COLOURS[1:], COLOURS[0]), strict=True))
    return [(text, names[colour]) for text, colour in pairs]


def test_a_reference_that_exchanges_all_names_is_certified_again_soon(replay):
    """What was known before is wrong now: it neither teaches nor counts as a loss."""
    found = replay(sentences(600, seed=1) + swapped(sentences(500, seed=2)))
    (_, first), (again, last) = found.adopted
    assert 600 < found.withdrawn_at < 700
    assert again - found.withdrawn_at < 200
    assert last.verdict.coverage > 0.9
    assert found.mode == "serve"
    assert (found.served & found.differs)[again:].mean() < 0.1
    assert last.fitted.sha256 != first.fitted.sha256


def foreign(n, seed=0):
    """Texts that are no business of the task, which the reference answers with a colour all the same."""
    words = random.Random(seed)
    return [
        (" ".join("".join(words.choices("xqzvkw", k=6)) for _ in range(6)), words.choice(COLOURS)) for _ in range(n)
    ]


def test_drift_raises_the_coin_from_the_next_request_on(replay):
    """Half of the requests are suddenly of another kind: seen in their scores, before a label says anything."""
    strange = [pair for pairs in zip(sentences(200, seed=5), foreign(200), strict=True) for pair in pairs]
    usual = sentences(600, seed=1)
    found, alone = replay(usual + strange, audit_rate=0.05), replay(usual + sentences(400, seed=5), audit_rate=0.05)
    assert alone.drifts == []
    position, message = found.drifts[0]
    assert 600 < position < 750
    assert "has drifted" in message
    assert found.mode == "serve"
    fell = np.random.default_rng(0).random(len(found.rows))
    until = found.drifts[1][0] if len(found.drifts) > 1 else len(found.rows)
    assert (found.audited == (fell < 0.05))[found.ran][: position - found.adopted[0][0] + 1].all()
    assert (found.audited[position:until] == (fell < 0.2)[position:until]).all()


def test_without_a_rate_the_certificate_chooses_one(replay):
    found = replay(sentences(700, seed=1), audit_rate=None)
    ((position, tried),) = found.adopted
    rate = Drift(tried.verdict).rate
    assert 0.01 < rate < 0.1
    fell = np.random.default_rng(0).random(700) < rate
    assert (found.audited == fell)[position - 1 :].all()


def some_violet(pairs, every=3):
    """Some requests are about a colour that was never asked for before."""
    return [
        (text.replace(" is red", " is violet"), "violet") if i % every == 0 and colour == "red" else (text, colour)
        for i, (text, colour) in enumerate(pairs)
    ]


def test_a_new_answer_is_learnt_and_the_fresh_certificate_replaces_the_old_one(replay):
    found = replay(sentences(400, seed=1) + some_violet(sentences(1100, seed=2)), audit_rate=0.05)
    (_, first), (position, last) = found.adopted
    is_violet = np.array([row.answer == "violet" for row in found.rows])
    assert found.withdrawn_at is None
    assert (~found.served)[is_violet][:20].all(), "the first are deferred"
    assert found.served[position:][is_violet[position:]].mean() > 0.85
    assert not (found.served & found.differs)[position:].any()
    assert "violet" not in first.fitted.classes[0]
    assert "violet" in last.fitted.classes[0]
    assert first.verdict.claim == last.verdict.claim
    proof = [int(key) - 1 for key in last.verdict.details["request_ids"]]
    assert found.audited[proof].all()


def test_without_a_new_answer_the_same_traffic_starts_no_proof(replay):
    """The control of the test above: it was the new answer, not the growth of the log."""
    found = replay(sentences(1500, seed=1), audit_rate=0.05)
    assert len(found.adopted) == 1
