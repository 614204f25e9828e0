"""How soon does a stream begin where a route reads the whole of the small model's answer, and where its beginning?

    python benchmarks/routing/first_token.py [--streams 64] [--at-once 4]

Two scripted servers of different speed behind the gateway: a small model (first token after 80 ms, then 10 ms each) and
a large one (400 ms, 20 ms), 100 tokens an answer. On every other prompt the small model is wrong, and its
log-probabilities show it. Both routes are learnt and certified by `pilotfish route train` from 600 such outcomes, one
on the first tokens, one on whole answers, and adopted in a home each. Times are a client's, until the first text and
until the end. Writes benchmarks/results/routing_first_token-DATE.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "gateway")]

import client

from record import save, show
from servers import free_port, running

N_TOKENS, N_OUTCOMES = 100, 600
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
SETTINGS = """
[server]
port = {port}
[large]
url = "{large}"
model = "large"
input_usd_per_mtok = 2.5
output_usd_per_mtok = 10.0
[models.small]
url = "{small}"
input_usd_per_mtok = 0.15
output_usd_per_mtok = 0.6
[routing]
models = ["small"]
audit_rate = 0.0
{margin}
"""


def is_hard(prompt: str) -> bool:
    return prompt.startswith("hard")


def logprobs(prompt: str) -> list[float]:
    """Those of the small model's answer: some tokens are doubtful everywhere, more where it is wrong."""
    source = random.Random(prompt)
    return [-source.expovariate(1.0 if is_hard(prompt) else 10.0) for _ in range(N_TOKENS)]


@dataclass
class Paced(client.ModelServer):
    """A model server whose first token comes late, and that tells log-probabilities."""

    first_s: float = 0.0

    async def _stream(self, writer: asyncio.StreamWriter, asked: dict[str, Any]) -> None:
        writer.write(HEAD)
        await asyncio.sleep(self.first_s)
        begun_s = time.perf_counter()
        for i, logprob in enumerate(logprobs(asked["messages"][-1]["content"])):
            choice: dict[str, Any] = {"index": 0, "delta": {"content": "word "}, "finish_reason": None}
            if asked.get("logprobs"):
                choice["logprobs"] = {"content": [{"token": "word ", "logprob": logprob, "top_logprobs": []}]}
            self._event(writer, {"choices": [choice]})
            await writer.drain()
            await asyncio.sleep(max(0.0, begun_s + (i + 1) * self.gap_s - time.perf_counter()))
        self._event(writer, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if asked.get("stream_options"):
            self._event(writer, {"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": N_TOKENS}})
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def _event(self, writer: asyncio.StreamWriter, row: dict[str, Any]) -> None:
        data = b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", **row}).encode() + b"\n\n"
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))


def outcomes(path: Path) -> Path:
    with path.open("w") as file:
        for i in range(N_OUTCOMES):
            prompt = f"{'hard' if i % 2 else 'easy'} {i}"
            small = {"score": float(not is_hard(prompt)), "text": "word " * N_TOKENS, "cost_usd": 6.6e-5}
            small |= {"logprobs": logprobs(prompt), "tokens": ["word "] * N_TOKENS, "latency_s": 1.08}
            large = {"score": 1.0, "text": "word " * N_TOKENS, "cost_usd": 1.1e-3, "latency_s": 2.4}
            row = {"request_id": f"r-{i}", "prompt": prompt, "answers": {"small": small, "large": large}}
            file.write(json.dumps(row) + "\n")
    return path


def pilotfish(*arguments: object) -> str:
    command = [sys.executable, "-m", "pilotfish", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def adopted(folder: Path, name: str, found: Path, *flags: str) -> tuple[Path, int, float]:
    """A home whose route was learnt with these flags; how many tokens it reads, and the share it keeps."""
    home, path = folder / name, folder / f"{name}.json"
    made = pilotfish(
        "route", "train", found, "--out", path, "--models", "small>large", "--margin", "0.05", "--json", *flags
    )
    pilotfish("route", "adopt", path, "--home", home)
    said = json.loads(made)
    return home, said["route"]["steps"][0].get("prefix", 0), said["verdict"]["coverage"]


async def one(port: int, model: str, prompt: str) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": prompt}]}).encode()
    begun_s = time.perf_counter()
    writer.write(
        f"POST {client.PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    if " 200 " not in head:
        sys.exit(f"a stream failed: {head!r}")
    first_s, seen = 0.0, b""
    while b"0\r\n\r\n" not in seen[-16:]:
        seen += await reader.read(65536)
        if not first_s and b"word" in seen:
            first_s = time.perf_counter() - begun_s
    writer.close()
    by = head.partition("x-pilotfish-model: ")[2].partition("\r\n")[0]
    return {"by": by, "first_ms": 1000 * first_s, "all_ms": 1000 * (time.perf_counter() - begun_s)}


async def streams(port: int, model: str, n: int, at_once: int) -> list[dict[str, Any]]:
    places = asyncio.Semaphore(at_once)

    async def next_one(i: int) -> dict[str, Any]:
        async with places:
            return await one(port, model, f"{'hard' if i % 2 else 'easy'} live {i}")

    return await asyncio.gather(*(next_one(i) for i in range(n)))


def median(rows: list[dict[str, Any]], key: str, by: str = "") -> float | None:
    values = [row[key] for row in rows if by in ("", row["by"])]
    return statistics.median(values) if values else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--at-once", type=int, default=4)
    options = parser.parse_args()
    is_ready = partial(client.answers, body=client.question("ready", model="auto"))
    figures = []
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        small = stack.enter_context(client.model_server(Paced(first_s=0.08, gap_s=0.01)))
        large = stack.enter_context(client.model_server(Paced(first_s=0.4, gap_s=0.02)))
        found = outcomes(folder / "outcomes.jsonl")
        prefix, whole = adopted(folder, "prefix", found), adopted(folder, "whole", found, "--prefix", "0")
        arms = [
            ("cascade, first tokens", prefix, "auto", True),
            ("cascade, whole answer", whole, "auto", True),
            ("always large", whole, "auto", False),
            ("always small", whole, "small", False),
        ]
        for title, (home, n_tokens, coverage), model, is_on in arms:
            port = free_port()
            config = home / "pilotfish.toml"
            margin = "margin = 0.05" if is_on else ""
            config.write_text(SETTINGS.format(port=port, large=large.url, small=small.url, margin=margin))
            command = [sys.executable, "-m", "pilotfish", "serve", "--config", str(config), "--home", str(home)]
            with running(title, command, port, core="0-1", answers=is_ready) as server:
                rows = asyncio.run(streams(port, model, options.streams, options.at_once))
                cpu_ms = 1000 * server.cpu_s() / len(rows)
            figures.append(
                {
                    "arm": title,
                    "tokens_read": n_tokens if is_on else None,
                    "certified_kept": coverage if is_on else None,
                    "by_small": sum(row["by"] == "small" for row in rows) / len(rows),
                    "mean_first_ms": statistics.fmean(row["first_ms"] for row in rows),
                    "first_ms": median(rows, "first_ms"),
                    "first_kept_ms": median(rows, "first_ms", "small"),
                    "first_large_ms": median(rows, "first_ms", "large"),
                    "all_ms": median(rows, "all_ms"),
                    "gateway_cpu_ms": cpu_ms,
                }
            )
            print(json.dumps(figures[-1]), flush=True)
    show("time to the first text", figures)
    save("routing_first_token", arms=figures, streams=options.streams, at_once=options.at_once)


if __name__ == "__main__":
    main()
