"""The times of one model from the rows of its run: TTFT, TPOT, ITL, end to end, goodput and throughput.

Percentiles are of answers that came; goodput is a share of all requests, since one that never came back met no limit.
Definitions: reference/measuring.md, section 4.3 (TPOT and ITL leave the first token out; chunks are not tokens).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pilotfish.core.errors import ConfigError
from pilotfish.core.measured import Measured
from pilotfish.evals.run_file import AnswerRow, ModelRow, SessionRow
from pilotfish.stats.binomial import wilson
from pilotfish.stats.percentiles import percentile

LATENCIES = ("ttft", "tpot", "itl", "end_to_end")
LIMITED = ("ttft", "tpot", "end_to_end")
"""What goodput may be about."""

SHARES = (0.5, 0.9, 0.95, 0.99)
MISSED = ("error", "timeout")
"""Failures of calls that brought no answer."""


def latencies(rows: Sequence[AnswerRow], model: ModelRow) -> dict[str, dict[str, Measured]]:
    """TTFT, TPOT, ITL and end to end in seconds, by percentile, of the answers that came."""
    timed = [row for row in rows if row.failure not in MISSED and row.latency_s is not None]
    values: dict[str, list[float]] = {
        "ttft": [row.ttft_s for row in timed if row.ttft_s is not None],
        "tpot": [tpot for row in timed if (tpot := tpot_s(row)) is not None],
        "itl": [gap / 1e3 for row in timed for gap in row.gaps_ms],
        "end_to_end": [row.latency_s for row in timed if row.latency_s is not None],
    }
    why = _why_none(model)
    result = {}
    for name in LATENCIES:
        found = {f"p{100 * share:g}": percentile(values[name], share) for share in SHARES}
        result[name] = found if values[name] else dict.fromkeys(found, _none(why, "s"))
    return result


def tpot_s(row: AnswerRow) -> float | None:
    """Seconds per output token after the first; undefined for one token."""
    if row.ttft_s is None or row.latency_s is None or row.completion_tokens is None or row.completion_tokens < 2:
        return None
    return (row.latency_s - row.ttft_s) / (row.completion_tokens - 1)


def goodput(rows: Sequence[AnswerRow], limits_s: Mapping[str, float], model: ModelRow) -> Measured:
    """The share of requests that met all of `limits_s` (seconds by name of `LIMITED`), with Wilson's interval.

    An answer of one token has no TPOT and meets any. None where a limit is about what this model's answers do not have.
    """
    came = [row for row in rows if row.failure not in MISSED]
    for name in limits_s:
        if not came or all(_time_s(name, row) is None for row in came):
            return _none(f"{_why_none(model)}: no {name}")
    if "tpot" in limits_s and any(row.completion_tokens is None for row in came):
        return _none("no token counts")
    n_good = sum(row.failure not in MISSED and _is_met(row, limits_s) for row in rows)
    low, high = wilson(n_good, len(rows))
    return Measured(value=n_good / len(rows), low=low, high=high, n=len(rows), method="Wilson")


def limits(stated: Sequence[tuple[str, str]]) -> dict[str, float]:
    """`(name, milliseconds)` as seconds by name. Raises `ConfigError` where one is none."""
    found = {}
    for name, text in stated:
        try:
            found[name] = float(text.removesuffix("ms")) / 1e3
        except ValueError as error:
            raise ConfigError(f"--slo {name}={text} is no time.", hint="Milliseconds: --slo ttft=500.") from error
        if name not in LIMITED or not found[name] > 0:
            raise ConfigError(f"--slo {name}={text} limits nothing.", hint=f"Known: {', '.join(LIMITED)}, above 0 ms.")
    return found


def rate(sessions: Sequence[SessionRow], counts: Sequence[int | None], unit: str, model: ModelRow) -> Measured:
    """The total of `counts`, one a session, over the wall time of all sessions."""
    wall_s = sum(session.wall_s for session in sessions)
    total = sum(count for count in counts if count is not None)
    if model.kind == "recording":
        return _none("n/a for a recording", unit)
    if not wall_s or any(count is None for count in counts):
        return _none("no token counts" if "token" in unit else "not measured", unit)
    n = sum(session.n for session in sessions)
    return Measured(value=total / wall_s, unit=unit, n=n, method="total over wall time")


def rate_each(rows: Sequence[AnswerRow]) -> Measured:
    """Output tokens a second as one client sees them: all tokens over all time that clients waited."""
    timed = [row for row in rows if row.failure not in MISSED and row.latency_s]
    waited_s = sum(row.latency_s or 0.0 for row in timed)
    if not waited_s or any(row.completion_tokens is None for row in timed):
        return _none("no token counts" if waited_s else "not measured", "tokens/s")
    total = sum(row.completion_tokens or 0 for row in timed)
    return Measured(value=total / waited_s, unit="tokens/s", n=len(timed), method="total over time waited")


def _time_s(name: str, row: AnswerRow) -> float | None:
    if name != "tpot":
        return row.ttft_s if name == "ttft" else row.latency_s
    return None if row.ttft_s is None or row.latency_s is None else tpot_s(row) or 0.0


def _is_met(row: AnswerRow, limits_s: Mapping[str, float]) -> bool:
    times = [(_time_s(name, row), limit_s) for name, limit_s in limits_s.items()]
    return all(time_s is not None and time_s <= limit_s for time_s, limit_s in times)


def _why_none(model: ModelRow) -> str:
    return "n/a: answers come whole" if model.kind in ("specialist", "function") else "not recorded"


def _none(why: str, unit: str = "") -> Measured:
    return Measured(value=None, unit=unit, why_none=why)
