"""Detection: one text in, findings out, in order and without overlaps.

Which detectors run follows from the types asked for. Where findings overlap they become one that covers both, under
the type that is surer of itself: what is masked must never leave an end uncovered. Every detector is linear in the
text; the time is looked at between them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping

from pilotfish.core.privacy import TYPES, WEAK_TYPES, Finding
from pilotfish.privacy import names, numbers, own_patterns, shapes

DEFAULT_TYPES = frozenset(TYPES) - WEAK_TYPES

_DIGIT = re.compile("[0-9]")
_SHAPES = (
    ("EMAIL", shapes.emails),
    ("URL_CREDENTIALS", shapes.credentials),
    ("SECRET", shapes.secrets),
)
_DIGIT_SHAPES = (("IP_ADDRESS", shapes.addresses), ("CRYPTO_WALLET", shapes.wallets))


class Detector:
    """Finds the given types and the user's own patterns in texts. Immutable, so threads may share it."""

    def __init__(self, types: Iterable[str] | None = None, patterns: Mapping[str, str] | None = None) -> None:
        """All types with a checksum or a strong shape where none are named. Raises as `compile_patterns` does."""
        chosen = DEFAULT_TYPES if types is None else frozenset(types)
        self._numbers = chosen & numbers.TYPES
        self._finders = [find for kind, find in _SHAPES if kind in chosen]
        self._digit_finders = [find for kind, find in _DIGIT_SHAPES if kind in chosen]
        if "IP_ADDRESS" in chosen:
            # An IPv6 address may hold no digit of ours.
            self._finders.append(self._digit_finders.pop(0))
        self._names = [find for kind, find in (("PERSON", names.people), ("ADDRESS", names.places)) if kind in chosen]
        self._patterns = own_patterns.compile_patterns(patterns or {})
        # Nothing with a checksum or a shape is made of letters alone, as most keys and roles are.
        self._needs_marks = not self._names and not self._patterns

    def scan(self, text: str, deadline_s: float = float("inf")) -> list[Finding]:
        """The findings in `text`, by position. Raises `TimeoutError` once `time.perf_counter` passes `deadline_s`."""
        found: list[Finding] = []
        if self._needs_marks and text.isalpha():
            return found
        for find in self._finders:
            found += find(text)
            _check(deadline_s)
        if _DIGIT.search(text):
            for find in self._digit_finders:
                found += find(text)
                _check(deadline_s)
            if self._numbers:
                found += numbers.find(text, self._numbers)
                _check(deadline_s)
        for find in self._names:
            found += find(text)
            _check(deadline_s)
        if self._patterns:
            limit_s = min(deadline_s - time.perf_counter(), 3600.0)
            found += own_patterns.find(text, self._patterns, max(limit_s, 1e-6))
            _check(deadline_s)
        return merged(found) if len(found) > 1 else found


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by position; those that overlap as one, under the type of the highest score, of equals the longest."""
    kept: list[Finding] = []
    for finding in sorted(findings, key=lambda each: (each.start, -each.end)):
        if kept and finding.start < kept[-1].end:
            last = kept[-1]
            better = max(last, finding, key=lambda each: (each.score, each.end - each.start))
            kept[-1] = Finding(type=better.type, start=last.start, end=max(last.end, finding.end), score=better.score)
        else:
            kept.append(finding)
    return kept


def _check(deadline_s: float) -> None:
    if time.perf_counter() > deadline_s:
        raise TimeoutError("The privacy detectors ran out of time.")
