"""Audits: the evidence, after a certificate serves, that its promise still holds, and its withdrawal.

It takes losses of requests that a coin with a known probability chose, without regard to content; who
tosses the coin and asks the reference is the gateway's business. Each task that serves has one
`Audit`; its JSON state survives a restart, so a restart cannot hide a broken promise.

Per answer the loss is that of an audited local answer. Per traffic every row that the coin drew counts, and its
loss is 1 where it was answered locally and differently, 0 where it was deferred or agreed. Per loss (a route's
promise) too, and the loss is the reference's score less that of the answer given, in [-1, 1]: the watch sees it
shrunk to [0, 1].
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from pilotfish.core.certificate import Certificate, Claim
from pilotfish.stats import binomial
from pilotfish.stats.betting import Watch

# The audit rate, where the user has set none, makes audits and what they let pass cheapest together. At a rate r each
# local answer costs r further calls. A breach, at three times the promised risk a, serves 2 a wrong answers too many
# for the D / r answers until it is noticed. Whoever tolerates a share a of wrong answers to save a call each holds one
# to cost 1 / a calls at most. With one breach in T answers, r + 2 D / (r T) is least at r = sqrt(2 D / T).
BREACH_EVERY = 100_000
# Fewer audits than one in a hundred save nothing worth having; more than one in ten eat up what is saved.
LEAST_RATE = 0.01
MOST_RATE = 0.1


Change = Callable[[dict[str, Any] | None], dict[str, Any]]
"""Makes the next state of an audit from the one that is kept, None at its start."""


def observe(
    certificate: Certificate,
    keep: Callable[[Change], None],
    *,
    loss: float,
    is_local: bool,
    by_field: Sequence[float] = (),
) -> Audit | None:
    """The audit of `certificate` with one more audited request; None where another certificate is in force by now.

    `keep` applies a change to the state in one transaction, so that the evidence of all workers is of one sequence.
    """
    found: list[Audit] = []

    def change(state: dict[str, Any] | None) -> dict[str, Any]:
        audit = Audit.from_json(state) if state else Audit.start(certificate)
        audit.observe(loss=loss, is_local=is_local, by_field=by_field)
        found.append(audit)
        return audit.to_json()

    keep(change)
    return found[0] if found else None


class Audit:
    """The audits of one certificate so far."""

    def __init__(
        self,
        claim: Claim,
        *,
        quiet_risk: float | None = None,
        false_alarm: float = 0.05,
        horizon: int = 6000,
        n_fields: int = 1,
    ) -> None:
        """A fresh audit; what the numbers mean is said at `stats.betting.Watch.start`.

        Of a promise per field each of `n_fields` is watched, and the chance of a false alarm divided among them.
        """
        self.claim = claim
        quiet = self._seen(claim.max_risk / 2.0 if quiet_risk is None else quiet_risk)
        most = self._seen(claim.max_risk)
        watch = Watch.start(most, quiet_risk=quiet, false_alarm=false_alarm / n_fields, horizon=horizon)
        self.watches = [dataclasses.replace(watch) for _ in range(n_fields)]
        self.n = 0
        self.sums = [0.0] * n_fields
        self.withdrawn_at = 0

    @classmethod
    def start(cls, certificate: Certificate) -> Audit:
        """The audit of a certificate. The quiet risk is what calibration makes likely, up to the promise itself.

        Not the rate seen, which is low by the choice of the threshold: with it 10 % of kept promises of 5 % per answer
        were withdrawn within 6,000 audits. Its 80 % upper bound kept them to 3 % or less (`benchmarks/audits.py`).
        """
        claim = certificate.claim
        if claim.per == "loss":
            # The bound itself: the losses seen are low by the choice of the threshold here, too.
            return cls(claim, quiet_risk=min(max(certificate.bound, claim.max_risk / 4), claim.max_risk))
        base = certificate.n_served if claim.is_of_served else certificate.n
        likely = binomial.upper(math.ceil(certificate.errors), base, 0.2) if base else claim.max_risk
        n_fields = max(1, len(certificate.details.get("fields", ())))
        return cls(claim, quiet_risk=min(max(likely, claim.max_risk / 4), claim.max_risk), n_fields=n_fields)

    @property
    def watch(self) -> Watch:
        """The watch with the most evidence: the only one, or that of the worst field."""
        return max(self.watches, key=lambda watch: watch.evidence)

    @property
    def losses(self) -> float:
        """The losses seen, of the field that had most."""
        return max(self.sums)

    @property
    def withdraws(self) -> bool:
        """Whether the promise must be withdrawn; once true, it stays so."""
        return self.withdrawn_at > 0

    def observe(self, *, loss: float, is_local: bool, by_field: Sequence[float] = ()) -> bool:
        """Takes the next row that the coin drew; returns `withdraws`.

        `loss` in [0, 1] (per loss in [-1, 1]) is that of the local answer, `by_field` of each of its fields, `is_local`
        whether it was served.
        """
        if self.claim.is_of_served and not is_local:
            return self.withdraws
        loss = loss if is_local else 0.0
        self.n += 1
        counted = by_field if len(self.watches) > 1 else (loss,)
        for place, (watch, one) in enumerate(zip(self.watches, counted, strict=True)):
            self.sums[place] += one
            if watch.update(self._seen(one)) and not self.withdrawn_at:
                self.withdrawn_at = self.n
        return self.withdraws

    @property
    def tells(self) -> float:
        """The risk that power is stated for: three times the promised one, or what lies halfway to 1."""
        risk = 3 * self.watch.max_risk
        if risk < 1.0 and not math.isinf(self.watch.delay(risk)):
            return risk
        return (1.0 + self.watch.max_risk) / 2

    @property
    def needed(self) -> int:
        """About how many audits it takes to notice a true risk of `tells`."""
        return math.ceil(self.watch.delay(self.tells))

    def rate(self, asked: float | None = None) -> float:
        """The share of requests to audit: as `asked`, else what weighs its cost against the time to detection."""
        if asked is not None:
            return asked
        if self.claim.per == "loss":
            return MOST_RATE
        return min(MOST_RATE, max(LEAST_RATE, math.sqrt(2 * self.needed / BREACH_EVERY)))

    def evidence(self, rate: float) -> str:
        """The state in one plain sentence, at an audit rate of `rate`."""
        if self.claim.per == "loss":
            return self._evidence_of_loss()
        if not self.n:
            return f"No audit yet; {self.power(rate)}."
        low, high = binomial.wilson(self.losses, self.n)
        seen = (
            f"{self.losses:g} of {self.n:,} audited rows differed{self._where} ({low * 100:.2g} to {high * 100:.2g} %)"
        )
        if self.withdraws:
            limit = self.watch.max_risk * 100
            return f"Withdrawn after {self.withdrawn_at:,} audits: {seen}, which is too much for {limit:.3g} %."
        share = min(1.0, self.watch.evidence) * 100
        return f"{seen}; the evidence against the promise is at {share:.2g} % of what withdraws it; {self.power(rate)}."

    def _evidence_of_loss(self) -> str:
        if not self.n:
            return "No audit yet."
        seen = f"{self.n:,} audited rows lost {100 * self.losses / self.n:.2g} points on average"
        if self.withdraws:
            limit = self.claim.max_risk * 100
            return f"Withdrawn after {self.withdrawn_at:,} audits: {seen}, too much for {limit:.3g}."
        share = min(1.0, self.watch.evidence) * 100
        return f"{seen}; the evidence against the promise is at {share:.2g} % of what withdraws it."

    def _seen(self, loss: float) -> float:
        """A loss, or a risk, as the watch sees it: in [0, 1]."""
        return (1.0 + loss) / 2.0 if self.claim.per == "loss" else loss

    @property
    def _where(self) -> str:
        return " in the worst field" if len(self.watches) > 1 else ""

    def power(self, rate: float) -> str:
        """How soon a broken promise is noticed at an audit rate of `rate`.

        Counted in local answers for a promise per answer, in requests of the task for one per traffic.
        """
        if not rate:
            return "audits are turned off (audit_rate = 0), so a broken promise is never noticed"
        what = "answers" if self.claim.is_of_served else "requests"
        after = float(f"{self.needed / rate:.2g}")
        share = f"{self.tells * 100:.3g} %"
        return f"a true {share} is noticed after about {after:,.0f} {what} at an audit rate of {rate * 100:.2g} %"

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back."""
        row = {"format": 1, "claim": dataclasses.asdict(self.claim), "n": self.n, "withdrawn_at": self.withdrawn_at}
        watches = [dataclasses.asdict(watch) for watch in self.watches]
        if len(watches) > 1:
            return {**row, "watches": watches, "sums": self.sums}
        return {**row, "watch": watches[0], "losses": self.sums[0]}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Audit:
        """The audit that `to_json` wrote."""
        audit = cls.__new__(cls)
        audit.claim = Claim(**row["claim"])
        audit.watches = [Watch.from_json(watch) for watch in row.get("watches") or [row["watch"]]]
        audit.sums = list(row.get("sums") or [row["losses"]])
        audit.n, audit.withdrawn_at = row["n"], row["withdrawn_at"]
        return audit
