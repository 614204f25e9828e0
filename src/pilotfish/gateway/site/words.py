"""How the pages write figures: the same everywhere, and a dash or a reason where there is none."""

from __future__ import annotations

import time

from pilotfish.core.measured import Measured
from pilotfish.evals.wording import dollars

NONE = "-"


def count(n: float | None) -> str:
    """`1234` as `1,234`."""
    return NONE if n is None else f"{n:,.0f}"


def percent(share: float | None, digits: int = 1) -> str:
    """`0.123` as `12.3 %`."""
    return NONE if share is None else f"{100 * share:.{digits}f} %"


def money(usd: float | None) -> str:
    """US dollars, with as many digits as small amounts need."""
    return NONE if usd is None else dollars(usd)


def duration(seconds: float | None) -> str:
    """A time span in the unit that fits."""
    if seconds is None:
        return NONE
    size = abs(seconds)
    if size < 1:
        return f"{1000 * seconds:.1f} ms"
    if size < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:,.1f} min" if size < 7200 else f"{seconds / 3600:,.1f} h"


def moment(seconds: float | None) -> str:
    """A time in UTC, to the second."""
    return NONE if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def day(seconds: float) -> str:
    """A day in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def score(value: float | None) -> str:
    """A score of a gate."""
    return NONE if value is None else f"{value:.4f}"


def interval(figure: Measured) -> str:
    """The interval of a share and its n, or why there is none."""
    if figure.value is None or figure.low is None or figure.high is None:
        return figure.why_none
    return f"{100 * figure.low:.1f} to {100 * figure.high:.1f} % (95 %), n = {figure.n:,}"
