"""Which tasks are extractions, and how their answers are read and written."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.core.errors import SpecialistError
from pilotfish.scoring.answers import parse, render, settle
from tools.tuning import questions

NAMES = [
    f"{first}{last}" for first in ("Ada", "Bo", "Cy", "Dee", "Eve") for last in ("ford", "ley", "mann", "son", "wick")
]


def bookings(n, seed=0):
    """Inputs with what they say."""
    rng = random.Random(seed)
    found = []
    for _ in range(n):
        name, seats = f"{rng.choice(NAMES)} {rng.choice(NAMES)}", rng.randrange(200, 900)
        day, month = rng.randrange(13, 29), rng.choice([1, 3, 5])
        kind = rng.choice(["table", "room"])
        said = {"kind": kind, "name": name, "seats": seats, "day": f"2024-{month:02}-{day}", "note": None}
        written = {1: "January", 3: "March", 5: "May"}[month]
        found.append(
            (f"{kind} for {seats:,} people, name {name}, on {written} {day}, 2024 please {rng.random()}", said)
        )
    return found


def settled(pairs, write=json.dumps):
    return settle([write(said) for _, said in pairs], [text for text, _ in pairs])


def test_fields_come_from_where_their_values_stand():
    shape = settled(bookings(200))
    assert shape.kind == "extraction"
    found = {item.name: item.source for item in shape.fields}
    assert found == {"kind": "span", "name": "span", "seats": "number", "day": "date", "note": "closed"}


def test_what_is_inferred_but_closed_stays_closed():
    pairs = [(text, said | {"size": "big" if said["seats"] > 500 else "small"}) for text, said in bookings(200)]
    (size,) = [item for item in settled(pairs).fields if item.name == "size"]
    assert set(size.values) == {'"big"', '"small"'}


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(json.dumps, id="one line"),
        pytest.param(lambda said: json.dumps(said, separators=(",", ":")), id="compact"),
        pytest.param(lambda said: f"```json\n{json.dumps(said, indent=2)}\n```", id="fenced, indented"),
        pytest.param(lambda said: json.dumps({key: value for key, value in said.items() if value}), id="left out"),
        pytest.param(lambda said: json.dumps({"kind": said.pop("kind"), "slots": said}), id="nested"),
        pytest.param(lambda said: json.dumps(said | {"name": [said["name"]]}), id="a list"),
        pytest.param(lambda said: json.dumps(said | {"name": said["name"].upper()}), id="recased"),
    ],
)
def test_answers_are_written_back_as_the_reference_writes_them(write):
    pairs = bookings(60)
    answers = [write(dict(said)) for _, said in pairs]
    shape = settle(answers, [text for text, _ in pairs])
    for (text, _), answer in zip(pairs, answers, strict=True):
        values = parse(shape, answer)
        assert values is not None
        assert render(shape, values, text) == answer


@pytest.mark.parametrize("within", ["", "entities"])
def test_typed_texts_are_one_field_of_spans_a_type(within):
    rng = random.Random(1)
    pairs = []
    for number in range(80):
        first, second = rng.sample(NAMES, 2)
        entities = [
            {"type": "person", "text": first},
            {"type": "person", "text": second},
            {"type": "id", "text": f"x{number}"},
        ]
        found = entities[: number % 4]
        pairs.append((f"{first} wrote to {second} about x{number}.", {within: found} if within else found))
    shape = settled(pairs)
    prefix = f"{within}." if within else ""
    assert {(item.name, item.is_list) for item in shape.fields} == {(f"{prefix}person", True), (f"{prefix}id", True)}
    for text, said in pairs:
        assert render(shape, parse(shape, json.dumps(said)), text) == json.dumps(said)
    swapped = json.dumps({within: pairs[3][1][within][::-1]} if within else pairs[3][1][::-1])
    assert parse(shape, swapped) == parse(shape, json.dumps(pairs[3][1]))


def test_a_bare_answer_may_be_a_span_or_say_that_there_is_none():
    pairs = [(text, said["name"] if number % 3 else "None found") for number, (text, said) in enumerate(bookings(90))]
    shape = settled(pairs, str)
    assert (shape.kind, shape.fields[0].nothing) == ("extraction", "None found")
    for text, said in pairs:
        assert render(shape, parse(shape, said), text) == said
    assert parse(shape, '"adaford boson"') == ('"adaford boson"',)


def test_without_their_inputs_such_answers_are_open():
    assert settle([json.dumps(said) for _, said in bookings(200)]).kind == "text"


@pytest.mark.parametrize(
    "answer",
    [
        lambda text: f"Thank you for writing about {text[::-1]}",
        lambda text: json.dumps({"summary": text[::-1], "n": 1}),
    ],
    ids=["prose", "an object of prose"],
)
def test_what_does_not_stand_in_the_input_stays_open_and_says_why(answer):
    texts = [text for text, _ in bookings(60)]
    shape = settle([answer(text) for text in texts], texts)
    assert not shape.is_closed
    assert "do not stand in the input" in shape.why_open


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "{",
        "no",
        "[]",
        "[1]",
        "null",
        '{"kind": {"x": 1}}',
        '{"other": "x"}',
        '{"name": [["x"]]}',
        '{"seats": "many"}',
        '{"a.b": 1}',
        '{"": 1}',
        '{"day": "soon"}',
        '{"name": 4}',
        "{" * 4000,
    ],
)
def test_a_malformed_answer_has_no_values(malformed):
    assert parse(settled(bookings(60)), malformed) is None


def test_a_value_that_is_not_in_the_input_is_not_written():
    shape = settled(bookings(60))
    text, said = bookings(1)[0]
    values = parse(shape, json.dumps(said | {"name": "Someone Else"}))
    with pytest.raises(SpecialistError, match="not in the input"):
        render(shape, values, text)


SHAPE = settled(bookings(60))
(NAME,) = [number for number, item in enumerate(SHAPE.fields) if item.name == "name"]


@given(text=st.text(min_size=1, max_size=80), value=st.text(max_size=12))
def test_whatever_span_is_written_stands_in_the_input(text, value):
    values = [item.empty for item in SHAPE.fields]
    values[NAME] = json.dumps(value, ensure_ascii=False)
    try:
        written = json.loads(render(SHAPE, values, text))["name"]
    except SpecialistError:
        return
    assert written in text or value == ""


def test_an_answer_of_a_question_is_written_as_it_stands_in_the_passage():
    pairs = questions(200)
    for write in (str, lambda answer: json.dumps({"answer": answer})):
        shape = settle([write(answer) for _, answer in pairs], [text for text, _ in pairs])
        assert (shape.kind, shape.question) == ("extraction", "last")
        text = "Ada met BABA there\n\nQuestion: baba or bobo?"
        assert render(shape, parse(shape, write("baba")), text) == write("BABA")
        with pytest.raises(SpecialistError):
            render(shape, parse(shape, write("bobo")), text)


def test_an_object_of_several_fields_may_copy_from_the_question():
    pairs = questions(200)
    answers = [json.dumps({"answer": answer, "choice": text.rpartition(" ")[2][:4]}) for text, answer in pairs]
    shape = settle(answers, [text for text, _ in pairs])
    assert (shape.kind, shape.question) == ("extraction", None)
