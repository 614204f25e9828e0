"""A home with a long log for the pages to show: a month of a support desk's requests, some tasks served, one refused.

Not a benchmark itself. The rows are made up; certificate and refusal come out of the real procedure on made-up scores.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from pilotfish.core.certificate import Certificate, Claim, Refusal
from pilotfish.core.log_row import AuditRow, InstructionsRow, LogRow, RequestRow
from pilotfish.core.task import AnswerShape, Field
from pilotfish.guarantees.certify import Evidence, Terms, certify
from pilotfish.guarantees.pace import Pace
from pilotfish.store.base import Event, TaskRecord
from pilotfish.store.build import open_registry
from pilotfish.store.spool import Spool
from pilotfish.store.sqlite_import import import_spool
from pilotfish.store.sqlite_log import SqliteLog

TASKS = (
    "sort-support-messages", "name-the-language", "is-it-urgent", "find-the-product", "tone-of-the-review",
    "route-to-a-team", "is-it-spam", "rate-the-lead", "name-the-intent", "write-a-reply",
    "summarize-the-call", "draft-an-offer",
)  # fmt: skip
INTENTS = ("delivery_status", "refund", "charged_twice", "change_address", "cancel_order", "other")
TEXT = "I ordered two weeks ago and the parcel still has not arrived, can you tell me where it is? Order {}"
DAYS = 30
CLAIM = Claim(max_risk=0.05)


def fill(home: Path, n: int, *, now_s: float | None = None) -> str:
    """Write the registry and `n` requests of the last month; the id of one that was answered locally and audited."""
    now_s = time.time() if now_s is None else now_s
    (home / "spool").mkdir(parents=True)
    SqliteLog(home / "log.db")
    certificates = _register(home, now_s)
    ids = {number: certificate.id for number, certificate in certificates.items()}
    rng, shown, done = random.Random(1), "", 0
    while done < n:
        spool = Spool(home / "spool")
        for number in range(done, min(done + 100_000, n)):
            at_s = now_s - DAYS * 86400 * (1 - (number + 1) / n)
            for row in _rows(rng, number, at_s, certificates, ids):
                if isinstance(row, AuditRow) and row.loss:
                    shown = row.request_id
                spool.append(row)
        spool.close()
        done = min(done + 100_000, n)
        import_spool(home / "spool", home / "log.db")
    return shown


def task_id(number: int) -> str:
    return f"{number:016x}"


def _register(home: Path, now_s: float) -> dict[int, Certificate]:
    registry = open_registry(home)
    found: dict[int, Certificate] = {}
    for number, name in enumerate(TASKS):
        is_open = number >= len(TASKS) - 3
        fields = () if is_open else (Field(name="", values=INTENTS),)
        shape = AnswerShape(
            kind="text" if is_open else "label", fields=fields, why_open="answers are free text" if is_open else ""
        )
        record = TaskRecord(
            task_id=task_id(number), name=name, instructions_id=task_id(number),
            instructions=f"Name the intent of the customer's message. Answer with one of: {', '.join(INTENTS)}.",
            shape=shape, mode="observe", pace=Pace(due_at=40_000).to_json(), updated_s=now_s,
        )  # fmt: skip
        registry.put_task(record)
        if is_open:
            continue
        verdict = certify(_evidence(number, is_good=number < 6), CLAIM, _terms(number, name))
        if isinstance(verdict, Certificate):
            found[number] = verdict
            registry.adopt(verdict)
            said = f"certificate {verdict.id}"
        else:
            assert isinstance(verdict, Refusal)
            registry.add_verdict(verdict)
            said = verdict.message
        kind = "certified" if isinstance(verdict, Certificate) else "refused"
        registry.add_event(Event(time_s=now_s - 86400, task_id=task_id(number), kind=kind, message=said, details={}))
    registry.close()
    return found


def _terms(number: int, name: str) -> Terms:
    return Terms(
        task_id=task_id(number), task_name=name, attempt=1, created_at="2026-11-22T00:00:00+00:00",
        split_rule="by time", data_sha256="d" * 64, artefact_sha256="",  # no file: nothing is to be loaded
    )  # fmt: skip


def _evidence(number: int, *, is_good: bool) -> Evidence:
    """Enough rows to certify a good specialist, fewer of one that is not."""
    n, wrong = (1500, 0.02) if is_good else (600, 0.3)
    rng = random.Random(number)

    def rows() -> tuple[list[float], list[float]]:
        certainty = [rng.betavariate(6, 1.2) for _ in range(n)]
        return [float(rng.random() < wrong + 0.8 * (1 - score) ** 2) for score in certainty], certainty

    fold, fold_certainty = rows()
    losses, certainty = rows()
    return Evidence(
        losses=losses, certainty=certainty, scope=[rng.random() for _ in range(n)],
        fold_losses=fold, fold_certainty=fold_certainty, fold_scope=[rng.random() for _ in range(n)],
    )  # fmt: skip


def _rows(
    rng: random.Random, number: int, at_s: float, certificates: dict[int, Certificate], ids: dict[int, str]
) -> list[LogRow]:
    task = min(int(rng.expovariate(0.45)), len(TASKS) - 1)
    certificate = certificates.get(task)
    certainty, scope = rng.betavariate(6, 1.2), 0.2 + 0.8 * rng.random()
    is_local = certificate is not None and certainty >= certificate.min_certainty and scope >= certificate.min_scope
    is_drawn = certificate is not None and rng.random() < 0.03
    answer = rng.choice(INTENTS)
    has_failed = not is_local and rng.random() < 0.002
    request_id = f"pf-{int(at_s * 1000):011x}{number:010x}"
    row = RequestRow(
        request_id=request_id, time_s=at_s, instructions_id=task_id(task), task_id=task_id(task),
        mode="serve" if certificate else "observe", model=f"pilotfish/{TASKS[task]}" if is_local else "large-model",
        reason="certified" if is_local else "uncertain" if certificate else "observing",
        sampling=("audit" if is_drawn else "local" if is_local else "deferred") if certificate else "observe",
        probability=0.03 if is_drawn else 1.0, input=TEXT.format(number), answer=None if has_failed else answer,
        reference_answer=None if is_local or has_failed else answer, local_answer=answer if certificate else None,
        certainty=certainty if certificate else None, scope=scope if certificate else None,
        tier=2 if certificate else None, local_s=0.0016 if certificate else None,
        status=502 if has_failed else 200, error="model_unreachable: no connection" if has_failed else "",
        prompt_tokens=0 if is_local else 412, completion_tokens=0 if is_local else 5,
        cost_usd=0.0 if is_local else None if has_failed else 0.000131,
        latency_s=0.0021 if is_local else 0.4 + 0.4 * rng.random(),
        certificate_id=ids.get(task, ""),
        specialist_sha256=certificate.artefact_sha256 if certificate else "",
        server="" if is_local else "https://model",
        tries=0 if is_local else 1,
    )  # fmt: skip
    rows: list[LogRow] = [row]
    if number < len(TASKS):
        messages = '{"messages": [{"role": "system", "content": "Name the intent of the customer\'s message."}]}'
        rows.append(
            InstructionsRow(instructions_id=task_id(number), time_s=at_s, body=messages, text="Name the intent.")
        )
    if is_local and is_drawn:
        differs = rng.random() < 0.03
        said = rng.choice([other for other in INTENTS if other != answer]) if differs else answer
        rows.append(
            AuditRow(
                request_id=request_id, time_s=at_s + 1, reference_answer=said, prompt_tokens=412, completion_tokens=5,
                cost_usd=0.000131, latency_s=0.6, task_id=task_id(task), loss=float(differs),
            )
        )  # fmt: skip
    return rows
