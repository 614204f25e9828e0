"""A circuit breaker: leaves a server alone that failed several times in a row, and lets single requests try it again.

Closed, it admits everything. Open, it admits nothing until a pause is over, then one request in each further pause
(half-open): the first that succeeds closes it, each that fails doubles the pause. A request that never ends, or is
cancelled, thus cannot keep it open. What counts as a failure is decided by who asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable

N_FAILURES = 5
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0


class Breaker:
    """The breaker of one server."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._pause_s = FIRST_PAUSE_S
        self._shut_until_s = 0.0
        self._is_probed = False
        self.n_failures = 0

    @property
    def is_open(self) -> bool:
        """Whether the last `N_FAILURES` requests failed."""
        return self.n_failures >= N_FAILURES

    @property
    def wait_s(self) -> float:
        """Seconds until a request is admitted."""
        return max(0.0, self._shut_until_s - self._clock_s()) if self.is_open else 0.0

    def admits(self) -> bool:
        """Whether a request may be sent now. Where it is open, True stands for one probe."""
        if self.n_failures < N_FAILURES:
            return True
        if self.wait_s > 0:
            return False
        self._shut_until_s = self._clock_s() + self._pause_s
        self._is_probed = True
        return True

    def succeeded(self) -> None:
        """A request was answered."""
        self.n_failures = 0
        self._is_probed = False

    def failed(self) -> None:
        """A request failed. Of those that were under way when it opened none makes the pause longer."""
        was_open = self.is_open
        self.n_failures += 1
        if not self.is_open or (was_open and not self._is_probed):
            return
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S) if was_open else FIRST_PAUSE_S
        self._is_probed = False
        self._shut_until_s = self._clock_s() + self._pause_s
