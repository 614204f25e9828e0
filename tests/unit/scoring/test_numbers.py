import gzip
import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.core.errors import DataError
from pilotfish.core.item import Item
from pilotfish.scoring.numbers import read_number
from pilotfish.scoring.scorers import scorer


def item(expected):
    return Item(id="one", messages=[], expected=expected, tags={})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("72", 72),
        ("The total is 72 clips.", 72),
        ("$1,234.50.", Fraction(2469, 2)),
        ("1'234'567", 1234567),
        ("3/4", Fraction(3, 4)),
        ("1 1/2 cups", Fraction(3, 2)),
        (r"so it is \frac{3}{4}", Fraction(3, 4)),
        ("3-(-2)\n#### 5\n", 5),
        ("#### -5", -5),
        ("#### $70,000 in 2 years", 70000),
        ("it is \u22125 °C", -5),
        ("5-3=2", 2),
        ("5-3", 3),
        (r"\boxed{42} is what step 7 gives", 42),
        ("12km", 12),
        ("1e5", 100000),
        ("50%", 50),
        ("1,2,3,4", 4),
        ("3.5.", Fraction(7, 2)),
        ("**10**", 10),
        (".5", Fraction(1, 2)),
        ("<<16-3-4=9>>9. #### 20", 20),
        ("1/0", None),
        ("in a B2B", None),
        ("no idea", None),
        ("#### none of the 3", 3),
    ],
)
def test_the_number_meant_is_read(text, number):
    assert read_number(text) == number


def test_the_mark_can_be_demanded():
    assert read_number("it is 5", needs_mark=True) is None
    assert scorer("number", needs_mark=True)(item("5"), "it is 5").failure == "parse"


def test_a_number_counts_within_its_tolerance_only():
    assert scorer("number")(item(0.3), "0.3").value == 1
    assert scorer("number")(item("1/3"), "0.333").value == 0
    assert scorer("number", tolerance=0.001)(item("1/3"), "0.333").value == 1
    assert scorer("number", relative=0.01)(item(1000), "1009").value == 1
    assert scorer("number", relative=0.01)(item(1000), "1011").value == 0
    assert scorer("number")(item(1000000), "1000001").value == 0


@pytest.mark.parametrize("expected", ["none", True, [1], {"a": 1}])
def test_an_expected_answer_that_is_no_number_is_an_error(expected):
    with pytest.raises(DataError, match="needs a number"):
        scorer("number")(item(expected), "1")


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "about {:,} km", "9 and {}.", "#### {:,}\n"]))
def test_every_way_to_write_a_whole_number_is_read(number, form):
    assert read_number(form.format(number)) == number


@given(st.text(max_size=200))
def test_no_text_breaks_the_reading(text):
    read_number(text)


@pytest.mark.parametrize("text", ["9" * 100_000, "1," * 50_000, "1/" * 50_000, "1e99" * 9, "." * 100_000, "{" * 9999])
def test_long_runs_are_read_quickly_and_without_an_error(text):
    read_number(text)
    read_number("\\boxed" + text)


def last_digits(text):
    """The rule by which the recorded labels of GSM8K were made (RouteLLM): the last run of digits, commas removed."""
    runs = "".join(sign if sign.isdigit() else " " for sign in text.replace(",", "")).split()
    return runs[-1] if runs else ""


def test_recorded_gsm8k_labels_agree_but_where_their_rule_reads_cents_and_signs(shared_data):
    """656 answers of each model: every difference is an answer such as "$20.00", "-15" or "7 packs and 2 sticks"."""
    rows = map(json.loads, gzip.decompress((shared_data / "routing_gsm8k.jsonl.gz").read_bytes()).splitlines())
    score, same = scorer("number"), {}
    for row in rows:
        for model, answer in row["responses"].items():
            if row["contaminated"]:
                continue
            recorded = row["scores"][model]
            assert recorded == (last_digits(answer) == last_digits(row["gold"]))
            found = score(item(row["gold"]), answer).value
            same.setdefault(model, []).append(found == recorded)
    assert {model: (sum(found), len(found)) for model, found in same.items()} == {
        "mistralai/Mixtral-8x7B-Instruct-v0.1": (650, 656),
        "gpt-4-1106-preview": (631, 656),
    }
