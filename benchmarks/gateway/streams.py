"""Streams through the gateway beside nginx: CPU per chunk, and the time to the first token.

    python benchmarks/gateway/streams.py [--rounds 3] [--streams 64]

100 chunks, 10 ms apart, 64 streams at once with staggered starts; gateways on core 0, model server and clients on core
1. Ratios are taken inside a round. Writes benchmarks/results/streams-DATE.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import client
from pass_through import nginx

from record import save
from servers import Server, free_port, running, wait_for_quiet

PROXY = """
  upstream mock {{ server 127.0.0.1:{mock}; keepalive 256; }}
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://mock; proxy_http_version 1.1;
    proxy_set_header Connection ""; proxy_buffering off; }} }}
"""
N_EACH = 2


async def one_stream(port: int, wait_s: float) -> tuple[list[float], int]:
    await asyncio.sleep(wait_s)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = client.question("x", stream=True)
    firsts, n_chunks = [], 0
    for _ in range(N_EACH):
        begun_s = time.perf_counter()
        writer.write(
            f"POST {client.PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
        )
        reply = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in reply:
            sys.exit(f"a stream failed: {reply!r}")
        seen = b""
        while b"0\r\n\r\n" not in seen[-16:]:
            piece = await reader.read(65536)
            if b"data: " in piece and b"data: " not in seen:
                firsts.append(time.perf_counter() - begun_s)
            n_chunks += piece.count(b"data: {")
            seen = seen[-64:] + piece
    writer.close()
    return firsts, n_chunks


async def all_streams(port: int, n: int) -> tuple[list[float], int]:
    found = await asyncio.gather(*(one_stream(port, number / n) for number in range(n)))
    return [first for firsts, _ in found for first in firsts], sum(chunks for _, chunks in found)


def measure(server: Server | None, port: int, n: int) -> dict[str, float]:
    wait_for_quiet()
    before_s = server.cpu_s() if server else 0.0
    firsts, n_chunks = asyncio.run(all_streams(port, n))
    used_s = server.cpu_s() - before_s if server else 0.0
    return {"us_per_chunk": 1e6 * used_s / n_chunks, "first_ms": 1000 * statistics.median(firsts), "chunks": n_chunks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=64)
    options = parser.parse_args()
    os.sched_setaffinity(0, {1})
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, ports = Path(name), (free_port(), free_port())
        upstream = stack.enter_context(client.model_server())
        proxy = nginx(folder, "proxy", PROXY.format(mock=upstream.port, port=ports[0]))
        servers = [stack.enter_context(running("nginx", proxy, ports[0], core=0, answers=client.answers))]
        serve = [sys.executable, "-m", "pilotfish", "serve", "--large", upstream.url, "--model", "big"]
        serve += ["--port", str(ports[1]), "--home", str(folder / "home")]
        servers.append(stack.enter_context(running("pilotfish", serve, ports[1], core=0, answers=client.answers)))
        rounds = [
            {"direct": measure(None, upstream.port, options.streams)}
            | {server.name: measure(server, server.port, options.streams) for server in servers}
            for _ in range(options.rounds)
        ]
    ratio = statistics.median(row["pilotfish"]["us_per_chunk"] / row["nginx"]["us_per_chunk"] for row in rounds)
    added_ms = statistics.median(row["pilotfish"]["first_ms"] - row["direct"]["first_ms"] for row in rounds)
    for name in rounds[0]:
        us, ms = (statistics.median(row[name][key] for row in rounds) for key in ("us_per_chunk", "first_ms"))
        print(f"{name:10} {us:6.1f} us CPU a chunk, first token after {ms:.3f} ms")
    print(f"{ratio:.2f}x nginx's CPU a chunk; {added_ms:.3f} ms added to the first token")
    save("streams", rounds=rounds, over_nginx=ratio, added_ms=added_ms)


if __name__ == "__main__":
    main()
