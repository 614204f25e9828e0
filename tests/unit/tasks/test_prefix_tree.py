"""The prefix tree against the plain definition, on random texts of a small alphabet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilotfish.tasks.prefix_tree import PrefixTree, n_shared

TEXT = st.text("ab", max_size=8)


@given(st.sets(TEXT), TEXT)
def test_it_finds_each_stored_beginning_and_nothing_else(stored: set[str], text: str) -> None:
    tree: PrefixTree[str] = PrefixTree()
    for item in stored:
        tree.at(item).value = item
    expected = sorted((item for item in stored if text.startswith(item)), key=len)
    assert list(tree.values(text)) == [(len(item), item) for item in expected]


@given(TEXT, TEXT, TEXT)
def test_n_shared_is_the_length_of_the_common_beginning(head: str, a: str, b: str) -> None:
    n = n_shared(head + a, head + b, len(head))
    assert (head + a)[:n] == (head + b)[:n]
    assert n >= len(head)
    assert (head + a)[n : n + 1] != (head + b)[n : n + 1] or n == len(head + a) == len(head + b)
