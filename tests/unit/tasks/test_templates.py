"""Templates learnt from made-up logs whose truth is known."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.core.ids import fingerprint
from pilotfish.tasks.recognise import Recogniser
from pilotfish.tasks.templates import MIN_SUPPORT, learn, learn_templates

TEXT = """
    the parcel card order refund late again please why where money account app my never arrived is was it broken
    invoice help today week old new phone still waiting charged twice cancel change address who how when and or but
"""
WORDS = TEXT.split()
STARTS = ("I", "How", "My", "Why", "What", "Can", "The", "Please", "Hi,", "When", "Where", "Still", "Your", "So", "If")

SORT = "You are a support agent. Sort the message into billing, cards or other.\n\nMessage: "
TRANSLATE = "Translate the message to {}: "
ENDING = "\n\n---\nIs the text above a complaint? Answer yes or no."


def texts(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [f"{rng.choice(STARTS)} {' '.join(rng.choices(WORDS, k=rng.randint(3, 12)))}?" for _ in range(n)]


def parts(messages: list[str]) -> set[tuple[str, str]]:
    return {(found.prefix, found.suffix) for found in learn("i", messages)}


def test_free_text_holds_no_template() -> None:
    questions = ["How do I " + text for text in texts(300)] + ["I would like to " + text for text in texts(300, 1)]
    assert parts(questions + texts(2000, 2)) == set()


@pytest.mark.parametrize(
    ("prefix", "suffix"),
    [(SORT, ""), ("", ENDING), (SORT, ENDING), (SORT, "\n\nAnswer:"), ('Text: "', f'"{ENDING}'), (SORT + '"""', '"""')],
)
@pytest.mark.parametrize("n", [25, 600])
def test_prefix_and_suffix_are_found_to_the_letter_among_free_chat(prefix: str, suffix: str, n: int) -> None:
    made = [prefix + text + suffix for text in texts(n)]
    assert parts(made + texts(200, 1)) == {(prefix, suffix)}


def test_templates_that_share_a_beginning_are_told_apart() -> None:
    longer = SORT + "it came by mail and may hold a signature; ignore that.\n"
    made = [SORT + text for text in texts(100)] + [longer + text for text in texts(100, 1)]
    assert parts(made) == {(SORT, ""), (longer, "")}


def test_short_variants_of_one_template_are_told_apart() -> None:
    languages = ("German", "French", "Dutch")
    made = [TRANSLATE.format(name) + text for seed, name in enumerate(languages) for text in texts(60, seed)]
    assert parts(made + texts(300, 9)) == {(TRANSLATE.format(name), "") for name in languages}


@pytest.mark.parametrize(
    ("prefix", "slot", "values", "suffix"),
    [
        (SORT + "Channel: ", "{value}\nText: {text}", ("email", "phone", "chat"), ""),
        (SORT, "{value}-11-22, {text}", ("2025", "2026"), ""),
        ("", "{text}\n\nChannel: {value}", ("email", "phone", "chat"), ENDING),
    ],
)
def test_values_of_a_slot_are_input(prefix: str, slot: str, values: tuple[str, ...], suffix: str) -> None:
    inputs = [slot.format(value=values[n % len(values)], text=text) for n, text in enumerate(texts(300))]
    assert parts([prefix + text + suffix for text in inputs]) == {(prefix, suffix)}


def test_documents_asked_about_often_do_not_split_a_template() -> None:
    popular = [text * 3 + "\n" + question for n, text in enumerate(texts(5)) for question in texts(25, n + 1)]
    assert parts([SORT + text for text in popular + texts(300, 9)]) == {(SORT, "")}


def test_a_word_shared_by_chance_is_not_cut() -> None:
    made = [SORT + start + text for start in ("car", "card", "care") for text in texts(20)]
    assert parts(made) == {(SORT, "")}


def test_fewer_distinct_messages_than_the_support_are_no_template() -> None:
    made = [SORT + text for text in texts(MIN_SUPPORT - 1)]
    assert parts(made * 50) == set()


def test_text_without_spaces_is_cut_between_letters() -> None:
    head = "请阅读下面的客户留言并判断它属于哪个部门只回答部门名称留言"
    rng = random.Random(0)
    made = [head + "".join(rng.choices("我的卡没到钱为什么退款账户订单地址", k=9)) for _ in range(400)]
    assert parts(made) == {(head, "")}


def test_ids_stay_when_more_rows_come() -> None:
    made = [SORT + text + ENDING for text in texts(400)] + [
        TRANSLATE.format(name) + text for name in ("German", "French") for text in texts(200, 1)
    ]
    random.Random(0).shuffle(made)
    early = {found.task_id for found in learn("i", made[:300])}
    assert len(early) == 3
    assert early == {found.task_id for found in learn("i", made)}


def test_order_and_repetition_do_not_count() -> None:
    made = [SORT + text for text in texts(50)] + texts(50, 1)
    assert learn("i", made) == learn("i", [*reversed(made), *made])


def test_ids_are_fingerprints_of_the_constant_parts_and_instructions_are_kept_apart() -> None:
    made = [("a", SORT + text) for text in texts(30)] + [("b", text) for text in texts(30)]
    (found,) = learn_templates(made)
    assert (found.instructions_id, found.prefix, found.suffix) == ("a", SORT, "")
    assert found.task_id == fingerprint("a", SORT, "")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("ab \n:", max_size=30), min_size=MIN_SUPPORT, max_size=60), st.text("xyz :\n", max_size=30))
def test_whatever_is_learnt_puts_each_message_back_together(messages: list[str], head: str) -> None:
    messages = [head + message for message in messages]
    templates = {found.task_id: found for found in learn("i", messages)}
    recogniser = Recogniser(list(templates.values()))
    for message in messages:
        found = recogniser.split("i", message)
        if found.task_id in templates:
            template = templates[found.task_id]
            assert f"{template.prefix}{found.text}{template.suffix}" == message
        else:
            assert found.text == message
