"""`log export` and `read_traffic` are each other's inverse, as far as the reference was asked."""

from __future__ import annotations

import json
from pathlib import Path

from pilotfish.core.messages import Usage
from pilotfish.store.base import LogFilter
from pilotfish.store.build import open_log, open_writer
from pilotfish.store.export import export
from pilotfish.store.traffic import read_traffic
from tools.log_rows import audit_row, instructions_row, local_row, request_row


def test_exported_rows_are_read_back_with_the_reference_s_answers(tmp_path: Path) -> None:
    body = {
        "messages": [{"role": "system", "content": "Name the intent."}],
        "response_format": {"type": "json_object"},
        "tools": None,
    }
    writer = open_writer(tmp_path / "home")
    for row in (
        instructions_row(body=json.dumps(body)),
        request_row("r0", time_s=3.0, input="money back"),
        local_row("r1", time_s=1.0, input="where is it"),
        audit_row("r1"),
        local_row("r2", time_s=2.0),
        request_row("r3", time_s=4.0, input=None),
    ):
        writer.append(row)
    writer.close()
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"".join(export(open_log(tmp_path / "home"), LogFilter())))
    traffic = read_traffic(path)
    assert traffic.format == "pilotfish log"
    assert [row.line for row in traffic.unreadable] == [2, 4]
    assert "locally" in traffic.unreadable[0].why
    audited, observed = traffic.exchanges
    assert (audited.answer, audited.time_s, audited.model, audited.usage) == ("refund", 1.0, "", None)
    assert (observed.answer, observed.time_s, observed.model) == ("delivery", 3.0, "large")
    assert observed.usage == Usage(prompt=12, completion=1)
    assert observed.latency_s == 0.5
    assert [message.text for message in observed.request.messages] == ["Name the intent.", "money back"]
    assert observed.request.response_format == {"type": "json_object"}
    assert observed.request.stream
