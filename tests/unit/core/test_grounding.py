import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.core.grounding import Words, canonical, of_json, places


@pytest.mark.parametrize(
    ("source", "written", "value"),
    [
        ("span", "The  Beatles", '"the beatles"'),
        ("span", "rock-n-roll", '"rock - n - roll"'),
        ("span", "", None),
        ("number", "1,234,567.50", "1234567.5"),
        ("number", "-0.0", "0"),
        ("number", "twenty-five", "25"),
        ("number", "forty", "40"),
        ("number", "five twenty", None),
        ("number", "twenty zero", None),
        ("number", "12,34", None),
        ("number", "4th", None),
        ("date", "2024-03-05", '"2024-03-05"'),
        ("date", "5th of March, 2024", '"2024-03-05"'),
        ("date", "Mar 5 2024", '"2024-03-05"'),
        ("date", "25/03/2024", '"2024-03-25"'),
        ("date", "03/25/2024", '"2024-03-25"'),
        ("date", "05/03/2024", None),
        ("date", "31/02/2024", None),
        ("date", "5 Smarch 2024", None),
        ("closed", "yes", None),
    ],
)
def test_what_is_written_has_one_canonical_value(source, written, value):
    assert canonical(source, written) == value


@pytest.mark.parametrize(
    ("source", "found", "value"),
    [
        ("number", 12.5, "12.5"),
        ("number", True, None),
        ("number", "12", None),
        ("number", 1e300, None),
        ("date", "2024-03-05", '"2024-03-05"'),
        ("date", "5 March 2024", None),
        ("span", 3, None),
    ],
)
def test_json_values_are_read_as_the_field_asks(source, found, value):
    assert of_json(source, found) == value


def test_a_value_stands_at_whole_words_the_longest_run_first():
    words = Words.of("Pay 1,200.00 for 1 table, then 200")
    assert [words.between(*at) for at in places("number", "1200", words)] == ["1,200.00"]
    assert [words.between(*at) for at in places("span", '"table"', words)] == ["table"]
    assert list(places("span", '"tab"', words)) == []


@given(text=st.text(max_size=60), data=st.data())
def test_whatever_is_copied_from_a_text_is_found_in_it(text, data):
    words = Words.of(text)
    if not len(words):
        return
    first = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(first + 1, len(words)))
    value = canonical("span", words.between(first, end))
    if value is not None:
        assert (first, end) in places("span", value, words)
