from __future__ import annotations

import pytest

from pilotfish.core.outcome import Outcome, Tried
from pilotfish.routing import prompt
from pilotfish.routing.signals import BY_NAME, SIGNALS, conclusion, ending


def outcome(asked="How many?", **fields):
    return Outcome(request_id="r", prompt=asked, tried={}, **fields)


def read(name, tried, asked="How many?", **fields):
    return BY_NAME[name].read(outcome(asked, **fields), tried)


def test_what_an_answer_does_not_carry_is_unknown():
    empty = Tried(score=0.0)
    assert [signal.name for signal in SIGNALS if signal.read(outcome(), empty) is not None] == []


def test_the_deciding_token_stands_in_the_last_line_that_says_anything():
    tried = Tried(
        score=1.0,
        tokens=("Let", " me", "\n", "It", " is", " 7", "\n"),
        logprobs=(-9.0, -0.1, -0.1, -0.2, -0.1, -1.5, -3.0),
        margins=(0.0, 1.0, 1.0, 1.0, 1.0, 0.4, 0.0),
    )
    assert read("deciding logprob", tried) == 1.5
    assert read("deciding margin", tried) == -0.4
    assert read("least logprob", tried) == 9.0
    assert read("mean logprob", tried) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("text", "n_wrong"),
    [
        ("12 - 5 = 7 and 3*60=<<3*60=180>>180", 0),
        ("half of it: 100 / 8 = 12.5, so 2 + 3 x 4 = 14", 0),
        ("$1,200 * 3 = $3,600", 0),
        ("10 / 3 = 3.33", 0),
        ("12 - 5 = 8 and 4+20+7+8 = 49", 2),
        ("7 / 0 = 1", 0),
        ("x = 7", 0),
    ],
)
def test_sums_are_done_again(text, n_wrong):
    found = read("wrong arithmetic", Tried(score=0.0, text=text))
    assert found == pytest.approx([0.0, 0.6931, 1.0986][n_wrong], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "asked", "good", "bad"),
    [
        ("broken format", "Reply in JSON.", '```json\n{"a": 1}\n```', '{"a": 1'),
        ("does not compile", "Write a function.", "```python\ndef f(): return 1\n```", "```python\ndef f( return\n```"),
        ("refusal", "Do it.", "Here it is.", "I'm sorry, but I can't help with that."),
        ("truncated", "Do it.", "word " * 60 + "end.", "word " * 60 + "and th"),
        ("no conclusion", "How many?", "So the answer is 4.", "There are many."),
        ("other conclusion", "How many?", "3 * 1,200 = 3,600 (of $2)\n#### 3600.00", "3 * 4 = 12, so it is 14."),
        ("broken number", "How many?", "7 / 2 = 3.5, so 4.0 are needed", "So it is 3.5"),
        ("hedging", "How many?", "It is four.", "Perhaps it is four, I think."),
        ("unused numbers", "Take 3 of 5.", "3 of 5 is 60 %.", "Two."),
        ("samples disagree", "How many?", "It is 4.", "It is 5."),
    ],
)
def test_a_bad_answer_speaks_for_the_larger_model(name, asked, good, bad):
    samples = ("I get 4.", "4")
    scores = [read(name, Tried(score=0.0, text=text, samples=samples), asked) for text in (good, bad)]
    assert scores[0] < scores[1]
    assert scores[0] == 0.0


def test_given_tests_are_run():
    right, wrong = "def f(x):\n    return x + 1\n", "def f(x):\n    return x\n"
    for code, expected in ((right, 0.0), (wrong, 1.0)):
        tried = Tried(score=0.0, text=f"```python\n{code}```")
        assert read("fails tests", tried, "Write f.", tests="assert f(1) == 2") == expected


def test_conclusions_and_endings_are_alike_where_the_answers_are():
    assert conclusion("I get\n#### 1,200") == conclusion("The answer is 1200.")
    assert conclusion("Blue.\n") == conclusion("It is this:\n'blue'")
    assert ending("so\n#### 540\n\n") == ending("#### 7\n") != ending("#### 7.5\n")


def test_features_of_any_prompt_are_finite_and_a_long_one_costs_no_more():
    for text in ("", "?", "Which?\nA. 1\nB. two\nC. 3", "1,000 " * 5000, "\ud800 é" * 9):
        found = prompt.features(text)
        assert len(found) == len(prompt.NAMES)
        assert all(abs(value) < 50 for value in found)
    choices = dict(zip(prompt.NAMES, prompt.features("Which?\nA. 1\nB. 22\nC. three"), strict=True))
    assert choices["numeric choices"] == pytest.approx(2 / 3)
