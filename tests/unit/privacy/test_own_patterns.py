"""The user's own patterns: found under their name, refused where they are none, stopped where they never end."""

from __future__ import annotations

import time

import pytest

from pilotfish.core.errors import ConfigError
from pilotfish.privacy.detect import Detector


def test_a_match_is_a_finding_under_the_patterns_name() -> None:
    findings = Detector([], {"employee": r"\bE-\d{5}\b"}).scan("by E-12345 and E-1")
    assert [(each.type, each.start, each.end) for each in findings] == [("EMPLOYEE", 3, 10)]


@pytest.mark.parametrize("patterns", [{"x": "("}, {"EMAIL": "x"}, {"a b": "x"}, {"": "x"}])
def test_what_cannot_be_used_is_refused_with_its_place(patterns: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"\[privacy\.patterns\]"):
        Detector(None, patterns)


def test_a_pattern_that_would_never_end_runs_out_of_time() -> None:
    detector = Detector([], {"bad": r"^(a|aa)+$"})
    with pytest.raises(TimeoutError):
        detector.scan("a" * 60 + "b", time.perf_counter() + 0.05)
