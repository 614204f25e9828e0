"""A compressed prefix tree: values stored at texts, found for all beginnings of another text at once.

Each branch is a dictionary entry on the next character, so a look-up walks one path and compares each
character of the text at most once, however many texts the tree holds. It knows nothing of templates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class PrefixTree(Generic[T]):
    """One place in a prefix tree: `edge` leads to it from its parent, `value` belongs to the text that ends here."""

    edge: str = ""
    branches: dict[str, PrefixTree[T]] = field(default_factory=dict)
    value: T | None = None

    def at(self, text: str) -> PrefixTree[T]:
        """The node below this one at `text`, made where it is missing."""
        node = self
        while text:
            branch = node.branches.get(text[0])
            if branch is None:
                branch = node.branches[text[0]] = PrefixTree(text)
            elif not text.startswith(branch.edge):
                shared = n_shared(branch.edge, text)
                fork = PrefixTree(text[:shared], {branch.edge[shared]: branch})
                branch.edge = branch.edge[shared:]
                branch = node.branches[text[0]] = fork
            text = text[len(branch.edge) :]
            node = branch
        return node

    def values(self, text: str) -> Iterator[tuple[int, T]]:
        """The values of the beginnings of `text`, shortest first, each with its length."""
        position, node = 0, self
        while True:
            if node.value is not None:
                yield position, node.value
            branch = node.branches.get(text[position : position + 1])
            if branch is None or not text.startswith(branch.edge, position):
                return
            position += len(branch.edge)
            node = branch


def n_shared(a: str, b: str, start: int = 0) -> int:
    """The length of the common beginning of `a` and `b`, known to be at least `start`."""
    low, high = start, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
