"""Measures how many bytes a second all cores together read from memory; run as a process of its own.

Two loops in the manner of STREAM (McCalpin 1995) over arrays far larger than the caches: summing, which only reads, as
decoding does, and adding two arrays into a third. The best of a few rounds of the faster one counts, since anything
else the machine does can only slow it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

N_VALUES = 1 << 23
"""64 MiB an array."""
ROUNDS = 4


def measure(n_values: int = N_VALUES) -> float:
    """Bytes a second."""
    n_threads = max(1, os.cpu_count() or 1)
    size = n_values // n_threads
    arrays = [tuple(np.ones(size) for _ in range(3)) for _ in range(n_threads)]

    def add(i: int) -> None:
        a, b, c = arrays[i]
        np.add(a, b, out=c)

    def read(i: int) -> None:
        for array in arrays[i]:
            array.sum()

    moved = 3 * 8 * size * n_threads
    best = 0.0
    with ThreadPoolExecutor(n_threads) as pool:
        for work in (add, read):
            for _ in range(ROUNDS):
                started = time.perf_counter()
                list(pool.map(work, range(n_threads)))
                best = max(best, moved / (time.perf_counter() - started))
    return best


if __name__ == "__main__":
    method = f"sum and add of 64 MiB arrays, best of {ROUNDS}, {os.cpu_count()} threads"
    sys.stdout.write(json.dumps({"bandwidth": measure(), "method": method}))
