import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.core.task import AnswerShape, Field
from pilotfish.scoring.answers import disagreement, parse, render, settle


def zipf(values, n, seed=0):
    weights = [1 / (rank + 1) for rank in range(len(values))]
    return random.Random(seed).choices(values, weights, k=n)


def test_settles_on_labels_most_frequent_first_in_the_references_style():
    shape = settle(["Billing"] * 30 + ["billing."] * 5 + ['"Refund"'] * 20)
    assert shape.kind == "label"
    assert shape.fields == (Field(name="", values=("billing", "refund")),)
    assert render(shape, ("billing",)) == "Billing"
    assert render(shape, ("refund",)) == '"Refund"'


def test_stays_open_until_the_set_has_settled():
    labels = [f"intent {number}" for number in range(77)]
    answers = random.Random(1).choices(labels, k=1000)
    assert not settle(answers[:100]).is_closed
    assert len(settle(answers).fields[0].values) == 77


def test_rare_values_do_not_open_a_label_task():
    shape = settle(zipf([f"intent {number}" for number in range(60)], 1500))
    assert shape.kind == "label"


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([f"Dear customer {n}, thank you for {n * 7} kind words" for n in range(500)], id="free text"),
        pytest.param([str(n * 13) for n in range(500)], id="numbers"),
        pytest.param(zipf([f"city {n}" for n in range(5000)], 800), id="an open vocabulary"),
        pytest.param(["yes"] * 300 + ["It depends on the case, since " + "x" * 100] * 200, id="mostly prose"),
        pytest.param(["yes", "no"] * 5, id="too few"),
        pytest.param(["", "  "] * 50, id="nothing"),
        pytest.param([], id="none"),
    ],
)
def test_what_is_not_closed_says_why(answers):
    shape = settle(answers)
    assert shape.kind == "text"
    assert shape.why_open
    assert parse(shape, "anything") is None


@pytest.mark.parametrize(
    "misfit",
    ["Sorry, I cannot help with that.", "I'm unable to say.", "I can’t tell from this.", "{", "word " * 200],  # noqa: RUF001
)
def test_a_few_misfits_leave_the_task_closed_and_have_no_values(misfit):
    shape = settle(["spam", "ham"] * 100 + [misfit] * 20)
    if misfit == "{":
        assert parse(shape, misfit) == ("{",)
    else:
        assert shape.fields[0].values == ("spam", "ham")
        assert parse(shape, misfit) is None


def test_numbers_are_compared_as_numbers():
    shape = settle(["1", "2.0", "3.", " 4 ", "5"] * 20)
    assert shape.kind == "number"
    assert set(shape.fields[0].values) == {"1", "2", "3", "4", "5"}
    assert parse(shape, "2") == parse(shape, "2.00") == ("2",)
    assert render(shape, ("2",)) == "2.0"
    assert parse(shape, "7") == ("7",)
    assert parse(shape, "seven") is None


def test_leading_zeros_and_recurring_words_make_labels():
    assert settle(["007", "008"] * 20).kind == "label"
    assert settle(["1", "2", "3", "n/a"] * 20).kind == "label"


def test_a_new_label_is_a_value_that_disagrees():
    shape = settle(["spam", "ham"] * 50)
    assert parse(shape, "Phishing.") == ("phishing",)
    assert render(shape, ("phishing",)) == "phishing"
    assert disagreement(parse(shape, "Phishing"), ("spam",)) == 1.0
    assert disagreement(parse(shape, "SPAM"), ("spam",)) == 0.0
    assert disagreement(None, None) == 1.0


STYLES = [
    pytest.param(json.dumps, id="plain"),
    pytest.param(lambda row: json.dumps(row, separators=(",", ":")), id="compact"),
    pytest.param(lambda row: json.dumps(row, indent=2), id="indented"),
    pytest.param(lambda row: f"```json\n{json.dumps(row, indent=4)}\n```", id="fenced"),
    pytest.param(lambda row: "{ " + json.dumps(row)[1:-1] + " }\n", id="spaced"),
]


@pytest.mark.parametrize("write", STYLES)
def test_json_is_rendered_as_the_reference_writes_it(write):
    rng = random.Random(0)
    rows = [
        {
            "urgency": rng.choice([1, 2, 3]),
            "intent": rng.choice(["refund", 'say "hi"', "a{b}"]),
            "human": rng.random() < 0.5,
        }
        for _ in range(100)
    ]
    answers = [write(row) for row in rows]
    shape = settle([*answers, *(json.dumps(dict(reversed(row.items()))) for row in rows[:30]), "Sorry!", "{broken"])
    assert [field.name for field in shape.fields] == ["urgency", "intent", "human"]
    for row, answer in zip(rows, answers, strict=True):
        values = parse(shape, answer)
        assert values == tuple(json.dumps(value) for value in row.values())
        assert render(shape, values) == answer
        assert parse(shape, json.dumps(dict(reversed(row.items())), indent=1)) == values


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(lambda n: {"intent": "a", "reason": f"because of {n}"}, id="free text"),
        pytest.param(lambda n: {"intent": "a", "tags": ["x"]}, id="nested"),
        pytest.param(lambda n: {"intent": "a", "score": n / 7}, id="quantity"),
        pytest.param(lambda n: {f"key {n}": "a"}, id="no common keys"),
        pytest.param(lambda n: {}, id="empty"),
        pytest.param(lambda n: {"a": "x" * 60 * (n % 2), "b": [] if n % 3 else 1}, id="no row with all fields closed"),
    ],
)
def test_json_with_an_open_field_is_only_observed(row):
    shape = settle(json.dumps(row(n)) for n in range(200))
    assert shape.kind == "text"
    assert shape.why_open


@pytest.mark.parametrize(
    "text", ["[1]", "NaN", '{"a": NaN}', '{"a": 1', "x" * 9, '{"b": 1}', "[" * 99999, '{"a": ["x"]}']
)
def test_an_answer_that_is_no_such_object_has_no_values(text):
    shape = settle(['{"a": 1}', '{"a": 2}'] * 20)
    assert shape.kind == "json"
    assert parse(shape, text) is None


@given(st.lists(st.text(max_size=20), max_size=60))
def test_any_texts_settle_and_what_was_parsed_round_trips(texts):
    shape = settle(texts * 4)
    for text in texts:
        values = parse(shape, text)
        if values is not None:
            assert parse(shape, render(shape, values)) == values


def test_a_shape_made_by_hand_needs_no_style():
    shape = AnswerShape(kind="label", fields=(Field(name="", values=("a", "b")),))
    assert render(shape, ("a",)) == "a"
