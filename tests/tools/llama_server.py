"""A real llama.cpp server on loopback, in a process of its own, over a tiny model with random weights.

The server is llama.cpp's own in C++, as the package xllamacpp brings it without a compiler. It is one of two slots and
one thread, counts embeddings beside, and ends with this process.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.tiny_gguf import N_LAYERS, write_gguf

N_SLOTS, N_CONTEXT = 2, 16384
ALIAS = "tiny"


@contextlib.contextmanager
def llama_server(folder: Path, *, n_layers: int = N_LAYERS) -> Iterator[str]:
    """The address of a server over a model of so many layers, written into `folder`, while the block lasts."""
    model = write_gguf(folder / "tiny.gguf", seed=abs(n_layers - N_LAYERS), n_layers=n_layers)
    command = [sys.executable, "-m", "tools.llama_server", str(model)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with (
        (folder / "llama.log").open("w") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            assert address, (folder / "llama.log").read_text()
            yield address
        finally:
            process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def main(model: str) -> None:
    """Serve until stdin ends; the first line of stdout is the address."""
    import xllamacpp  # noqa: PLC0415

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.model_alias = {ALIAS}
    parameters.hostnames, parameters.port = ["127.0.0.1"], 0
    parameters.n_parallel, parameters.n_ctx = N_SLOTS, N_SLOTS * N_CONTEXT
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.warmup, parameters.use_jinja = False, True
    parameters.embedding, parameters.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(parameters)
    sys.stdout.write(server.listening_address + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
