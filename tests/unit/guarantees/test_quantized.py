"""What is said of a quantized model, from runs made by hand and from one that is measured."""

from __future__ import annotations

import pytest

from pilotfish.core.measured import Measured
from pilotfish.evals.verdict import Rule
from pilotfish.guarantees.quantized import Loaded, Run, Said, Subject, judge, measure

RULE = Rule(margin=0.05, resamples=500)


def run(kind, answers, *, right=None, confidence=0.5):
    scores = [None if right is None else float(answer == right) for answer in answers]
    said = [
        Said(answers=[answer], confidence=[confidence + 0.001 * place], score=score)
        for place, (answer, score) in enumerate(zip(answers, scores, strict=True))
    ]
    memory = Measured(value=None, unit="bytes", why_none="not measured here")
    return Run(kind=kind, size_bytes=1, memory=memory, latencies_s=[0.1] * len(said), said=said)


def test_flips_are_counted_also_among_the_most_confident_before():
    before = run("fp32", ["a"] * 100, right="a")
    # The least confident fifteen come first: of the 20 flips five are among the others.
    after = run("int8", ["b"] * 20 + ["a"] * 80, right="a")
    (change,) = judge(before, [after], RULE, {})
    assert (change.n_answers, change.n_flipped) == (100, 20)
    assert (change.n_confident, change.n_confident_flipped) == (85, 5)
    assert (change.comparison.verdict, change.is_harmless) == ("worse", False)


def test_many_kinds_share_the_tolerated_error():
    before, same = run("fp32", ["a"] * 100, right="a"), run("int8", ["a"] * 100, right="a")
    (alone,) = judge(before, [same], RULE, {})
    together = judge(before, [same] * 40, RULE, {})
    assert alone.is_harmless
    assert not any(change.is_harmless for change in together)
    assert "more items" in together[0].sentence


def test_items_that_hang_together_weigh_as_one():
    before, same = run("fp32", ["a"] * 100, right="a"), run("int8", ["a"] * 100, right="a")
    (change,) = judge(before, [same], RULE, {}, clusters=[f"passage {place // 25}" for place in range(100)])
    assert not change.is_harmless


def test_without_right_answers_it_is_unknown_whether_it_is_harmless():
    (change,) = judge(run("fp32", ["a"] * 30), [run("int8", ["a"] * 30)], RULE, {"int8": 0.25})
    assert (change.comparison, change.is_harmless, change.n_flipped, change.kl) == (None, False, 0, 0.25)
    assert change.sentence == "Whether int8 is harmless is unknown: the data names no right answers."


def test_a_model_is_asked_after_a_warm_up_that_is_not_timed():
    asked = []

    def ask(text, expected):
        asked.append(text)
        return Said(answers=[text], confidence=[1.0], score=float(text == expected), loss=2.0)

    items = [(str(number), "3") for number in range(8)]
    found = measure(Subject(kind="it", open=lambda: Loaded(ask=ask, size_bytes=7)), items)
    assert len(found.latencies_s) == len(found.said) == 8
    assert (found.score, found.size_bytes) == (1 / 8, 7)
    assert found.perplexity == pytest.approx(7.389, abs=1e-3)
    if asked:  # where other threads run, and it could not have a process of its own
        assert asked == [text for text, _ in [*items[:5], *items]]
        assert found.memory.value is None
