import json

import pytest

from pilotfish.core.errors import DataError
from pilotfish.core.item import Item
from pilotfish.scoring.scorers import corpus_figures, scorer
from pilotfish.scoring.spans import entities_of_tags, normalised, token_f1


def item(expected, context=""):
    return Item(id="one", messages=[], expected=expected, tags={}, context=context)


def test_squad_removes_case_punctuation_articles_and_spaces():
    assert normalised(" The  U.S.A., an  Island\n") == "usa island"


@pytest.mark.parametrize(
    ("answer", "gold", "f1"),
    [
        ("Denver Broncos", "the Denver Broncos", 1.0),
        ("Broncos", "Denver Broncos", 2 / 3),
        ("the Broncos of Denver", "Denver Broncos", 0.8),
        ("Carolina Panthers", "Denver Broncos", 0.0),
        ("", "", 1.0),
        ("the", "", 1.0),
        ("something", "", 0.0),
        ("a a b", "a b b", 2 / 3),  # the article goes: "b" in "b b"
    ],
)
def test_token_f1_is_squads(answer, gold, f1):
    assert token_f1(answer, gold) == pytest.approx(f1)


def test_the_best_gold_answer_counts():
    score = scorer("squad_f1")(item(["in 1066", "1066"]), "1066")
    assert score.value == 1
    assert score.note == "exact match 1"
    assert scorer("squad_f1", exact=True)(item(["in 1066"]), "1066").value == 0
    assert scorer("squad_f1")(item([]), "").value == 1


# The examples of seqeval's documentation; 400 random corpora gave its figures too (seqeval 1.2.2, both modes).
GOLD = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
FOUND = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]


def test_entities_of_a_corpus_are_seqevals():
    pairs = [(item(gold), json.dumps(found)) for gold, found in zip(GOLD, FOUND, strict=True)]
    assert corpus_figures("entity_f1", pairs) == {"precision": 0.5, "recall": 0.5, "micro_f1": 0.5, "macro_f1": 0.5}


def test_strict_tags_open_an_entity_with_b_only():
    gold, found = ["B-NP", "I-NP", "O"], "I-NP I-NP O"
    assert scorer("entity_f1")(item(gold), found).value == 1
    assert scorer("entity_f1", strict=True)(item(gold), found).value == 0
    assert entities_of_tags(["B-a", "I-b", "I-b", "B-b"]) == [("a", (0, 0)), ("b", (1, 2)), ("b", (3, 3))]
    assert entities_of_tags(["B-a", "I-b", "I-b", "B-b"], strict=True) == [("a", (0, 0)), ("b", (3, 3))]


def test_a_corpus_weighs_entities_and_not_items():
    many, none = ["B-a", "O"] * 3, ["O", "O"]
    pairs = [(item(many), json.dumps(many)), (item(none), json.dumps(["B-b", "O"])), (item(["B-b"]), "no idea")]
    figures = corpus_figures("entity_f1", pairs)
    assert figures["precision"] == 3 / 4
    assert figures["recall"] == 3 / 4
    assert figures["macro_f1"] == 0.5
    assert scorer("entity_f1")(item(none), '["O", "O"]').value == 1
    assert scorer("entity_f1")(item(none), "[]").value == 1


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ('[{"type": "loc", "text": "New York"}]', 1.0),
        ('Entities:\n```json\n{"entities": [{"type": "loc", "text": "New York"}]}\n```', 1.0),
        ('[{"type": "per", "text": "New York"}]', 0.0),
        ('[{"type": "loc", "text": "York"}]', 0.0),
        ('[{"type": "loc", "text": "New York"}, {"type": "loc", "text": "Boston"}]', 2 / 3),
        ("O O B-loc I-loc", 1.0),
    ],
)
def test_entities_may_be_named_by_their_text(answer, value):
    tagged = item(["O", "O", "B-loc", "I-loc"], "I like New York")
    assert scorer("entity_f1")(tagged, answer).value == pytest.approx(value)


def test_typed_spans_are_found_at_their_offsets():
    text = "Ann met Ann."
    both = item([{"type": "per", "start": 0, "end": 3}, {"type": "per", "start": 8, "end": 11}], text)
    twice = json.dumps([{"type": "per", "text": "Ann"}] * 2)
    assert scorer("entity_f1")(both, twice).value == 1
    assert scorer("entity_f1")(both, twice.replace("}]", "}, 3]")).failure == "parse"
    assert scorer("entity_f1")(both, '[{"type": "per", "start": 8, "end": 11}]').value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("O O O", "3 tags for 2 tokens"),
        ('["X-a", "O"]', "other than"),
        ("none", "neither tags"),
        ('[{"a": 1}]', "without"),
    ],
)
def test_what_is_no_tagging_is_a_parse_failure(answer, why):
    score = scorer("entity_f1")(item(["O", "B-a"], "x y"), answer)
    assert score.failure == "parse"
    assert why in score.note


def test_expected_entities_of_no_known_form_are_an_error():
    with pytest.raises(DataError, match="IOB2 tags"):
        scorer("entity_f1")(item(["PER", "LOC"]), "[]")
