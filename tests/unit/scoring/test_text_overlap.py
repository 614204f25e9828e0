import pytest

from pilotfish.core.errors import UserError
from pilotfish.core.item import Item
from pilotfish.scoring.scorers import corpus_figures, scorer

pytest.importorskip("sacrebleu")
pytest.importorskip("rouge_score.rouge_scorer")  # seconds to load, which belong to no test

# The example of sacrebleu's README, which gives BLEU = 48.53 and chrF2 = 59.73.
REFERENCES = [
    ["The dog bit the man.", "The dog had bit the man."],
    ["It was not unexpected.", "No one was surprised."],
    ["The man bit him first.", "The man had bitten the dog."],
]
ANSWERS = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]


def item(expected):
    return Item(id="one", messages=[], expected=expected, tags={})


PAIRS = [(item(some), answer) for some, answer in zip(REFERENCES, ANSWERS, strict=True)]


def test_bleu_and_chrf_of_a_corpus_are_sacrebleus_with_its_signature():
    bleu, chrf = corpus_figures("bleu", PAIRS), corpus_figures("chrf", PAIRS)
    assert round(100 * float(bleu["bleu"]), 2) == 48.53
    assert round(100 * float(chrf["chrf"]), 2) == 59.73
    assert str(bleu["signature"]).startswith("nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_references_may_differ_in_number():
    pairs = [(item(["The dog bit the man."]), ANSWERS[0]), *PAIRS[1:]]
    assert 0 < float(corpus_figures("bleu", pairs)["bleu"]) <= 1


def test_rouge_counts_words_pairs_and_the_longest_run():
    """By hand: 6 of 8 and 9 words shared, 2 of 7 and 8 pairs, "the quick brown ... the" of length 5."""
    right, answer = "the quick brown fox jumps over the lazy dog", "the quick brown dog jumps on the log"
    values = [scorer("rouge", kind=kind)(item(right), answer).value for kind in ("rouge1", "rouge2", "rougeL")]
    assert values == pytest.approx([2 * 6 / 17, 2 * 2 / 15, 2 * 5 / 17])
    assert scorer("rouge")(item(["nothing", answer]), answer).value == 1


def test_a_right_text_is_worth_1_and_a_foreign_one_0():
    for name in ("rouge", "bleu", "chrf"):
        assert scorer(name)(item("The dog bit the man."), "The dog bit the man.").value == pytest.approx(1)
        assert scorer(name)(item("The dog bit the man."), "zzz").value == 0


def test_an_unknown_rouge_is_an_error():
    with pytest.raises(UserError, match="rouge1, rouge2, rougeL"):
        scorer("rouge", kind="rouge9")(item("a"), "a")
