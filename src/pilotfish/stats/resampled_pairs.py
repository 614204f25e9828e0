"""Paired resampling: bootstrap of a mean difference by item or cluster, and approximate randomisation.

Ten thousand seeded resamples each. Scores take few values in practice, so a resample is drawn as how often each value
occurs (a multinomial), which gives the same distribution as drawing rows and takes milliseconds for any number of
them. What a result means is not known here.

Sources: P. Koehn, EMNLP 2004 (paired bootstrap, percentile); E. Noreen (1989), as in sacrebleu (approximate
randomisation: under "no difference" each pair may have been labelled either way round).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

from pilotfish.core.errors import MissingExtraError
from pilotfish.stats.binomial import Interval

try:
    import numpy as np
    from numpy.typing import NDArray
except ImportError as error:
    raise MissingExtraError("local", "numpy") from error

REPEATS = 10_000
_MOST_KINDS = 512
_CELLS_AT_ONCE = 1_000_000

Floats = NDArray[np.float64]


def paired_bootstrap(
    differences: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    confidence: float = 0.95,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Interval:
    """The percentile interval of the mean difference; whole clusters are drawn where they are given.

    Raises ValueError where there is no item.
    """
    if not differences:
        raise ValueError("A bootstrap needs at least one item.")
    sums, sizes = _units(differences, clusters)
    kinds, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    drawn = np.zeros((repeats, 2))
    if len(kinds) <= _MOST_KINDS:
        drawn = rng.multinomial(len(sums), counts / len(sums), size=repeats) @ kinds
    else:
        for part in _parts(repeats, len(sums)):
            chosen = rng.integers(0, len(sums), (part.stop - part.start, len(sums)), np.int32)
            drawn[part, 0] = sums[chosen].sum(axis=1)
            drawn[part, 1] = len(sums) if clusters is None else sizes[chosen].sum(axis=1)
    means = drawn[:, 0] / drawn[:, 1]
    cut = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [cut, 1.0 - cut])
    return Interval(float(low), float(high))


def randomisation_p(
    differences: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
) -> float:
    """The two-sided p-value of "neither is better": how often swapped labels differ at least as much.

    The observed labelling counts as one of the draws, so that the value is never 0 and the test never too good.
    """
    sums, _ = _units(differences, clusters)
    sizes, counts = np.unique(np.abs(sums), return_counts=True)
    observed = abs(sums.sum())
    rng = np.random.default_rng(seed)
    drawn = np.zeros(repeats)
    if len(sizes) <= _MOST_KINDS:
        drawn = (2 * rng.binomial(counts, 0.5, size=(repeats, len(counts))) - counts) @ sizes
    else:
        for part in _parts(repeats, len(sums)):
            n = part.stop - part.start
            bits = np.frombuffer(rng.bytes(n * (-(-len(sums) // 8))), np.uint8).reshape(n, -1)
            swapped = np.unpackbits(bits, axis=1, count=len(sums)).astype(np.float32)
            drawn[part] = sums.sum() - 2.0 * (swapped @ sums.astype(np.float32))
    n_as_large = int((np.abs(drawn) >= observed - 1e-9).sum())
    return (1 + n_as_large) / (1 + repeats)


def _parts(repeats: int, width: int) -> list[slice]:
    """The resamples in parts that fit into memory."""
    step = max(1, _CELLS_AT_ONCE // width)
    return [slice(start, min(start + step, repeats)) for start in range(0, repeats, step)]


def _units(differences: Sequence[float], clusters: Sequence[Hashable] | None) -> tuple[Floats, Floats]:
    """Sum and size of what is drawn as one: an item, or a cluster of them."""
    values = np.asarray(differences, np.float64)
    if clusters is None:
        return values, np.ones(len(values))
    sums: defaultdict[Hashable, float] = defaultdict(float)
    sizes: defaultdict[Hashable, int] = defaultdict(int)
    for value, cluster in zip(differences, clusters, strict=True):
        sums[cluster] += value
        sizes[cluster] += 1
    return np.array(list(sums.values())), np.array([float(size) for size in sizes.values()])
