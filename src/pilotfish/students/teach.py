"""Which student a task gets: callers fit one whatever shape its answers have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.core.errors import UserError
from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.students.distil import Fitted, Progress, distil

if TYPE_CHECKING:  # without an encoder nothing of what runs one is installed
    import numpy as np
    from numpy.typing import NDArray

    from pilotfish.specialists.encoder import Encoder


def teach(
    examples: Sequence[Example],
    task: Task,
    encoder: Encoder | None,
    home: Path,
    *,
    embeddings: NDArray[np.float32] | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """The specialist that `examples` teach, by tags of words where the answers stand in the input.

    Raises `UserError` where they teach none, as an extraction does without an encoder.
    """
    if task.shape.kind != "extraction":
        return distil(examples, task, encoder, home, embeddings=embeddings, progress=progress)
    if encoder is None:
        raise UserError(
            f"The answers of {task.name} stand in its requests, and finding them there takes an encoder.",
            hint="[learning] encoder names one.",
        )
    from pilotfish.students.extraction import distil_extraction  # noqa: PLC0415

    return distil_extraction(examples, task, encoder, home, progress=progress)
