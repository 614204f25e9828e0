"""What a fault of the model server costs the client, and how often it is asked, beside LiteLLM's proxy.

    python benchmarks/gateway/failover.py [--litellm PATH]

One scripted server on loopback speaks every fault, each below a path of its own; a gateway stands in front of all of
them, as models with one server (`FAULT-alone`) and with a second one in good health (`FAULT-pair`). Gateway on core 0,
server and client on core 1. "Added" is the median time of a fail-over above that of an undisturbed request; a breaker
opens after five failures, so each model is asked four times and there are 25 of them. LiteLLM (default retries; its
second server is a fallback group) runs from a virtual environment of its own (PATH, default .venv-litellm) and is
skipped where there is none. Writes benchmarks/results/failover-DATE.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import save
from servers import free_port, running, wait_for_quiet

N_MODELS, N_EACH = 25, 4
TIMEOUT_S = 3.0
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()
ERROR = b'{"error":{"message":"broken","type":"server_error","code":"broken"}}'


def reply(status: int, body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 %d Any" % status, b"content-type: application/json", b"content-length: %d" % len(body)]
    return b"\r\n".join([*lines, *headers, b"", body])


REPLIES = {
    "fine": reply(200, ANSWER),
    "500": reply(500, ERROR),
    "503": reply(503, ERROR),
    "429 with retry-after": reply(429, ERROR, b"retry-after: 2"),
    "429 without": reply(429, ERROR),
    "HTML error body": reply(502, b"<html>").replace(b"application/json", b"text/html"),
    "malformed JSON": reply(200, b'{"choices":'),
    "empty 200": reply(200, b""),
    "closed without a byte": b"",
    "reset": b"",
    "hang": None,
}
FAULTS = ("refused", *[name for name in REPLIES if name != "fine"])


class Broken:
    """The server of all faults. `calls` counts what was asked below each path."""

    def __init__(self) -> None:
        self.port = 0
        self.calls: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                await reader.readexactly(length)
                name = FAULTS[int(head.split(b"/")[1])] if head.split(b"/")[1] != b"fine" else "fine"
                self.calls[name] += 1
                found = REPLIES[name]
                if found is None:
                    await reader.read()
                    break
                writer.write(found)
                if name == "reset":
                    connection = writer.get_extra_info("socket")
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if not found:
                    break
        writer.close()

    @contextlib.contextmanager
    def running(self) -> Iterator[Broken]:
        """Serve in a thread as long as the block lasts."""
        loop, stop, is_ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

        async def run() -> None:
            listener = await asyncio.start_server(self.serve, "127.0.0.1", 0)
            self.port = listener.sockets[0].getsockname()[1]
            is_ready.set()
            await stop.wait()
            listener.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
        thread.start()
        is_ready.wait()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()

    def url(self, name: str, refused: int) -> str:
        """The base URL below which requests meet a fault; `refused` is a port that nobody listens on."""
        if name == "refused":
            return f"http://127.0.0.1:{refused}/v1"
        return f"http://127.0.0.1:{self.port}/{name if name == 'fine' else FAULTS.index(name)}/v1"


def models() -> dict[str, tuple[str, bool]]:
    """Model name to the fault of its first server, and whether it has a second."""
    found = {f"{FAULTS.index(name)}-alone": (name, False) for name in FAULTS}
    found |= {f"{FAULTS.index(name)}-pair-{n}": (name, True) for name in ("refused", "500") for n in range(N_MODELS)}
    return found


def pilotfish(folder: Path, broken: Broken, refused: int, port: int) -> list[str]:
    fine = broken.url("fine", refused)
    lines = ["[large]", f'url = "{fine}"', 'model = "big"']
    for name, (fault, is_pair) in models().items():
        lines += [f"[models.{name}]", f'url = "{broken.url(fault, refused)}"', f"timeout_s = {TIMEOUT_S}"]
        lines += [f'endpoints = ["{fine}"]'] if is_pair else []
    config = folder / "pilotfish.toml"
    config.write_text("\n".join(lines))
    command = [sys.executable, "-m", "pilotfish", "serve", "--config", str(config), "--port", str(port)]
    return [*command, "--home", str(folder / "home")]


def litellm(folder: Path, path: Path, broken: Broken, refused: int, port: int) -> list[str]:
    def group(name: str, fault: str) -> dict[str, Any]:
        base = broken.url(fault, refused)
        return {
            "model_name": name,
            "litellm_params": {"model": "openai/m", "api_base": base, "api_key": "none", "timeout": TIMEOUT_S},
        }

    settings = {
        "model_list": [group("big", "fine"), *(group(name, fault) for name, (fault, _) in models().items())],
        "litellm_settings": {"callbacks": [], "telemetry": False},
        "router_settings": {"fallbacks": [{name: ["big"]} for name, (_, is_pair) in models().items() if is_pair]},
        "general_settings": {"master_key": "sk-bench"},
    }
    config = folder / "litellm.yaml"
    config.write_text(json.dumps(settings))
    return [str(path / "bin" / "litellm"), "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]


class Client:
    """One kept connection to a gateway."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, model: str) -> tuple[int, float, dict[str, str]]:
        """Status, milliseconds and headers."""
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]})
        headers = {"content-type": "application/json", "authorization": "Bearer sk-bench"}
        begun_s = time.perf_counter()
        self._connection.request("POST", "/v1/chat/completions", body, headers)
        response = self._connection.getresponse()
        response.read()
        took_ms = 1000 * (time.perf_counter() - begun_s)
        return response.status, took_ms, {name.lower(): value for name, value in response.getheaders()}


