from __future__ import annotations

import math
from dataclasses import asdict

import pytest

from pilotfish.stats.betting import EProcess, Page, Watch
from tools.clock import least_cpu_s


def test_capital_is_a_fair_game_at_the_promised_risk():
    fresh = EProcess.start(0.02)
    after_error, after_none = EProcess.start(0.02).update(1.0), fresh.update(0.0)
    assert 0.02 * after_error + 0.98 * after_none == pytest.approx(1.0)
    assert after_none < 1.0 < after_error


def test_a_restarting_bet_keeps_no_debt():
    page = Page.start(0.01, 0.06, 0.05, 6000)
    for _ in range(5000):
        page.update(0.0)
    assert page.update(1.0) * page.threshold == pytest.approx(6.0)


def test_the_false_alarm_bound_is_exact_for_one_short_run():
    # Reaching a threshold just above one error's rise takes a second error before the capital falls to 1.
    page = Page.start(0.1, 0.5, 0.05, 3)
    assert 3 * 0.1 * _chance_of_run(0.1, 0.5, page.threshold) <= 0.05
    assert 3 * 0.1 * _chance_of_run(0.1, 0.5, page.threshold * 0.8) > 0.05


def _chance_of_run(quiet, bad, threshold, depth=40, capital=None):
    capital = bad / quiet if capital is None else capital
    if capital >= threshold:
        return 1.0
    if capital <= 1.0 or depth == 0:
        return 0.0
    rise = _chance_of_run(quiet, bad, threshold, depth - 1, capital * bad / quiet)
    fall = _chance_of_run(quiet, bad, threshold, depth - 1, capital * (1 - bad) / (1 - quiet))
    return quiet * rise + (1 - quiet) * fall


@pytest.mark.parametrize(("quiet", "bad", "horizon"), [(0.1, 0.5, 300), (0.05, 0.2, 600), (0.1, 0.25, 600)])
def test_the_false_alarm_bound_holds_and_is_near_the_exact_chance(quiet, bad, horizon):
    page = Page.start(quiet, bad, 0.05, horizon)
    assert 0.03 <= _chance_of_alarm(quiet, bad, page.threshold, horizon) <= 0.05


def _chance_of_alarm(quiet, bad, threshold, horizon):
    """Audit by audit over all (errors, correct answers) of the run under way; (0, 0) is the capital at 1."""
    up, down = math.log(bad / quiet), math.log((1 - quiet) / (1 - bad))
    states, alarm = {(0, 0): 1.0}, 0.0
    for _ in range(horizon):
        following = {}
        for (errors, correct), chance in states.items():
            for state, part in (((errors + 1, correct), quiet), ((errors, correct + 1), 1 - quiet)):
                capital = state[0] * up - state[1] * down
                if capital >= math.log(threshold):
                    alarm += chance * part
                else:
                    then = state if capital > 0 else (0, 0)
                    following[then] = following.get(then, 0.0) + chance * part
        states = {state: chance for state, chance in following.items() if chance > 1e-15}
    return alarm


def test_fractional_losses_lie_between_the_whole_ones():
    values = [Watch.start(0.05).since_start.update(loss) for loss in (0.0, 0.3, 1.0)]
    assert values == sorted(values)


def test_a_watch_fires_once_and_stays():
    watch = Watch.start(0.02)
    fired = [watch.update(1.0) for _ in range(6)]
    assert fired == sorted(fired)
    assert fired[-1]
    assert all(watch.update(0.0) for _ in range(100))


def test_state_survives_a_restart():
    watch = Watch.start(0.02, quiet_risk=0.012)
    for i in range(300):
        watch.update(float(i % 40 == 0))
    again = Watch.from_json(asdict(watch))
    assert again == watch
    assert again.update(1.0) == watch.update(1.0)
    assert again == watch


def test_a_quiet_risk_above_the_promise_is_refused():
    with pytest.raises(ValueError, match="quiet_risk"):
        Watch.start(0.02, quiet_risk=0.03)


def test_delays_fall_with_the_risk_and_are_infinite_where_nothing_is_lost():
    watch = Watch.start(0.02)
    delays = [watch.delay(risk) for risk in (0.04, 0.06, 0.1, 0.3)]
    assert delays == sorted(delays, reverse=True)
    assert watch.delay(0.01) == math.inf


def test_an_update_takes_under_five_microseconds():
    watch = Watch.start(0.02)

    def work():
        for _ in range(20_000):
            watch.update(0.0)

    assert least_cpu_s(work, 0.1) / 20_000 < 5e-6
