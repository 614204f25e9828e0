"""Of n tries at one item c were right: how likely is it that k tries hold a right one, or are all right?

Both are the shares over all choices of k of the n tries, and so without bias; 1 - (1 - c/n)^k is not.

Source: Chen et al., arXiv 2107.03374, section 2.1 (pass@k); Yao et al., arXiv 2406.12045 (pass^k).
"""

from __future__ import annotations

from math import comb


def any_of(k: int, n: int, c: int) -> float:
    """pass@k: the chance that at least one of k tries is right. ValueError unless 0 <= c <= n and 1 <= k <= n."""
    _check(k, n, c)
    return 1.0 - comb(n - c, k) / comb(n, k)


def all_of(k: int, n: int, c: int) -> float:
    """pass^k: the chance that all of k tries are right. ValueError unless 0 <= c <= n and 1 <= k <= n."""
    _check(k, n, c)
    return comb(c, k) / comb(n, k)


def _check(k: int, n: int, c: int) -> None:
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"{k} of {n} tries, of which {c} were right")
