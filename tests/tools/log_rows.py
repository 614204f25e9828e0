"""Log rows with every field set, for the tests of the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pilotfish.core.log_row import AuditRow, GradeRow, InstructionsRow, RepeatRow, RequestRow, TriedRow
from pilotfish.store.build import open_writer
from pilotfish.store.home import open_home


def request_row(request_id: str = "r0", **fields: Any) -> RequestRow:
    values: dict[str, Any] = {
        "request_id": request_id,
        "time_s": 1.0,
        "instructions_id": "i",
        "task_id": "t",
        "mode": "serve",
        "model": "large",
        "reason": "observing",
        "sampling": "observe",
        "probability": 1.0,
        "input": "where is my\nparcel \u00fc \x00 '",
        "answer": "delivery",
        "reference_answer": "delivery",
        "prompt_tokens": 12,
        "completion_tokens": 1,
        "cost_usd": 0.25,
        "latency_s": 0.5,
        "is_stream": True,
    }
    return RequestRow(**(values | fields))


def local_row(request_id: str = "r0", **fields: Any) -> RequestRow:
    local = {"reason": "certified", "sampling": "local", "reference_answer": None, "certainty": 0.9, "scope": 0.8}
    return request_row(request_id, **(local | fields))


def audit_row(request_id: str = "r0", **fields: Any) -> AuditRow:
    values: dict[str, Any] = {"request_id": request_id, "time_s": 2.0, "reference_answer": "refund"}
    return AuditRow(**(values | fields))


def repeat_row(request_id: str = "r0", number: int = 1, **fields: Any) -> RepeatRow:
    values: dict[str, Any] = {
        "task_id": "t",
        "time_s": 2.0,
        "is_sampled": True,
        "reference_answer": "refund",
        "status": 200,
        "cost_usd": 0.25,
        "expected_usd": 0.5,
        "latency_s": 0.5,
    }
    return RepeatRow(request_id=request_id, number=number, **(values | fields))


def tried_row(request_id: str = "r0", **fields: Any) -> TriedRow:
    values: dict[str, Any] = {
        "request_id": request_id,
        "model": "small",
        "time_s": 1.5,
        "purpose": "collect",
        "probability": 0.5,
        "prompt": "hi",
        "tried": '{"text": "hello"}',
        "status": 200,
        "cost_usd": 0.25,
        "expected_usd": 0.5,
    }
    return TriedRow(**{**values, **fields})


def grade_row(request_id: str = "r0", **fields: Any) -> GradeRow:
    values: dict[str, Any] = {"source": "feedback", "time_s": 2.0, "scores": '{"big": 1.0}', "comment": "good"}
    return GradeRow(**{"request_id": request_id, **values, **fields})


def instructions_row(instructions_id: str = "i", **fields: Any) -> InstructionsRow:
    body = '{"messages": [{"role": "system", "content": "Name the intent."}], "response_format": null, "tools": null}'
    values: dict[str, Any] = {
        "instructions_id": instructions_id,
        "time_s": 1.0,
        "body": body,
        "text": "Name the intent.",
    }
    return InstructionsRow(**(values | fields))


def log_answers(home: Path, pairs: list[tuple[str, str]], *, task: str, instructions: str) -> None:
    """Write what the large model said to each text into the log of a home, in this order."""
    open_home(home).registry.close()
    writer = open_writer(home)
    writer.append(instructions_row(task, text=instructions))
    for number, (text, answer) in enumerate(pairs):
        said = {"input": text, "answer": answer, "reference_answer": answer, "mode": "observe"}
        writer.append(request_row(f"{number:06}", time_s=float(number), instructions_id=task, task_id=task, **said))
    writer.close()
