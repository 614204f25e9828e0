from __future__ import annotations

import pytest

from pilotfish.stats import calibration

SURE, RIGHT = (0.9, 0.8, 0.7, 0.6), (1.0, 1.0, 0.0, 1.0)


def test_the_calibration_error_of_the_reference():
    assert calibration.calibration_error(SURE, RIGHT, equal="width") == pytest.approx(0.35)
    assert calibration.calibration_error(SURE, RIGHT, bins=1) == pytest.approx(0.0)


def test_equal_mass_bins_hold_equally_many_rows():
    assert calibration.calibration_error(SURE, RIGHT, bins=2) == pytest.approx((0.3 + 0.3) / 4)
    assert calibration.calibration_error([0.5] * 10, [1.0, 0.0] * 5, bins=1) == 0.0


def test_brier_and_the_accuracy_of_the_surest():
    assert calibration.brier(SURE, RIGHT) == pytest.approx((0.01 + 0.04 + 0.49 + 0.16) / 4)
    assert calibration.selective_accuracy(SURE, RIGHT, 0.5) == 1.0
    assert calibration.selective_accuracy(SURE, RIGHT, 0.75) == pytest.approx(2 / 3)
    assert calibration.selective_accuracy([0.5, 0.5, 0.4], [1.0, 0.0, 1.0], 0.1) == 0.5
    assert calibration.risk_coverage_area(SURE, RIGHT) == pytest.approx((0 + 0 + 1 / 3 + 1 / 4) / 4)


def test_without_rows_there_is_nothing_to_say():
    with pytest.raises(ValueError, match="at least one row"):
        calibration.brier([], [])
