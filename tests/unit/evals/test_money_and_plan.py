from __future__ import annotations

import pytest

from pilotfish.evals import money
from pilotfish.evals.plan import plan
from pilotfish.evals.verdict import Rule
from tools.compared import items


def test_break_even_and_the_blend_of_the_reference():
    assert money.break_even_per_h(2.50, 0.004) == pytest.approx(625)
    assert money.blended_usd_per_request(2.50, 2950, 0.042, 0.004) == pytest.approx(0.0010155, abs=1e-7)


def test_an_idle_machine_costs_as_much_as_a_busy_one():
    full = money.self_hosted_usd_per_mtok(2.0, 100.0)
    assert full == pytest.approx(2.0 / 0.36)
    assert money.self_hosted_usd_per_mtok(2.0, 100.0, 0.01) == pytest.approx(100 * full)


def test_what_is_unknown_stays_unknown():
    assert money.usd_per_correct(None, 0.5) is None
    assert money.usd_per_correct(0.01, 0.0) is None
    assert money.usd_per_correct(0.01, 0.5) == pytest.approx(0.02)


def test_a_plan_says_what_fifty_items_can_show():
    found = plan(items(50), Rule(margin=0.05), discordance=0.2)
    (row,) = found.rows
    assert (row.items_for_margin, row.is_enough) == (495, False)
    assert row.detectable == pytest.approx(0.177, abs=5e-4)
    assert found.prompt_tokens > 0


def test_more_candidates_need_more_items():
    one, four = (plan(items(50), Rule(), n_candidates=n, repeats=3) for n in (1, 4))
    assert one.rows[0].items_for_margin < four.rows[0].items_for_margin
    assert one.calls_per_model == 150
    assert "50 items show a difference of" in one.sentence
    with pytest.raises(ValueError, match="at least one item"):
        plan([], Rule())
