import asyncio

import pytest

from pilotfish.core.errors import DataError
from pilotfish.core.item import Item
from pilotfish.core.messages import Message
from pilotfish.evals.judge import Pair, judge_answers, judge_pairs
from pilotfish.models.scripted import ScriptedModel
from pilotfish.scoring.judging import report


def item(expected):
    return Item(id="one", messages=[Message(role="user", content="Say it.")], expected=expected, tags={})


def test_a_judge_that_always_takes_the_first_decides_nothing():
    judge = ScriptedModel(["Verdict: 1"])
    verdicts = asyncio.run(judge_pairs(judge, [Pair("Say it.", "a", "b")] * 3))
    found = report(verdicts)
    assert [verdict.outcome for verdict in verdicts] == ["tie"] * 3
    assert (found.prefers_first, found.same_in_both_orders) == (1.0, 0.0)


def test_a_judge_that_says_nothing_readable_is_counted():
    scored = asyncio.run(judge_answers(ScriptedModel(["Hard to say."]), [(item("gold"), "answer")]))
    assert [(score.value, score.failure) for score, _ in scored] == [(0.0, "parse")]
    assert report([verdict for _, verdict in scored]).n_unreadable == 1


def test_an_item_without_a_reference_cannot_be_judged_beside_it():
    with pytest.raises(DataError, match="no expected answer"):
        asyncio.run(judge_answers(ScriptedModel(["Verdict: 1"]), [(item(None), "answer")]))
