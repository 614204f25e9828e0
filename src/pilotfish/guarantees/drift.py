"""Drift: whether requests still look to the specialist as they did in calibration, noticed before labels say so.

Each certificate in force has one `Drift`. It ranks certainty and scope of every request the specialist looked at,
served or not, among those of the calibration rows and of all requests since (`stats/conformal.py`). Other scores break
no promise, so it withdraws nothing: it raises the coin of the audits until as many have spoken as tell a badly broken
promise, then begins again with the traffic since the alarm as what is usual. The coin depends on earlier requests
only, so audits stay unbiased.

Its JSON state survives a restart. Requests that it has missed (a crash between two writes) leave every statement
valid: those it saw were not chosen by what they say. It notices changed scores, not a changed reference; audits do.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

from pilotfish.core.certificate import Certificate
from pilotfish.guarantees.audit import Audit
from pilotfish.stats.conformal import Bets, Ranks

# Requests of unchanged traffic between two false alarms, at least this many on average. One costs the audits that
# answer it, a hundred or so: one call in 500 requests. Ten times fewer would notice a change about a fifth later.
FALSE_ALARM_EVERY = 50_000
# Both statistics get half of the false alarms.
STATISTICS = ("certainty", "scope")
# What audits are raised to: five times as soon, but never above one more call in five requests (the price of proving
# a better specialist where three quarters are served).
RAISED_TIMES = 5.0
RAISED_MOST = 0.2
# The weight of the last request in what "lately" means: the last two hundred or so.
_LATELY = 1 / 200


class Drift:
    """The watch over the scores of one certificate's traffic.

    `n` requests were watched since the certificate, the last alarm or its end; `lately` and `usual` are the shares that
    could be answered locally, now and before. `turn` counts alarms and their ends: of two states of the same
    certificate the one with the higher turn is the later.
    """

    def __init__(
        self,
        certificate: Certificate,
        audit_rate: float | None = None,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """A fresh watch. `audit_rate` is that of the settings, None where it is chosen; `chance` breaks ties of ranks.

        A certificate of an older version holds no baseline: then what is usual is learnt from the first requests.
        """
        audit = Audit.start(certificate)
        self.rate = audit.rate(audit_rate)
        self.certificate_id = certificate.id
        self._n_audits = audit.needed
        self._chance = chance
        found = certificate.details.get("baseline", {})
        self._ranks = {name: Ranks.from_json(found[name]) if name in found else Ranks.cut(()) for name in STATISTICS}
        limit = float(FALSE_ALARM_EVERY * len(STATISTICS))
        self._bets = {name: Bets.start(limit) for name in STATISTICS}
        self.n = 0
        self.turn = 0
        self.audits_left = 0
        self.usual = self.lately = certificate.coverage
        self.message = ""

    @property
    def is_raised(self) -> bool:
        """Whether audits are raised since an alarm."""
        return self.audits_left > 0

    @property
    def coin(self) -> float:
        """The probability with which the next request is audited; 0 where the user has turned audits off."""
        if not self.is_raised:
            return self.rate
        return max(self.rate, min(RAISED_TIMES * self.rate, RAISED_MOST))

    @property
    def evidence(self) -> float:
        """The stronger of both kinds of evidence of a change, 1 being enough."""
        return max(bets.evidence for bets in self._bets.values())

    def observe(self, *, certainty: float, scope: float, is_local: bool) -> bool:
        """Takes the next request that the specialist looked at; True where it gives the alarm.

        `is_local` is whether it was within both gates.
        """
        self.n += 1
        self.lately += _LATELY * (is_local - self.lately)
        changed = ""
        for name, score in zip(STATISTICS, (certainty, scope), strict=True):
            rank = self._ranks[name].rank(score, self._chance())
            # While audits are raised the traffic since the alarm is collected, and nothing is bet.
            if not self.is_raised and self._bets[name].update(rank) >= 1.0:
                changed = name
        if changed:
            self._alarm(changed)
        return bool(changed)

    def audited(self) -> bool:
        """Takes note that one audit more has spoken, without a withdrawal; True where it ends the raised coin."""
        if self.audits_left == 0:
            return False
        self.audits_left -= 1
        if self.audits_left > 0:
            return False
        self.turn += 1
        self.n, self.usual = 0, self.lately
        self.message = (
            f"{self._n_audits:,} audits since the drift did not withdraw the certificate. The coin is back at "
            f"{self.rate * 100:.2g} %, and the requests since then are what is usual now."
        )
        return True

    def _alarm(self, changed: str) -> None:
        """Raise the coin, and begin to collect what is usual from now on."""
        self.turn += 1
        self.message = (
            f"The {changed} of the requests has drifted, noticed after {self.n:,} of them: lately "
            f"{self.lately * 100:.0f} % could be answered locally, {self.usual * 100:.0f} % before. "
        )
        self._ranks = {name: ranks.emptied() for name, ranks in self._ranks.items()}
        self._bets = {name: Bets.start(bets.limit) for name, bets in self._bets.items()}
        self.n = 0
        if self.rate:
            self.audits_left = self._n_audits
            self.message += (
                f"{self.coin * 100:.2g} % of the requests are audited, {self.rate * 100:.2g} % before, until "
                f"{self.audits_left:,} more audits have spoken."
            )
        else:
            self.usual = self.lately
            self.message += "Audits are turned off, so nothing tells whether the promise still holds."

    def sentence(self) -> str:
        """The state in one plain sentence, or two."""
        if self.is_raised:
            return f"{self.message} {self.audits_left:,} of these are to come."
        seen = f"No drift in the last {self.n:,} requests" if self.n else "No request watched for drift yet"
        told = "raises the audit rate" if self.rate else "would be told"
        return f"{seen}; the evidence is at {self.evidence * 100:.2g} % of what {told}."

    def details(self) -> dict[str, Any]:
        """The numbers behind it, for status pages and events."""
        return {
            "certificate_id": self.certificate_id,
            "requests": self.n,
            "evidence": self.evidence,
            "is_raised": self.is_raised,
            "coin": self.coin,
            "audits_left": self.audits_left,
            "lately_local": self.lately,
            "usually_local": self.usual,
        }

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `take_over` reads it back."""
        return {
            "format": 1,
            "certificate_id": self.certificate_id,
            "n": self.n,
            "turn": self.turn,
            "audits_left": self.audits_left,
            "usual": self.usual,
            "lately": self.lately,
            "message": self.message,
            "ranks": {name: dataclasses.asdict(ranks) for name, ranks in self._ranks.items()},
            "capital": {name: bets.capital for name, bets in self._bets.items()},
        }

    def take_over(self, row: dict[str, Any] | None) -> Drift:
        """Go on from a state that `to_json` wrote, where it is about the same certificate; returns itself."""
        if row is None or row["certificate_id"] != self.certificate_id:
            return self
        self.n, self.turn, self.message = row["n"], row["turn"], row["message"]
        self.usual, self.lately = row["usual"], row["lately"]
        # Audits that are turned off would never end what they were raised for.
        self.audits_left = row["audits_left"] if self.rate else 0
        self._ranks = {name: Ranks.from_json(row["ranks"][name]) for name in STATISTICS}
        for name in STATISTICS:
            self._bets[name].capital = list(row["capital"][name])
        return self


def baseline(fold: dict[str, Sequence[float]], rows: dict[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """What a certificate keeps of its rows' scores, by statistic: their counts in bins cut by out-of-fold scores."""
    return {name: dataclasses.asdict(Ranks.cut(fold[name]).add(rows[name])) for name in STATISTICS}


def recounted(stated: dict[str, dict[str, Any]], rows: dict[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """A baseline with its bins as `stated`, which came from other rows, and `rows` counted in them anew."""
    return {name: dataclasses.asdict(Ranks.from_json(bins).emptied().add(rows[name])) for name, bins in stated.items()}
