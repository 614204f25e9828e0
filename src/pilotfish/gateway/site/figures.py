"""The figures at the head of the overview: by name, so that the page and its live updates say the same.

They come from the hourly sums of the log, which all worker processes fill, never from the counters of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import shorten

from pilotfish.core.measured import Measured
from pilotfish.gateway.running import Running
from pilotfish.gateway.site import savings, words
from pilotfish.store.periods import Period, PeriodFilter

DEFAULT_DAYS = 30
HOUR_S = 3600
READ_ANEW_S = 60.0

MOST_SHOWN = 60
"""Characters of the first alarm in its tile; all of it stands below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is known of a time: sums and estimates, by task, and all that is wrong now."""

    tasks: list[Period]
    totals: savings.Totals
    agreement: Measured
    alarms: list[str]

    def said(self) -> dict[str, str]:
        """Each figure in words."""
        sums, totals = self.totals.sums, self.totals
        unpriced = totals.n_unpriced
        return {
            "requests": words.count(sums.n_requests),
            "failed": f"{words.count(sums.n_failed)} failed",
            "share": words.percent(totals.local_share),
            "local": f"{words.count(sums.n_local)} of {words.count(sums.n_requests)}",
            "spent": words.money(totals.spent_usd) if totals.spent_usd or not unpriced else "unknown",
            "unpriced": f"{words.count(unpriced)} calls of unknown cost not counted"
            if unpriced
            else "every cost known",
            "saved": words.money(totals.saved_usd.value) if totals.saved_usd.value is not None else words.NONE,
            "saved-note": totals.saved_usd.why_none or "by specialists: estimated, net of audits and repeated calls",
            "time": words.duration(totals.saved_s.value) if totals.saved_s.value is not None else words.NONE,
            "time-note": totals.saved_s.why_none or "estimated, of waiting",
            "agreement": words.percent(self.agreement.value, 2),
            "agreement-note": words.interval(self.agreement),
            "alarms": words.count(len(self.alarms)),
            "alarms-note": shorten((self.alarms or ["nothing is wrong"])[0], MOST_SHOWN, placeholder=" …"),
        }


def gather(running: Running, since_s: float) -> Figures:
    """The figures since a time. Reads log and registry, so not from the event loop."""
    return _figures(
        running, since_s, running.log.periods(PeriodFilter(since_s=since_s, by="task")), running.log.n_gaps()
    )


class Live:
    """The same every two seconds, for one thread: nothing is added up anew while the log has not changed.

    What is older than an hour or two is read once a minute.
    """

    def __init__(self, running: Running) -> None:
        self._running = running
        self._log = running.log.reader()
        self._read_s = 0.0
        self._known: tuple[float, float, int] = (0.0, 0.0, -1)
        self._older: list[Period] = []
        self._tasks: list[Period] = []
        self._n_gaps = 0

    def gather(self, since_s: float, now_s: float) -> Figures:
        """The figures since a time."""
        edge_s = (now_s // HOUR_S - 1) * HOUR_S
        known = (since_s, edge_s, self._log.version())
        if known != self._known:
            if known[:2] != self._known[:2] or now_s - self._read_s > READ_ANEW_S:
                self._older = self._log.periods(PeriodFilter(since_s=since_s, until_s=edge_s, by="task"))
                self._read_s = now_s
            newer = self._log.periods(PeriodFilter(since_s=edge_s, by="task"))
            self._tasks = savings.merged([*self._older, *newer])
            self._n_gaps = self._log.n_gaps()
            self._known = known
        return _figures(self._running, since_s, self._tasks, self._n_gaps)

    def close(self) -> None:
        """Close the log."""
        self._log.close()


def _figures(running: Running, since_s: float, tasks: list[Period], n_gaps: int) -> Figures:
    totals = savings.total(tasks, has_price=running.records.rows.has_price)
    return Figures(
        tasks=tasks, totals=totals, agreement=savings.agreement(totals.sums), alarms=alarms(running, since_s, n_gaps)
    )


def alarms(running: Running, since_s: float, n_gaps: int) -> list[str]:
    """What a person should know of, most urgent first. `n_gaps` rows of the log are known to be lost."""
    found = [f"{part}: {what}" for part, what in running.not_ready().items()]
    for model, servers in running.answerers.names.states().items():
        n_open = sum(bool(server["is_open"]) for server in servers)
        if n_open:
            found.append(f"{model}: {n_open} of {len(servers)} servers are left alone after failures")
    found += _not_loaded(running)
    names = {}
    for live in running.tasks.all():
        names[live.record.task_id] = live.record.name
        if live.drift is not None and live.drift.is_raised:
            found.append(f"{live.record.name}: {live.drift.sentence()}")
    if n_gaps:
        found.append(f"{n_gaps:,} requests are missing in the log: they could not be written, or a crash tore them")
    for event in running.registry.events(limit=200):
        if event.kind == "withdrawn" and event.time_s >= since_s:
            found.append(f"{names.get(event.task_id, event.task_id)}, {words.moment(event.time_s)}: {event.message}")
    if running.learner.status["last_error"]:
        found.append(f"Learning failed: {running.learner.status['last_error']}")
    return found


def _not_loaded(running: Running) -> list[str]:
    found = []
    for name, error in running.tasks.not_loaded().items():
        said = f"{name}: its specialist cannot be loaded, so the large model answers everything. {error}"
        found.append(f"{said} Once that is mended, demote and promote the task, or start the gateway again")
    route = running.answerers.routed.live
    if route.fault is not None:
        found.append(f"Open requests: the large model answers them all, since {route.why_none}")
    return found
