"""Where a finished request is noted: its row in the log, the counts of this process, and spans where they are wanted.

One noun, so that whoever notes something (chat, audits, repeats) cannot have one of them without the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from pilotfish.gateway.counts import Counts
from pilotfish.gateway.rows import RowMaker
from pilotfish.gateway.spans import Spans
from pilotfish.store.base import LogWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What one gateway keeps of requests."""

    writer: LogWriter
    rows: RowMaker
    counts: Counts
    spans: Spans
