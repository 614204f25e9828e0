import json
import sys

import pytest

from pilotfish.core.errors import DataError, MissingExtraError, UserError
from pilotfish.core.item import Item
from pilotfish.scoring.scorers import SCORERS, Score, corpus_figures, default_scorer, scorer, with_finish

CITIES = ("London", "Paris", "Rome", "Oslo")


def item(expected, **parts):
    return Item(id="one", messages=[], expected=expected, tags={}, **parts)


@pytest.mark.parametrize(
    ("answer", "value"),
    [("Paris", 1), ('  "paris".', 1), ("PARIS", 1), ("Paris, France", 0), ("Lyon", 0)],
)
def test_exact_folds_what_carries_no_meaning(answer, value):
    assert scorer("exact")(item("Paris"), answer) == Score(value)


def test_exact_without_folding_compares_letter_by_letter():
    assert scorer("exact", fold=False)(item("Paris"), "paris").value == 0
    assert scorer("exact", fold=False)(item(["Paris", "paris"]), " paris\n").value == 1


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("card_arrival", "card_arrival"),
        ("Card arrival.", "card_arrival"),
        ("The label is card-arrival, not lost_card.", "card_arrival"),
        ("lost_card_stolen", "lost_card_stolen"),
        ("This is a lost card stolen abroad", "lost_card_stolen"),
        ("discard_arrival", None),
        ("refund", None),
    ],
)
def test_a_label_is_the_first_of_the_set_that_is_mentioned(answer, read):
    labels = ("lost_card", "card_arrival", "lost_card_stolen")
    score = scorer("label")(item("card_arrival", choices=labels), answer)
    assert score.failure == ("" if read else "parse")
    assert score.value == (read == "card_arrival")
    assert read is None or repr(read) in score.note


def test_a_label_needs_a_set():
    with pytest.raises(DataError, match="names no label set"):
        scorer("label")(item("a"), "a")
    assert scorer("label", labels=["a", "b"])(item("a"), "a").value == 1


@pytest.mark.parametrize(
    "answer",
    [
        "B", "b", "(B)", "B.", "**B**", "B) Paris", "B. Paris", "The answer is (B)", "The answer is (B).",
        "the correct answer is: B", "Answer: B", "Answer: **B**", "Option B is correct.", "B is the correct answer",
        "(A) is wrong because it is London. The answer is B.", "\\boxed{B}", "So $\\boxed{\\text{B}}$.", "Paris",
        "I think it is Paris.", "The answer is A. No: the final answer is B.", "The best answer is B because A cow",
        "The answer is b.", "#### B", "I would go with B.", "B\n\nExplanation: A is not right.", "answer is option B",
        "The correct option is B, not A.", "Let's see. A is London. B is Paris. So the answer is B",
    ],
)  # fmt: skip
def test_a_letter_is_read_from_the_forms_in_which_models_give_it(answer):
    assert scorer("choice")(item("B", choices=CITIES), answer) == Score(1.0, "", "read B")


@pytest.mark.parametrize(
    "answer",
    ["A or B", "The answer is A or B", "Either (A) or (B)", "A. is wrong\nB. is right", "Paris or Rome",
     "Definitely E", "The answer is a dog", "I know", "None of these"],
)  # fmt: skip
def test_a_letter_is_not_guessed(answer):
    score = scorer("choice")(item("B", choices=CITIES), answer)
    assert (score.value, score.failure) == (0.0, "parse")


@pytest.mark.parametrize("expected", ["B", "(B)", 1, "Paris"])
def test_the_right_choice_is_given_as_letter_index_or_text(expected):
    assert scorer("choice")(item(expected, choices=CITIES), "B").value == 1
    assert scorer("choice")(item(expected, choices=CITIES), "C").value == 0


@pytest.mark.parametrize("expected", ["E", 4, -1, True, "Lyon", {}])
def test_a_right_choice_that_is_none_is_an_error(expected):
    with pytest.raises(DataError, match="letter, an index from 0 or the text"):
        scorer("choice")(item(expected, choices=CITIES), "B")


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ('{"city": "Paris", "n": 2}', 1.0),
        ('Here it is:\n```json\n{"n": 2.0, "city": "Paris"}\n```', 1.0),
        ('The object {"city": "Paris", "n": 3} it is', 0.5),
        ('{"city": "Paris"}', 0.5),
        ('{"city": "Paris", "n": 2, "more": 1, "most": 2}', 0.5),
        ('{"city": "paris", "n": true}', 0.0),
    ],
)
def test_json_counts_the_fields_that_are_equal(answer, share):
    right = {"city": "Paris", "n": 2}
    assert scorer("json")(item(right), answer).value == share
    assert scorer("json", all_fields=True)(item(json.dumps(right)), answer).value == (share == 1)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [('{"city": "Par', "truncated"), ('{"city": "Paris",', "truncated"), ("Paris", "parse"), ("[1]", "parse"),
     ("{" * 100_000, "parse"), ("I'm sorry, but I can't help with that.", "refusal")],
)  # fmt: skip
def test_what_holds_no_object_says_why(answer, failure):
    assert scorer("json")(item({"city": "Paris"}), answer).failure == failure


