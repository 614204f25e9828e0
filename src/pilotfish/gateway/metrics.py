"""The metrics of one gateway process in Prometheus's text format (exposition format 0.0.4).

Written by hand: the format is a few lines, and a client library would keep counts of its own. What is counted on
the way is known to `counts.py`; everything else is read here, when somebody asks. Every family stands in `FAMILIES`.
"""

from __future__ import annotations

import os
import platform
import resource
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path

from pilotfish.core.task import Mode
from pilotfish.gateway.counts import BOUNDS_S, Histogram, Labels
from pilotfish.gateway.running import Running

CONTENT_TYPE = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")

FAMILIES: dict[str, tuple[str, str, str]] = {
    "pilotfish_requests_total": (
        "counter",
        "reason, mode, status, format, task, tier",
        "Requests with a receipt; status is its class, tier the specialist's that answered.",
    ),
    "pilotfish_errors_total": (
        "counter",
        "code",
        "Errors by code, refused keys and limits included, and failures of the large model behind a stand-in's answer.",
    ),
    "pilotfish_request_seconds": (
        "histogram",
        "answered",
        "From the request's body to the end of the reply; answered is here or remote.",
    ),
    "pilotfish_local_decision_seconds": (
        "histogram",
        "",
        "Until the specialist knew its answer, waiting included, served or not.",
    ),
    "pilotfish_first_byte_seconds": ("histogram", "", "Until the first byte of a streamed reply."),
    "pilotfish_tokens_total": ("counter", "model, kind", "Tokens as servers told them; kind is prompt or completion."),
    "pilotfish_cost_usd_total": ("counter", "model", "US dollars at the configured prices, audits included."),
    "pilotfish_unknown_total": (
        "counter",
        "model, what",
        "Answers whose tokens or cost are not known, and so stand in neither sum.",
    ),
    "pilotfish_audits_total": ("counter", "task, outcome", "Audits that were made, that failed, that differed."),
    "pilotfish_audits_pending": ("gauge", "", "Audits under way."),
    "pilotfish_repeats_pending": ("gauge", "", "Requests being asked again."),
    "pilotfish_pairs_pending": ("gauge", "", "Requests of which a second model is being heard."),
    "pilotfish_routed_budget_usd": (
        "gauge",
        "part",
        "US dollars that routed requests may cost today (UTC), and have cost in the whole home; absent without one.",
    ),
    "pilotfish_withdrawals_total": ("counter", "task", "Certificates that audits have withdrawn, in the whole home."),
    "pilotfish_drift_alarms_total": ("counter", "task", "Times that scores told of drift, in the whole home."),
    "pilotfish_attempts_total": (
        "counter",
        "task, verdict",
        "Attempts at a certificate that ended certified or refused, in the whole home.",
    ),
    "pilotfish_tasks": ("gauge", "mode", "Tasks by what is done with them now."),
    "pilotfish_audit_rate": ("gauge", "task", "Share of a serving task's requests that are drawn for an audit now."),
    "pilotfish_log_gaps_total": ("counter", "", "Rows that could not be written."),
    "pilotfish_learner_runs_total": ("counter", "", "Learning processes that have ended."),
    "pilotfish_learner_running": ("gauge", "", "1 while one runs."),
    "pilotfish_server_open": (
        "gauge",
        "model, server",
        "1 while the circuit breaker leaves the server alone; servers are numbered as configured, from 0.",
    ),
    "pilotfish_server_failures": ("gauge", "model, server", "Failures of the server in a row."),
    "pilotfish_privacy_total": (
        "counter",
        "outcome",
        "Requests that were masked, that had to stay local, that were refused for either.",
    ),
    "pilotfish_inference_waiting": ("gauge", "", "Texts waiting for a specialist, or being read by one."),
    "pilotfish_process_resident_bytes": ("gauge", "", "Memory of the process; absent where the system does not tell."),
    "pilotfish_process_cpu_seconds_total": ("counter", "", "Processor time of the process."),
    "pilotfish_start_time_seconds": ("gauge", "", "When the gateway started, in seconds since the epoch."),
    "pilotfish_build_info": ("gauge", "version, python, process", "Always 1."),
}
"""Name to type, labels and meaning."""

MODES: tuple[Mode, ...] = ("observe", "shadow", "serve")
REFUSED = ("privacy_local_only", "privacy_unmaskable")

_VERDICTS = ("certified", "refused")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})

Sample = tuple[Mapping[str, str], float]


def render(running: Running, events: Mapping[tuple[str, str], int]) -> bytes:
    """All families that have a sample. `events` are those of the registry, by task id and kind."""
    lines: list[str] = []
    counts = running.records.counts
    histograms = {
        "pilotfish_request_seconds": {"here": counts.here, "remote": counts.remote},
        "pilotfish_local_decision_seconds": {"": counts.decision},
        "pilotfish_first_byte_seconds": {"": counts.first_byte},
    }
    samples = dict(_counted(running)) | dict(_of_the_home(running, events)) | dict(_of_now(running))
    for name, (kind, _, text) in FAMILIES.items():
        if name in histograms:
            found = [line for label, it in histograms[name].items() for line in _histogram(name, label, it)]
        else:
            found = [f"{name}{_labels(labels)} {value!r}" for labels, value in samples[name]]
        if found:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *found]
    return ("\n".join(lines) + "\n").encode()


