from __future__ import annotations

import pytest

from pilotfish.stats import spending


def test_all_attempts_together_spend_at_most_delta():
    total = sum(spending.share(0.05, attempt) for attempt in range(1, 20_000))
    assert 0.0499 < total < 0.05


def test_the_first_attempt_gets_the_most():
    assert spending.share(0.05, 1) == pytest.approx(0.0303963551)
    with pytest.raises(ValueError, match="from 1"):
        spending.share(0.05, 0)
