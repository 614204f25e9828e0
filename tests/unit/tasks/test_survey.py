"""Surveys of small made-up logs."""

from __future__ import annotations

from pilotfish.core.task import Template
from pilotfish.tasks.recognise import task_id
from pilotfish.tasks.survey import MAX_NAME_CHARACTERS, Exchange, survey

SORT = Template(instructions_id="none", prefix="Please classify the urgency of this message: ")


def exchange(found: str, instructions: str, message: str | None, answer: str | None) -> Exchange:
    return Exchange(instructions_id=found, instructions=instructions, user_message=message, answer=answer)


def labelled(found: str, instructions: str, n: int, head: str = "") -> list[Exchange]:
    return [exchange(found, instructions, f"{head}text {k}", ("yes", "no")[k % 2]) for k in range(n)]


def chat(n: int) -> list[Exchange]:
    return [exchange("none", "", f"tell me {k}", f"a long story about number {k}") for k in range(n)]


def test_recurring_tasks_are_listed_most_frequent_first_and_the_rest_is_not() -> None:
    rows = chat(50) + labelled("a", "Detect spam.", 30) + labelled("none", "", 40, SORT.prefix)
    rows += labelled("rare", "Detect fraud.", 5)
    found = survey(rows, [SORT])
    assert [(task.id, task.n_requests, task.name) for task in found] == [
        (task_id(SORT), 40, "classify-urgency"),
        ("a", 30, "detect-spam"),
    ]
    assert found[0].instructions_id == "none"
    assert found[0].instructions == SORT.prefix + "{input}"
    assert found[0].shape.kind == "label"


def test_instructions_with_free_answers_are_a_task_that_is_only_observed() -> None:
    rows = [exchange("s", "Summarize the mail.", f"mail {k}", f"a summary of mail number {k}") for k in range(30)]
    (task,) = survey(rows)
    assert (task.name, task.shape.kind) == ("summarize-mail", "text")
    assert task.shape.why_open


def test_plain_inputs_with_closed_answers_are_named_by_their_answers() -> None:
    (task,) = survey(labelled("none", "", 30))
    assert task.name == "yes-no"


def test_names_are_unique_short_and_stay_when_the_log_grows() -> None:
    long = "Determine internationalization characteristics responsibilities representation of correspondence"
    rows = labelled("1111aaaa", long, 30) + labelled("2222bbbb", long, 40)
    names = {task.id: task.name for task in survey(rows)}
    assert names["1111aaaa"] == "determine-internationalization"
    assert names["2222bbbb"] == "determine-internationalization-2222"
    assert all(len(name) <= MAX_NAME_CHARACTERS for name in names.values())
    grown = {task.id: task.name for task in survey(rows + labelled("3333", "Detect spam.", 90))}
    assert names.items() <= grown.items()


def test_requests_without_text_or_answer_are_counted() -> None:
    rows = [*labelled("a", "Detect spam.", 30), exchange("a", "Detect spam.", None, None)]
    (task,) = survey(rows)
    assert task.n_requests == 31


def test_an_empty_log_holds_no_task() -> None:
    assert survey([]) == []


def test_an_answer_must_stand_in_the_input_and_not_in_its_template() -> None:
    def asked(answers: list[tuple[str, str]]) -> str:
        template = Template(instructions_id="i", prefix="Where to? Kyoto or ", suffix=" it is")
        exchanges = [
            Exchange(
                instructions_id="i", instructions="", user_message=f"Where to? Kyoto or {place} it is", answer=answer
            )
            for place, answer in answers
        ]
        (task,) = survey(exchanges, [template])
        return task.shape.kind

    places = [f"town {number}" for number in range(40)]
    assert asked([(place, place) for place in places]) == "extraction"
    assert asked([(place, f"Kyoto {place}") for place in places]) == "text"
