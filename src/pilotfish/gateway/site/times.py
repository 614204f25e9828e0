"""The table of what happened, one row a step of time: of all requests, or of one task's."""

from __future__ import annotations

from collections.abc import Sequence

from pilotfish.gateway.site import savings, words
from pilotfish.gateway.site.tables import Column, Table
from pilotfish.store.periods import Period

_COLUMNS = (
    Column(key="from", head="From (UTC)"),
    Column(key="requests", head="Requests", show=words.count, is_number=True),
    Column(key="answered_locally", head="Locally", show=words.count, is_number=True),
    Column(key="failed", head="Failed", show=words.count, is_number=True),
    Column(key="audited", head="Audited", show=words.count, is_number=True),
    Column(key="differed", head="Differed", show=words.count, is_number=True),
)


def times(periods: Sequence[Period], *, name: str, caption: str = "Over time", query: str = "") -> Table:
    """The table, newest first."""
    rows = []
    for period in periods[::-1]:
        agreed = savings.agreement(period)
        rows.append(
            {
                "from": words.moment(period.start_s),
                "requests": period.n_requests,
                "answered_locally": period.n_local,
                "failed": period.n_failed,
                "audited": period.n_judged,
                "differed": period.losses,
                "agreement": agreed.value,
                "agreement_low": agreed.low,
                "agreement_high": agreed.high,
                "cost_usd": savings.spent_usd(period),
            }
        )
    return Table(name=name, caption=caption, columns=_COLUMNS, rows=rows, none="No request in this time.", query=query)