def answers(port: int) -> bool:
    try:
        return Client(port).ask("big")[0] == 200
    except OSError:
        return False


def measure(port: int, broken: Broken, *, n_models: int, n_each: int) -> dict[str, Any]:
    wait_for_quiet()
    client = Client(port)
    for _ in range(20):
        client.ask("big")
    figures: dict[str, Any] = {"alone": [], "failover": []}
    for name in FAULTS:
        before = broken.calls[name]
        status, took_ms, headers = client.ask(f"{FAULTS.index(name)}-alone")
        row = {"fault": name, "status": status, "ms": round(took_ms, 1), "calls": broken.calls[name] - before}
        figures["alone"].append({**row, "retry_after": headers.get("retry-after", "")})
    for name in ("refused", "500"):
        plain, times = [], []
        for n in range(n_models):
            for _ in range(n_each):
                plain.append(client.ask("big")[1])
                status, took_ms, _ = client.ask(f"{FAULTS.index(name)}-pair-{n}")
                if status != 200:
                    sys.exit(f"{name}: a fail-over ended in HTTP {status}")
                times.append(took_ms)
        undisturbed_ms, median_ms = statistics.median(plain), statistics.median(times)
        figures["failover"].append(
            {
                "fault": name,
                "n": len(times),
                "undisturbed_ms": round(undisturbed_ms, 3),
                "added_ms": round(median_ms - undisturbed_ms, 3),
                "slowest_ms": round(max(times), 3),
            }
        )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--litellm", type=Path, default=Path(".venv-litellm"))
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, Broken().running() as broken:
        folder, refused, ports = Path(name), free_port(), (free_port(), free_port())
        command = pilotfish(folder, broken, refused, ports[0])
        with running("pilotfish", command, ports[0], core=0, answers=answers):
            found["pilotfish"] = measure(ports[0], broken, n_models=N_MODELS, n_each=N_EACH)
        if (options.litellm / "bin" / "litellm").is_file():
            command = litellm(folder, options.litellm, broken, refused, ports[1])
            environment = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
            with running("litellm", command, ports[1], core=0, answers=answers, **environment):
                found["litellm"] = measure(ports[1], broken, n_models=3, n_each=1)
        else:
            print(f"litellm    skipped: no virtual environment at {options.litellm}")
    print(f"{'gateway':10} {'fault, one server':24} {'status':>6} {'ms':>9} {'calls':>5}  retry-after")
    for gateway, figures in found.items():
        for row in figures["alone"]:
            cells = f"{row['status']:6} {row['ms']:9.1f} {row['calls']:5}  {row['retry_after']}"
            print(f"{gateway:10} {row['fault']:24} {cells}")
    for gateway, figures in found.items():
        for row in figures["failover"]:
            print(
                f"{gateway:10} fail-over on {row['fault']}: {row['added_ms']:.2f} ms added to "
                f"{row['undisturbed_ms']:.2f} (medians of {row['n']}), slowest {row['slowest_ms']:.1f} ms"
            )
    save("failover", gateways=found)


if __name__ == "__main__":
    main()
