"""What the int8 graph of the default encoder loses against fp32, on this machine's processor.

    OPENBLAS_NUM_THREADS=1 python benchmarks/students/encoder.py

The cosine distance between the embeddings of both, 150 texts spread over each set; and the time of one text alone, int8
and fp32 in turns. A processor on which products of bytes overflow would show in the distance. Needs ../shared/data.
Writes benchmarks/results/encoder-DATE.json.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pilotfish.specialists.encoder import Encoder
from pilotfish.students import encoder_cache, encoder_graph, weights

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import labelled, save, show

SETS = ("sst2", "banking77", "ag_news_7600")
N_TEXTS = 150


def encoder(folder: Path, precision: encoder_graph.Precision) -> Encoder:
    found = weights.find()
    graph = encoder_graph.write_graph(found.folder, precision=precision)
    place = folder / precision
    place.mkdir()
    encoder_cache.write_artefact(place, found, graph)
    return Encoder.load(place)


def compared(name: str, exact: Encoder, small: Encoder) -> dict[str, Any]:
    rows = labelled(name)
    distances, times = [], {"fp32": [], "int8": []}
    for row in rows[:: len(rows) // N_TEXTS][:N_TEXTS]:
        vectors = []
        for precision, one in (("fp32", exact), ("int8", small)):
            started_s = time.process_time()
            vectors.append(one.encode([row["text"]])[0])
            times[precision].append(time.process_time() - started_s)
        distances.append(1.0 - float(vectors[0] @ vectors[1]))
    return {
        "data": name,
        "texts": len(distances),
        "mean_distance": f"{statistics.fmean(distances):.5f}",
        "max_distance": f"{max(distances):.5f}",
        **{f"{precision}_p50_ms": round(1e3 * statistics.median(took), 3) for precision, took in times.items()},
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        exact, small = encoder(Path(temporary), "fp32"), encoder(Path(temporary), "int8")
        figures = [compared(name, exact, small) for name in SETS]
    show("int8 against fp32, one text alone", figures)
    save("encoder", figures=figures)


if __name__ == "__main__":
    main()
