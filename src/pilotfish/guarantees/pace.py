"""The pace of one task: when to learn, when to spend delta, when to prove a better specialist.

Shared by the live learner and the backtest, and kept as JSON in the registry. It only counts and compares:

* *Looking* (fitting, and reading out-of-fold scores) costs CPU and no delta. It is due after `first_after`
  known answers and whenever they have grown by `growth`; while a task serves also after `NEW_ANSWERS` answers of
  one value that the specialist does not know.
* *Spending* (looking at calibration rows) is worth it when waiting no longer pays: when the coverage expected from
  out-of-fold scores has stopped growing by `GAIN` from look to look, or is `ENOUGH` already.
* *Proving*: once a task serves, later evidence comes from coins only. When a specialist fitted on all that is
  known now is expected to serve more than the one in force, the coin falls more often until enough later rows
  have been drawn to certify it on them: as often as costs `PROVING_COST` more calls a request.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from pilotfish.guarantees.tiers import MIN_COVERAGE

# Serving at half of the traffic and proving a better specialist then is as good as waiting longer, and surer: measured
# in November 2026 with ENOUGH at 0.35, 0.5 and 0.9, 69.9, 68.7 and 71.7 % of banking77's 13,083 requests were answered
# locally (5 % per traffic), and 39.4, 38.1 and 35.4 % of the support desk's.
GAIN = 0.1
ENOUGH = 0.5
# A certificate that raises coverage by less is not worth the audits that prove it.
BETTER = 0.03
# Extra reference calls per request while a better specialist is proven: a coin of 1 where little is served, of 0.2
# where three quarters are, so that 400 rows take 400 to 2,000 requests.
PROVING_COST = 0.15
# How much faster new answers are proven: the same number of calls in all, in a third of the requests.
HURRY = 3.0
# Answers of one new value that make a look due: so many taught an intent to 90 % (banking77).
NEW_ANSWERS = 20
# Rows drawn to prove a claim: 20 errors allowed at the promised risk, 400 rows at 5 %, 1,000 at 2 %.
_PROVING_ERRORS = 20


@dataclass(slots=True, kw_only=True)
class Pace:
    """Where one task stands.

    `due_at` is the number of known answers at which to look again, `expected` the coverage expected at the
    last look, `n_attempts` how many attempts have spent delta, `proving_since_s` the time from
    which coin-drawn rows prove the next specialist (None while none is being proven), `proving_rate` their
    coin. After a withdrawal only rows later than `fresh_since_s` may certify: those before it are of other
    traffic, and some of them brought the withdrawal about. They were `n_stale`: what has to grow are the others.
    `taught_until_s` is the time of the latest row that taught the specialist in force, `new_due_at` how many later
    answers of one new value (`new_answers.py`) make a look due.
    """

    first_after: int = 300
    growth: float = 1.5
    is_patient: bool = True
    due_at: int = -1
    expected: float = 0.0
    n_attempts: int = 0
    proving_since_s: float | None = None
    proving_rate: float = 0.0
    fresh_since_s: float | None = None
    n_stale: int = 0
    taught_until_s: float | None = None
    new_due_at: int = NEW_ANSWERS

    def __post_init__(self) -> None:
        """A fresh pace is due after `first_after` answers."""
        if self.due_at < 0:
            self.due_at = self.first_after

    def is_due(self, n_known: int, n_drawn: int, max_risk: float, n_new: int = 0) -> bool:
        """Whether to act now, with `n_drawn` unbiased rows since proving began and `n_new` answers of one new value."""
        if self.proving_since_s is not None:
            return n_drawn >= proving_rows(max_risk) or self.is_news(n_new)
        return n_known >= self.due_at or self.is_news(n_new)

    def is_news(self, n_new: int) -> bool:
        """Whether `n_new` answers of one new value are reason enough to look."""
        return n_new >= self.new_due_at

    def is_worth(self, expected: float) -> bool:
        """Whether to spend delta on an expected coverage; remembers it for the next look."""
        waiting_pays = expected < ENOUGH and expected - self.expected > GAIN
        self.expected = expected
        return not self.is_patient or (expected >= MIN_COVERAGE and not waiting_pays)

    def looked(self, n_known: int, n_new: int = 0) -> None:
        """A look or an attempt has ended: wait until the known answers, or those of a new value, have grown."""
        n_fresh = max(0, n_known - self.n_stale)
        self.due_at = max(n_known + 1, self.n_stale + math.ceil(n_fresh * self.growth))
        self.new_due_at = max(NEW_ANSWERS, n_new + 1, math.ceil(n_new * self.growth))
        self.proving_since_s = None

    def adopted(self, taught_until_s: float, n_new: int = 0) -> None:
        """A certificate serves from now on; later answers may be new to its specialist, as `n_new` of one value are."""
        self.taught_until_s = taught_until_s
        self.new_due_at = NEW_ANSWERS
        if self.is_news(n_new):
            self.due_at = 0

    def begin_to_prove(self, since_s: float, coverage: float) -> None:
        """From now on rows are drawn to prove a better specialist than the one that serves `coverage`."""
        self.proving_since_s = since_s
        self.proving_rate = PROVING_COST / max(PROVING_COST, coverage)

    def begin_again(self, n_known: int, now_s: float) -> None:
        """A certificate was withdrawn: wait for `first_after` answers of the changed traffic, and prove on them."""
        self.n_stale = n_known
        self.due_at = n_known + self.first_after
        self.expected = 0.0
        self.proving_since_s = None
        self.taught_until_s = None
        self.fresh_since_s = now_s

    def coin(self, audit_rate: float) -> float:
        """The probability with which a request is drawn for its reference answer while the task serves."""
        return audit_rate if self.proving_since_s is None else max(audit_rate, self.proving_rate)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Pace:
        """The pace that `to_json` wrote."""
        known = {item.name for item in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in row.items() if key in known})


def proving_rows(max_risk: float) -> int:
    """How many later rows are drawn before a specialist is certified on them."""
    return math.ceil(_PROVING_ERRORS / max_risk)