def _counted(running: Running) -> Iterator[tuple[str, list[Sample]]]:
    counts = running.records.counts
    yield "pilotfish_requests_total", _requests(counts.requests)
    yield "pilotfish_errors_total", _by("code", counts.errors)
    spent = counts.spent.items()
    yield (
        "pilotfish_tokens_total",
        [({"model": model, "kind": kind}, n) for model, it in spent for kind, n in _tokens(it.prompt, it.completion)],
    )
    yield "pilotfish_cost_usd_total", _by("model", {model: it.cost_usd for model, it in spent})
    yield (
        "pilotfish_unknown_total",
        [
            ({"model": model, "what": what}, n)
            for model, it in spent
            for what, n in (("tokens", it.unknown_tokens), ("cost", it.unknown_cost))
        ],
    )
    audits = sorted(counts.audits.items())
    yield "pilotfish_audits_total", [({"task": task, "outcome": outcome}, n) for (task, outcome), n in audits]
    refused = sum(counts.errors[code] for code in REFUSED)
    privacy = {outcome: counts.privacy[outcome] for outcome in ("masked", "local")}
    yield "pilotfish_privacy_total", _by("outcome", {**privacy, "refused": refused})


def _of_the_home(running: Running, events: Mapping[tuple[str, str], int]) -> Iterator[tuple[str, list[Sample]]]:
    names = {live.record.task_id: live.record.name for live in running.tasks.all()}
    by_kind: dict[str, Counter[str]] = {kind: Counter() for kind in ("withdrawn", "drift", *_VERDICTS)}
    for (task_id, kind), n in sorted(events.items()):
        if task_id in names and kind in by_kind:
            by_kind[kind][names[task_id]] += n
    yield "pilotfish_withdrawals_total", _by("task", by_kind["withdrawn"])
    yield "pilotfish_drift_alarms_total", _by("task", by_kind["drift"])
    attempts = [(task, verdict, n) for verdict in _VERDICTS for task, n in by_kind[verdict].items()]
    yield "pilotfish_attempts_total", [({"task": task, "verdict": verdict}, n) for task, verdict, n in attempts]


def _of_now(running: Running) -> Iterator[tuple[str, list[Sample]]]:
    tasks = running.tasks.all()
    modes = Counter(live.mode for live in tasks)
    yield "pilotfish_tasks", _by("mode", {mode: modes[mode] for mode in MODES})
    rates = {live.record.name: live.coin for live in tasks if live.mode == "serve"}
    yield "pilotfish_audit_rate", _by("task", rates)
    states = running.answerers.names.states().items()
    servers = [(model, str(i), it) for model, found in states for i, it in enumerate(found)]
    yield "pilotfish_server_open", [({"model": m, "server": i}, int(it["is_open"])) for m, i, it in servers]
    yield "pilotfish_server_failures", [({"model": m, "server": i}, it["failures_in_a_row"]) for m, i, it in servers]
    learner = running.learner
    used = resource.getrusage(resource.RUSAGE_SELF)
    plain: dict[str, float] = {
        "pilotfish_audits_pending": running.audits.n_pending,
        "pilotfish_repeats_pending": running.repeats.n_pending,
        "pilotfish_pairs_pending": running.pairs.n_pending,
        "pilotfish_log_gaps_total": running.records.writer.n_gaps,
        "pilotfish_learner_runs_total": learner.n_runs,
        "pilotfish_learner_running": int(learner.status["is_running"]),
        "pilotfish_inference_waiting": running.inference.n_waiting,
        "pilotfish_process_cpu_seconds_total": used.ru_utime + used.ru_stime,
        "pilotfish_start_time_seconds": running.started_s,
    }
    budget = running.answerers.routed.budget
    parts = {} if budget is None else {"limit": budget.usd_per_day, "spent": budget.spent_usd}
    yield "pilotfish_routed_budget_usd", _by("part", parts)
    for name, value in plain.items():
        yield name, [({}, value)]
    yield "pilotfish_process_resident_bytes", [({}, n_bytes) for n_bytes in _resident_bytes()]
    build = {"version": version("pilotfish"), "python": platform.python_version(), "process": str(os.getpid())}
    yield "pilotfish_build_info", [(build, 1)]


def _requests(requests: Mapping[Labels, int]) -> list[Sample]:
    """Statuses by their class: which of a vendor's hundred it was stands in the log."""
    classes: Counter[tuple[str, ...]] = Counter()
    for (reason, mode, status, path, task, tier), n in requests.items():
        classes[reason, mode, f"{status // 100}xx", path.strip("/"), task, tier] += n
    names = ("reason", "mode", "status", "format", "task", "tier")
    return [(dict(zip(names, labels, strict=True)), n) for labels, n in sorted(classes.items())]


def _tokens(prompt: int, completion: int) -> tuple[tuple[str, int], ...]:
    return ("prompt", prompt), ("completion", completion)


def _by(label: str, values: Mapping[str, float]) -> list[Sample]:
    return [({label: name}, value) for name, value in values.items()]


def _histogram(name: str, answered: str, histogram: Histogram) -> Iterable[str]:
    labels = {"answered": answered} if answered else {}
    bounds = [*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"]
    total = 0
    for bound, total in zip(bounds, accumulate(histogram.buckets), strict=True):
        yield f"{name}_bucket{_labels({**labels, 'le': bound})} {total}"
    yield f"{name}_sum{_labels(labels)} {histogram.sum_s!r}"
    yield f"{name}_count{_labels(labels)} {total}"


def _labels(labels: Mapping[str, str]) -> str:
    said = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())
    return f"{{{said}}}" if said else ""


def _resident_bytes() -> list[int]:
    """The resident memory now, nothing where there is no /proc."""
    try:
        pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    except OSError:
        return []
    return [int(pages) * os.sysconf("SC_PAGE_SIZE")]
