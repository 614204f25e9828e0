"""Recognition: the longest template wins, nothing is lost from a message, and size does not matter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.core.ids import fingerprint
from pilotfish.core.messages import ChatRequest, Message
from pilotfish.core.task import Template
from pilotfish.tasks.fingerprint import instructions_id
from pilotfish.tasks.recognise import Recogniser, task_id

TEXT = st.text("ab ", max_size=6)


def template(prefix: str, suffix: str = "", instructions: str = "i") -> Template:
    return Template(instructions_id=instructions, prefix=prefix, suffix=suffix)


TEMPLATES = (
    template("Translate: "),
    template("Translate: ", " now"),
    template("Translate: the "),
    template("", "\nWhich language?"),
    template("Say: ", "", "other"),
)


@pytest.mark.parametrize(
    ("message", "index", "text"),
    [
        ("Translate: hello", 0, "hello"),
        ("Translate: hello now", 1, "hello"),
        ("Translate: the sea", 2, "sea"),
        ("Translate: the", 0, "the"),
        ("hello\nWhich language?", 3, "hello"),
        ("Translate: hello\nWhich language?", 3, "Translate: hello"),
        ("Translate: ", 0, ""),
        ("Say: hello", None, "Say: hello"),
        ("", None, ""),
    ],
)
def test_the_template_with_most_constant_text_wins(message: str, index: int | None, text: str) -> None:
    found = Recogniser(TEMPLATES).split("i", message)
    expected = "i" if index is None else task_id(TEMPLATES[index])
    assert (found.instructions_id, found.task_id, found.text) == ("i", expected, text)


def test_prefix_and_suffix_never_overlap() -> None:
    assert Recogniser([template("abab", "abcd")]).split("i", "ababcd").task_id == "i"


@given(st.lists(st.tuples(TEXT, TEXT), max_size=6), TEXT)
def test_prefix_input_and_suffix_are_the_message(parts: list[tuple[str, str]], message: str) -> None:
    templates = {task_id(made): made for made in (template(prefix, suffix) for prefix, suffix in parts)}
    found = Recogniser(list(templates.values())).split("i", message)
    matching = [
        made
        for made in templates.values()
        if message.startswith(made.prefix)
        and message.endswith(made.suffix)
        and len(made.prefix) + len(made.suffix) <= len(message)
    ]
    if not matching:
        assert (found.task_id, found.text) == ("i", message)
        return
    best = templates[found.task_id]
    assert f"{best.prefix}{found.text}{best.suffix}" == message
    assert len(best.prefix) + len(best.suffix) == max(len(made.prefix) + len(made.suffix) for made in matching)


def test_a_request_is_recognised_by_its_instructions_and_its_template() -> None:
    request = ChatRequest(messages=[Message(role="system", content="s"), Message(role="user", content="Do: it")])
    found_id = instructions_id(request)
    found = Recogniser([template("Do: ", "", found_id)]).recognise(request)
    assert (found.instructions_id, found.text) == (found_id, "it")
    assert found.task_id == fingerprint(found_id, "Do: ", "")


def test_a_template_keeps_the_task_id_it_carries() -> None:
    kept = Template(instructions_id="i", prefix="Do: ", task_id="kept")
    assert Recogniser([kept]).split("i", "Do: it").task_id == "kept"


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [Message(role="system", content="s")],
        [Message(role="user", content=[{"type": "image_url", "image_url": {"url": "x"}}])],
        [Message(role="user", content=None)],
    ],
)
def test_without_plain_text_there_is_no_input(messages: list[Message]) -> None:
    found = Recogniser([template("")]).recognise(ChatRequest(messages=messages))
    assert found.text is None
    assert found.task_id == found.instructions_id


def test_a_look_up_visits_as_many_places_among_10_000_templates_as_among_10() -> None:
    def n_compared(n: int) -> int:
        compared = 0

        class Counted(str):
            __slots__ = ()

            def startswith(self, *arguments: object) -> bool:
                nonlocal compared
                compared += 1
                return str.startswith(self, *arguments)  # type: ignore[arg-type]

        recogniser = Recogniser([template(f"Answer for team {number:05}: ") for number in range(n)])
        assert recogniser.split("i", Counted("Answer for team 00007: hi")).text == "hi"
        return compared

    assert n_compared(10_000) <= n_compared(10) + 4
