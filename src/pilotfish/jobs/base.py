"""The job protocol: work that runs beside the gateway and must never slow it or outlive it.

A job is seen through its progress and its end alone; what it does is known to whoever starts it, how it is run
to the files beside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

Progress = Callable[[dict[str, Any]], None]
"""Called with each JSON object the job reports, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a job ended. `last` is the last JSON object it reported, `stderr_tail` the end of its complaints."""

    exit_code: int
    last: dict[str, Any] | None = None
    stderr_tail: str = ""


class Job(Protocol):
    """A job that has been started."""

    async def wait(self) -> Finished:
        """How it ended, once it has."""

    async def stop(self) -> None:
        """End it, by force where asking does not help. Nothing happens where it has ended already."""
