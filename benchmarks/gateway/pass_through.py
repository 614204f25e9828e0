"""The gateway's CPU per request beside nginx and LiteLLM's proxy, its start, its memory, and a local answer's time.

    python benchmarks/gateway/pass_through.py [--rounds 3] [--seconds 4] [--litellm PATH]

The model server is nginx answering one fixed chat completion; the gateways run on core 0, model server and load
(wrk, keep-alive) on core 1, each run after the machine has become quiet. CPU is user and system time of the gateway's
whole process tree over the answered requests; ratios are taken inside one round and the median over rounds is
reported. Pilotfish logs every request and imports the log into SQLite; nginx keeps no access log. LiteLLM runs from a
virtual environment of its own (PATH, default .venv-litellm) and is skipped where there is none. Writes
benchmarks/results/gateway-DATE.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import local

from record import save
from servers import Server, free_port, running, wait_for_quiet

CLIENTS = (1, 16)

PROMPT = "Classify the intent of this customer message. " * 20
REQUEST = json.dumps(
    {
        "model": "big",
        "temperature": 0,
        "messages": [{"role": "system", "content": PROMPT}, {"role": "user", "content": "Where is my parcel, please?"}],
    }
)
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "big",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "track_order " * 20}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 180, "completion_tokens": 60, "total_tokens": 240},
    }
)

NGINX = """
daemon off; master_process off; error_log stderr crit; pid {folder}/{name}.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/{name}-body; proxy_temp_path {folder}/t;
  fastcgi_temp_path {folder}/t; uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
  {body}
}}
"""
MOCK = "server {{ listen 127.0.0.1:{port}; default_type application/json; location / {{ return 200 '{answer}'; }} }}"
PROXY = """
  upstream mock {{ server 127.0.0.1:{mock}; keepalive 256; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port};
    location / {{ proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
"""
LITELLM = """
model_list:
  - model_name: big
    litellm_params: {{model: openai/big, api_base: "http://127.0.0.1:{mock}/v1", api_key: none}}
litellm_settings: {{callbacks: [], num_retries: 0, telemetry: false}}
general_settings: {{master_key: sk-bench}}
"""
WRK = """
wrk.method = "POST"
wrk.body = [==[{request}]==]
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer sk-bench"
done = function(summary, latency, requests)
  io.write(string.format('RESULT {{"requests": %d, "seconds": %f, "failed": %d, "p50_ms": %f, "p99_ms": %f}}\\n',
    summary.requests, summary.duration / 1e6, summary.errors.status + summary.errors.connect + summary.errors.read
    + summary.errors.timeout, latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


def answers(port: int, body: bytes = REQUEST.encode()) -> bool:
    """Whether the server on `port` gives a whole answer to the request."""
    headers = {"content-type": "application/json", "authorization": "Bearer sk-bench"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            json.load(response)
    except OSError:
        return False
    return True


def load_it(server: Server, n_clients: int, seconds: float, folder: Path) -> dict[str, float]:
    """Figures of one bounded run of wrk."""
    script = folder / "post.lua"
    script.write_text(WRK.format(request=REQUEST))
    url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{n_clients}", f"-d{seconds}s", "-s", str(script), url]
    wait_for_quiet()
    before_s = server.cpu_s()
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cpu_s = server.cpu_s() - before_s
    row = json.loads(next(line for line in output.splitlines() if line.startswith("RESULT"))[7:])
    if row["failed"]:
        sys.exit(f"{server.name}: {row['failed']} of {row['requests']} requests failed")
    return {
        "cpu_us": 1e6 * cpu_s / row["requests"],
        "rps": row["requests"] / row["seconds"],
        "p50_ms": row["p50_ms"],
        "p99_ms": row["p99_ms"],
    }


def nginx(folder: Path, name: str, body: str) -> list[str]:
    config = folder / f"{name}.conf"
    config.write_text(NGINX.format(folder=folder, name=name, body=body))
    return ["nginx", "-p", str(folder), "-c", str(config)]


def pass_through(folder: Path, litellm: Path | None, n_rounds: int, seconds: float) -> dict[str, Any]:
    """All gateways before one model server, in turn, several rounds."""
    with contextlib.ExitStack() as stack:
        mock, ports = free_port(), [free_port() for _ in range(3)]
        stack.enter_context(
            running("mock", nginx(folder, "mock", MOCK.format(port=mock, answer=ANSWER)), mock, core=1, answers=answers)
        )
        proxy = nginx(folder, "proxy", PROXY.format(mock=mock, port=ports[0]))
        servers = [stack.enter_context(running("nginx", proxy, ports[0], core=0, answers=answers))]
        serve = [sys.executable, "-m", "pilotfish", "serve", "--large", f"http://127.0.0.1:{mock}/v1", "--model", "big"]
        serve += ["--port", str(ports[1]), "--home", str(folder / "home")]
        servers.append(stack.enter_context(running("pilotfish", serve, ports[1], core=0, answers=answers)))
        if litellm is not None:
            config = folder / "litellm.yaml"
            config.write_text(LITELLM.format(mock=mock))
            command = [str(litellm / "bin" / "litellm"), "--config", str(config), "--port", str(ports[2])]
            environment = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
            command += ["--host", "127.0.0.1"]
            servers.append(
                stack.enter_context(running("litellm", command, ports[2], core=0, answers=answers, **environment))
            )
        rounds = [
            {server.name: {str(n): load_it(server, n, seconds, folder) for n in CLIENTS} for server in servers}
            for _ in range(n_rounds)
        ]
        memory = {server.name: round(server.rss_mb(), 1) for server in servers}
        cold = {server.name: round(server.cold_s, 3) for server in servers}
    return {"rounds": rounds, "rss_mb": memory, "cold_s": cold}


def ratios(rounds: list[dict[str, Any]], above: str, below: str, n_clients: int) -> dict[str, float]:
    values = [row[above][str(n_clients)]["cpu_us"] / row[below][str(n_clients)]["cpu_us"] for row in rounds]
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def print_figures(figures: dict[str, Any]) -> None:
    rounds = figures["rounds"]
    print(f"{'gateway':10} {'clients':>7} {'CPU us/request':>15} {'requests/s':>11} {'p50 ms':>8} {'p99 ms':>8}")
    for server in rounds[0]:
        for n_clients in CLIENTS:
            middle = {
                key: statistics.median(row[server][str(n_clients)][key] for row in rounds)
                for key in ("cpu_us", "rps", "p50_ms", "p99_ms")
            }
            print(
                f"{server:10} {n_clients:7} {middle['cpu_us']:15.1f} {middle['rps']:11,.0f} "
                f"{middle['p50_ms']:8.3f} {middle['p99_ms']:8.3f}"
            )
    for server in rounds[0]:
        print(
            f"{server:10} cold start {figures['cold_s'][server]:.2f} s, {figures['rss_mb'][server]:.0f} MB after load"
        )
    for what, ratio in figures["ratios"].items():
        print(f"{what}: {ratio['median']:.2f}x CPU per request ({ratio['low']:.2f} to {ratio['high']:.2f})")
    local = figures["local"]
    print(
        f"local answer through HTTP, one client, up to 60 characters: p50 {local['p50_ms']} ms, "
        f"p95 {local['p95_ms']} ms (n {local['n']}); cold start {local['cold_s']} s, "
        f"{local['rss_mb']} MB with one specialist"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--litellm", type=Path, default=Path(".venv-litellm"))
    options = parser.parse_args()
    missing = [name for name in ("nginx", "wrk", "taskset") if shutil.which(name) is None]
    if missing:
        sys.exit(f"skipped: {', '.join(missing)} is not installed")
    litellm = options.litellm if (options.litellm / "bin" / "litellm").is_file() else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = pass_through(folder, litellm, options.rounds, int(options.seconds))
        with local.gateway(folder / "served") as (server, bodies):
            figures["local"] = local.one_client(server, bodies)
    rounds = figures["rounds"]
    pairs = [("pilotfish", "nginx")] + ([("litellm", "pilotfish")] if litellm is not None else [])
    figures["ratios"] = {
        f"{above} over {below}, {n} clients": ratios(rounds, above, below, n) for above, below in pairs for n in CLIENTS
    }
    print_figures(figures)
    if litellm is None:
        print(f"litellm    skipped: no virtual environment at {options.litellm}")
    save("gateway", **figures)


if __name__ == "__main__":
    main()
