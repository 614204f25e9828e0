"""ROUGE-L of words, and finding the nearest text by it without comparing all."""

from __future__ import annotations

import random

import pytest

from pilotfish.scoring.word_overlap import MOST_COMPARED, Near, overlap, words_of


def test_it_is_the_measure_of_the_library_that_papers_cite() -> None:
    rouge = pytest.importorskip("rouge_score.rouge_scorer", reason="needs the extra compare")
    scorer = rouge.RougeScorer(["rougeL"])
    rng = random.Random(0)
    for _ in range(60):
        a, b = (" ".join(rng.choice("abcde") for _ in range(rng.randrange(1, 30))) for _ in range(2))
        assert overlap(words_of(a), words_of(b)) == pytest.approx(scorer.score(a, b)["rougeL"].fmeasure)


def test_figures_must_be_equal_and_a_negation_is_near() -> None:
    told = words_of("Your rebate is 40 per cent until the end of May.")
    assert overlap(told, words_of("your rebate: 40 per cent, until end of May")) == pytest.approx(0.9)
    assert overlap(told, words_of("Your rebate is 45 per cent until the end of May.")) == 0.0
    assert overlap(words_of("you may return it"), words_of("you may not return it")) == pytest.approx(8 / 9)


def test_the_nearest_is_the_one_that_comparing_all_would_find() -> None:
    rng = random.Random(1)
    vocabulary = [f"w{letter}" for letter in "abcdefghijkl"]
    texts = [tuple(rng.choices(vocabulary, k=rng.randrange(3, 14))) for _ in range(MOST_COMPARED)]
    n_near = 0
    for least in (0.6, 0.8, 0.9):
        near = Near(least)
        for text in texts:
            near.add(text)
        for text in texts:
            asked = tuple(word for word in text if rng.random() < 0.9) or text
            found = [overlap(asked, one) for one in texts]
            best = max(found)
            assert near.nearest(asked) == (found.index(best) if best >= least else None)
            n_near += best >= least
    assert n_near > 30
