import gzip
import json

import pytest

from pilotfish.core.errors import UserError
from pilotfish.core.item import Item
from pilotfish.core.messages import Message
from pilotfish.scoring.judging import PairVerdict, kappa, read_verdict, report
from pilotfish.scoring.scorers import Score, scorer


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("Verdict: 1", "1"),
        ("The first is right.\n**Verdict:** 2", "2"),
        ("verdict is Answer 1.", "1"),
        ("Verdict: draw", "tie"),
        ("2", "2"),
        ("Answer 1.", "1"),
        ("Verdict: 1\nVerdict: 2", ""),
        ("Both have merit; 1 is longer.", ""),
        ("Verdict: 12", ""),
        ("", ""),
    ],
)
def test_a_verdict_is_read_or_it_is_none(reply, verdict):
    assert read_verdict(reply) == verdict


def test_a_verdict_counts_only_where_it_survives_the_swap():
    assert PairVerdict.of_replies("1", "2").outcome == "1"
    always_first = PairVerdict.of_replies("1", "1")
    assert (always_first.outcome, always_first.value) == ("tie", 0.5)
    unreadable = PairVerdict.of_replies("1", "who knows")
    assert (unreadable.outcome, unreadable.is_readable) == ("", False)
    assert report([always_first] * 4).prefers_first == 1


def test_kappa_is_agreement_beyond_chance():
    """Cohen's formula by hand: observed 0.7, chance 0.5 x 0.6 + 0.5 x 0.4 = 0.5."""
    a, b = "yyyyynnnnn", "yyyynyynnn"
    assert kappa(a, b) == pytest.approx((0.7 - 0.5) / 0.5)
    assert kappa("yn", "yn") == 1
    assert kappa("yy", "yy") is None
    with pytest.raises(ValueError, match="equally long"):
        kappa("y", "")


def test_a_judge_that_cannot_be_read_is_counted():
    found = report([PairVerdict(forward="1", backward="1"), PairVerdict(forward="", backward="1")], ["1", "1"])
    assert (found.n, found.n_unreadable, found.agreement) == (2, 1, 0.75)
    assert found.same_in_both_orders == 0.5


@pytest.mark.parametrize(
    ("judge", "right", "same"),
    [
        ("GPT-4", 0.935, 0.97),
        ("ChatGPT", 0.79, 0.68),
        ("PaLM2", 0.82, 0.84),
        ("LLaMA2", 0.77, 0.74),
        ("Falcon", 0.76, 0.60),
    ],
)
def test_recorded_judges_have_their_published_figures(shared_data, judge, right, same):
    """Published with two unreadable replies (3 pairs of PaLM2) as the same verdict, which we do not count as one."""
    data = gzip.decompress((shared_data / "judge_llmbar_natural.jsonl.gz").read_bytes())
    rows = [json.loads(line) for line in data.splitlines()]
    verdicts = [
        PairVerdict(forward=forward or "", backward=backward or "")
        for forward, backward in (row["judge_verdicts"][judge] for row in rows)
    ]
    found = report(verdicts, [str(row["preferred"]) for row in rows])
    assert found.agreement == pytest.approx(right)
    assert found.same_in_both_orders is not None
    assert found.same_in_both_orders + found.n_unreadable / 100 == pytest.approx(same)
    assert found.n_unreadable == (3 if judge == "PaLM2" else 0)
    assert found.kappa is not None
    assert 0 < found.kappa < 1


def test_the_scorer_judge_asks_in_both_orders():
    asked = []

    def ask(prompt):
        asked.append(prompt)
        return "Verdict: 1" if prompt.index("good") < prompt.index("poor") else "Verdict: 2"

    item = Item(id="one", messages=[Message(role="user", content="Say it.")], expected="poor", tags={})
    assert scorer("judge", ask=ask)(item, "good") == Score(1.0, "", "judged 1 and, swapped, 1")
    assert len(asked) == 2
    assert scorer("judge", ask=lambda prompt: "hm")(item, "good").failure == "parse"
    with pytest.raises(UserError, match="needs a model"):
        scorer("judge")(item, "good")
