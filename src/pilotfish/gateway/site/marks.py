"""Which answer was right, where specialist and large model disagreed: marked by a person, counted, with its history.

Marks say what the disagreements that somebody read were like. Whoever reads chooses, so they are no random sample: no
certificate, audit or mode ever changes by them, and the page says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pilotfish.core.by_hand import VERDICTS, Mark, Verdict
from pilotfish.core.errors import RequestError
from pilotfish.core.measured import Measured
from pilotfish.gateway.live_tasks import LiveTask
from pilotfish.gateway.site import requests, words
from pilotfish.gateway.site.page import Seen, form, task_path
from pilotfish.gateway.site.tables import Column, Table
from pilotfish.pages.elements import Child, Html, element
from pilotfish.stats import binomial

N_HISTORY = 50
_BUTTONS: dict[Verdict, str] = {
    "reference": "Large model",
    "specialist": "Specialist",
    "both": "Both",
    "neither": "Neither",
}
_CAUTION = (
    "Marks are of disagreements that somebody chose to read, which is no random sample. They tell how much a "
    "disagreement matters, and change no certificate, no audit and no mode; nothing is learnt from them."
)


def said(seen: Seen, live: LiveTask) -> tuple[Html, Table]:
    """What the marks of a task come to, in a sentence, and the counts as a table."""
    tally = seen.running.by_hand.tally(live.record.task_id)
    counts: Counter[Verdict] = Counter()
    for (verdict, _), n in tally.items():
        counts[verdict] += n
    total = counts.total()
    rows = []
    for verdict, meaning in VERDICTS.items():
        share = _share(counts[verdict], total)
        rows.append(
            {"verdict": verdict, "meaning": meaning, "marked": counts[verdict], "share": share.value,
             "low": share.low, "high": share.high}
        )  # fmt: skip
    columns = (
        Column(key="meaning", head="Marked"),
        Column(key="marked", head="Disagreements", show=words.count, is_number=True),
        Column(key="share", head="Share", show=words.percent, is_number=True),
        Column(key="low", head="At least", show=words.percent, is_number=True),
        Column(key="high", head="At most (95 %)", show=words.percent, is_number=True),
    )
    none = "No disagreement has been marked yet."
    table = Table(name="marks", caption="Who was right", columns=columns, rows=rows if total else [], none=none)
    parts: list[Child] = []
    if total:
        current = sum(n for (_, sha256), n in tally.items() if sha256 == live.record.specialist_sha256)
        share = _share(counts["specialist"], total)
        sentence = (
            f"Of {total:,} disagreement{'s' * (total != 1)} marked, "
            f"the specialist was right in {counts['specialist']:,} "
            f"({words.percent(share.value)}; {words.interval(share)}), the large model in {counts['reference']:,}, "
            f"both in {counts['both']:,}, neither in {counts['neither']:,}."
        )
        older = f" {current:,} of them are of the specialist in force." if current < total else None
        parts.append(element("p", sentence, older))
    parts.append(element("p", _CAUTION, class_="soft"))
    return element("section", table.html(task_path(live.record.name)), parts, id="marks"), table


def history(seen: Seen, live: LiveTask) -> Table:
    """Every mark of a task, those that were replaced too."""
    rows = [
        {
            "time": words.moment(mark.time_s),
            "request_id": mark.request_id,
            "verdict": mark.verdict,
            "meaning": VERDICTS[mark.verdict],
            "specialist_sha256": mark.specialist_sha256,
        }
        for mark in seen.running.by_hand.marks(live.record.task_id, N_HISTORY)
    ]
    columns = (
        Column(key="time", head="Time (UTC)"),
        Column(key="request_id", head="Request", show=requests.request_link),
        Column(key="meaning", head="Marked"),
    )
    return Table(name="marked", caption="Marks, newest first", columns=columns, rows=rows, none="None yet.")


def of(seen: Seen, task_id: str, request_ids: Sequence[str]) -> dict[str, Verdict]:
    """What counts of these requests now."""
    return seen.running.by_hand.marked(task_id, request_ids)


def column(seen: Seen, live: LiveTask, marked: Mapping[str, Verdict]) -> Column:
    """The column of the marks, as buttons for who may mark."""
    if not (seen.is_admin and seen.keeps_text):
        return Column(key="marked", head="Was right", show=_BUTTONS.__getitem__)

    def buttons(request_id: str) -> Html:
        return form(
            f"{task_path(live.record.name)}/mark",
            seen,
            element("input", type="hidden", name="request", value=request_id),
            element("input", type="hidden", name="differing", value=seen.query.get("differing", "")),
            [_button(verdict, request_id, is_chosen=marked.get(request_id) == verdict) for verdict in VERDICTS],
        )

    return Column(key="request_id", head="Was right", show=buttons)


def carry_out(seen: Seen, task: str, sent: Mapping[str, str]) -> str | None:
    """Keep a mark; the path to go back to, None where there is no such task.

    Raises `RequestError` where it is none of the verdicts, or the request is no disagreement of the task.
    """
    live = seen.running.tasks.find(task)
    if live is None:
        return None
    verdict = next((known for known in VERDICTS if known == sent.get("verdict")), None)
    if verdict is None:
        raise RequestError("The mark was not understood.", param="verdict", hint=f"One of {', '.join(VERDICTS)}.")
    request_id, log = sent.get("request", ""), seen.running.log
    row, audit = log.row(request_id), log.audit(request_id)
    if row is None or row.task_id != live.record.task_id or audit is None or not audit.loss:
        raise RequestError(
            f"The log holds no disagreement {request_id[:64]!r} of this task.",
            param="request",
            status=404,
            hint="Reload the task's page.",
        )
    mark = Mark(
        request_id=request_id,
        task_id=live.record.task_id,
        verdict=verdict,
        time_s=seen.now_s,
        specialist_sha256=row.specialist_sha256,
    )
    seen.running.by_hand.add_mark(mark)
    page = sent.get("differing", "")
    return (
        task_path(live.record.name) + (f"?differing={page}" if page.isdecimal() and page.isascii() else "") + "#marks"
    )


def _share(n: int, total: int) -> Measured:
    if not total:
        return Measured(value=None, why_none="none is marked")
    low, high = binomial.wilson(n, total)
    return Measured(value=n / total, low=low, high=high, n=total, method="Wilson")


def _button(verdict: Verdict, request_id: str, *, is_chosen: bool) -> Html:
    name = _BUTTONS[verdict]
    return element(
        "button",
        name,
        type="submit",
        name="verdict",
        value=verdict,
        class_="small",
        aria_pressed="true" if is_chosen else "false",
        aria_label=f"{name}: {request_id}",
    )