def test_a_pattern_is_searched_and_stopped_when_it_runs_away():
    assert scorer("regex")(item(r"\bpar[iy]s\b"), "in parys!").value == 1
    assert scorer("regex", whole=True)(item(r"par[iy]s"), "in parys").value == 0
    assert scorer("regex", pattern="^x")(item(None), "x").value == 1
    with pytest.raises(UserError, match="no regular expression"):
        scorer("regex")(item("("), "x")
    runaway = scorer("regex", pattern=r"(a|aa)+$", timeout_s=0.05)(item(None), "a" * 60 + "b")
    assert runaway.failure == "timeout"


def test_a_refusal_is_one_unless_it_was_asked_for():
    text = "I'm sorry, but I cannot help with that."
    assert scorer("exact")(item("Paris"), text).failure == "refusal"
    assert scorer("exact")(item("Sorry, no."), text) == Score(0.0)
    assert scorer("number")(item("3"), "I don't see it at once, but it is 3.").value == 1


@pytest.mark.parametrize(
    ("score", "finish", "after"),
    [
        (Score(0.4), "length", "truncated"),
        (Score(0.0, "parse"), "length", "truncated"),
        (Score(0.0, "parse"), "content_filter", "refusal"),
        (Score(0.4), "stop", ""),
        (Score(1.0), "length", ""),
    ],
)
def test_an_answer_that_was_cut_off_is_a_failure_unless_it_is_right(score, finish, after):
    found = with_finish(score, finish)
    assert found.failure == after
    assert not after or found.value == 0


def test_a_function_of_ones_own_is_named_by_module(tmp_path, monkeypatch):
    source = (
        "def length(item, answer, *, most=3):\n    return len(answer) <= most\n"
        "def broken(item, answer):\n    return {}[answer]\n"
        "def wild(item, answer):\n    return 7\n"
    )
    (tmp_path / "my_scorers_of_test.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert scorer("my_scorers_of_test:length")(item(None), "abc") == Score(1.0)
    assert scorer("my_scorers_of_test:length", most=2)(item(None), "abc") == Score(0.0)
    assert scorer("my_scorers_of_test:broken")(item(None), "x") == Score(0.0, "error", "KeyError: 'x'")
    with pytest.raises(UserError, match="returned 7"):
        scorer("my_scorers_of_test:wild")(item(None), "x")
    with pytest.raises(UserError, match="cannot be loaded"):
        scorer("my_scorers_of_test:missing")
    with pytest.raises(UserError, match="has no option 'least'"):
        scorer("my_scorers_of_test:length", least=1)


def test_a_library_that_is_missing_is_missed_before_the_first_answer(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pilotfish\[compare\]"):
        scorer("bleu")


def test_an_unknown_scorer_or_option_names_those_that_exist():
    with pytest.raises(UserError, match="exact, label, choice"):
        scorer("accuracy")
    with pytest.raises(UserError, match="tolerance, relative, needs_mark"):
        scorer("number", tolerence=1)


@pytest.mark.parametrize("name", sorted(set(SCORERS) - {"regex", "auto", "judge"}))
def test_an_item_that_expects_nothing_is_an_error_and_never_a_zero(name):
    with pytest.raises(DataError):
        scorer(name)(item(None), "x")


@pytest.mark.parametrize(
    ("few", "name"),
    [
        ([item("B", choices=CITIES), item(0, choices=CITIES)], "choice"),
        ([item("Paris", choices=CITIES)], "label"),
        ([item("(B)"), item("A")], "choice"),
        ([item("12"), item(3), item("1,234.5")], "number"),
        ([item({"a": 1})], "json"),
        ([item(["Paris", "paris"])], "squad_f1"),
        ([item(["O", "B-a"])], "entity_f1"),
        ([item([{"type": "a", "text": "b"}])], "entity_f1"),
        ([item(None, tests="assert True")], "unit_tests"),
        ([item("Paris"), item("Rome")], "exact"),
        ([item("a long answer " * 9)] * 2, "rouge"),
        ([item("a long answer " * 9), item("short"), item("short")], "exact"),
        ([item(None)], "judge"),
        ([item("Paris"), item("12")], "auto"),
    ],
)
def test_the_scorer_suits_what_is_expected(few, name):
    assert default_scorer(few) == name


def test_auto_scores_each_item_by_its_kind():
    assert [scorer("auto")(item(right), "12 (B)").value for right in ("12", "B", "12 (b)")] == [1, 1, 1]


def test_a_corpus_has_figures_only_where_they_are_defined():
    assert corpus_figures("exact", [(item("a"), "a")]) == {}
    assert corpus_figures("squad_f1", []) == {}
    pairs = [(item(["the cat"]), "cat"), (item(["a dog"]), "big dog")]
    assert corpus_figures("squad_f1", pairs) == {"exact_match": 0.5, "f1": pytest.approx(5 / 6)}
