from __future__ import annotations

import dataclasses

import pytest

from pilotfish.core.item import Item
from pilotfish.core.messages import Message
from pilotfish.evals.perturb import VARIANTS, perturbed, prompts_sha
from tools.compared import item, items


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_the_same_for_every_model_and_keeps_the_item(variant):
    changed = perturbed(item(4), variant, seed=0)
    assert changed is not None
    assert changed == perturbed(item(4), variant, seed=0)
    assert changed.messages[0].text != item(4).messages[0].text
    assert (changed.id, changed.expected) == ("i4", item(4).expected)


def test_names_are_swapped_both_ways_and_typos_keep_the_letters():
    text = perturbed(item(1), "names", 0).messages[0].text
    assert text.startswith("Mary painted")
    typo = perturbed(item(1), "typos", 0).messages[0].text
    assert sorted(typo) == sorted(item(1).messages[0].text)
    assert perturbed(item(1), "case", 0).messages[0].text == item(1).messages[0].text.lower()


def test_what_cannot_be_changed_has_no_variant():
    nobody = Item(id="x", messages=[Message(role="user", content="7 * 6 = ?")], expected="42", tags={})
    assert perturbed(nobody, "names", 0) is None
    assert perturbed(nobody, "typos", 0) is None
    assert perturbed(dataclasses.replace(item(1), expected="John"), "names", 0) is None
    silent = Item(id="y", messages=[Message(role="system", content="Hello John")], expected="", tags={})
    assert perturbed(silent, "case", 0) is None


def test_the_hash_of_prompts_tells_items_texts_and_order_apart():
    assert prompts_sha(items(3)) == prompts_sha(items(3))
    assert len({prompts_sha(items(3)), prompts_sha(items(4)), prompts_sha(items(3)[::-1])}) == 3
