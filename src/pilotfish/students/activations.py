"""What the lower layers of an encoder say of each text, computed once: fine-tuning runs only the layers above them.

They are computed by the int8 graph, as they will be when the specialist serves, and kept as float16 in a file that is
mapped into memory: 20,000 texts of 128 tokens are 2 GB, which the system may let go of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotfish.core.errors import MissingExtraError
from pilotfish.specialists.encoder import Encoder, Graph, Text

try:
    import numpy as np
    from numpy.typing import NDArray
except ImportError as error:
    raise MissingExtraError("learn", error.name or "numpy") from error

_CHUNK = 256

Progress = Callable[[str, int, int], None]
"""As `distil.Progress`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activations:
    """`values[starts[i]:starts[i + 1]]` are those of text i, a row a token."""

    values: NDArray[np.float16]
    starts: NDArray[np.int64]

    def __getitem__(self, text: int) -> NDArray[np.float16]:
        return self.values[self.starts[text] : self.starts[text + 1]]

    def length(self, text: int) -> int:
        """Tokens of a text."""
        return int(self.starts[text + 1] - self.starts[text])


def compute(
    texts: Sequence[Text], encoder: Encoder, lower: Graph, path: Path, progress: Progress | None = None
) -> Activations:
    """The activations of the texts by the graph of the lower layers, kept in the file `path`, which is used where it is
    complete. Raises `SpecialistError` where onnxruntime fails."""
    starts = np.cumsum([0, *map(encoder.count_tokens, texts)])
    shape = (int(starts[-1]), encoder.dimension)
    try:
        known = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        known = None
    if known is None or known.shape != shape or known.dtype != np.float16:
        partial = path.with_suffix(".partial")
        values = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
        for number, text in enumerate(texts):
            values[starts[number] : starts[number + 1]] = encoder.run(text, lower)
            if progress is not None and (number % _CHUNK == 0 or number + 1 == len(texts)):
                progress("lower layers", number + 1, len(texts))
        values.flush()
        partial.replace(path)
        known = np.load(path, mmap_mode="r")
    return Activations(values=known, starts=starts)
