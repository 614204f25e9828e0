"""`pilotfish demo`: the whole loop on bundled traffic, through the real gateway, with the official client.

The reference is a recording: it answers what was written down for each request, after a pretended delay.
Everything else is real: the gateway on loopback, its log, the learning subprocess, certificate, audits. Traffic
waits while something is learnt, so that months fit into a minute; live it would go on to the large model.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilotfish.cli import output
from pilotfish.cli.report import print_report
from pilotfish.config.settings import (
    LargeSettings,
    LearningSettings,
    QualitySettings,
    ServerSettings,
    Settings,
    check_ranges,
)
from pilotfish.core.errors import MissingExtraError, StoreError, UserError

if TYPE_CHECKING:
    from pilotfish.core.messages import Price
    from pilotfish.store.home import Home
    from pilotfish.store.traffic import Exchange

DELAY_S = 0.001
"""Pretended thinking time of the recording; a hosted large model takes a few hundred times as long."""

MODEL = "recorded-large-model"
POLL_EVERY = 20
"""Requests between two looks at the learner."""

# Round figures of the order that large hosted models cost; an example, not a quotation.
EXAMPLE_PRICE = (2.5, 10.0)


@click.command("demo", help="Run the whole loop on bundled example traffic, in about a minute, all on this machine.")
@click.option("--max-risk", default=0.05, show_default=True, help="Tolerated disagreement with the large model.")
@click.option("--per", type=click.Choice(["answer", "traffic"]), default="traffic", show_default=True)
@click.option(
    "--requests",
    "limit",
    default=4000,
    show_default=True,
    type=click.IntRange(1),
    help="How many of the 5,843 requests.",
)
@click.option("--home", type=click.Path(path_type=Path), help="Keep log, registry and specialists in this folder.")
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON document.")
def command(max_risk: float, per: str, limit: int, home: Path | None, as_json: bool) -> int:
    started = time.monotonic()
    exchanges = _bundled()[:limit]
    say = (lambda _: None) if as_json else click.echo
    with _folder(home) as folder:
        settings = _settings(folder, max_risk, per)
        check_ranges(settings)
        say(
            f"{len(exchanges):,} recorded requests of a support desk, two tasks mixed, in time order (written for this "
            f"demo).\nThe large model is a recording that answers after a pretended {1000 * DELAY_S:.0f} ms."
            f"\nPromise asked for: disagreement per {per} at most {100 * max_risk:g} % with 95 % confidence.\n"
        )
        run = _Run(settings=settings, exchanges=exchanges)
        with output.Progress() as progress:
            run.play(progress, say)
        found, figures = run.result(started)
        if as_json:
            output.print_json({**found.to_json(), **figures})
            return 0
        click.echo("")
        print_report(found)
        _print_figures(figures)
        if home is not None:
            click.echo(f"\nLook around: pilotfish tasks --home {home}; pilotfish log list --home {home}")
    return 0


def _bundled() -> list[Exchange]:
    from pilotfish.store.traffic import read_traffic

    here = Path(__file__).resolve()
    for folder in (here.parents[1] / "examples" / "support_desk", here.parents[3] / "examples" / "support_desk"):
        if folder.is_dir():
            return read_traffic(sorted(folder.glob("*.jsonl"))).exchanges
    raise UserError("The bundled example traffic is not there.", hint="Reinstall Pilotfish, or run from a checkout.")


@contextlib.contextmanager
def _folder(home: Path | None) -> Iterator[Path]:
    if home is not None:
        if home.exists() and any(home.iterdir()):
            raise UserError(f"{str(home)!r} is not empty.", hint="The demo needs a folder of its own.")
        yield home
        return
    folder = Path(tempfile.mkdtemp(prefix="pilotfish-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _settings(home: Path, max_risk: float, per: Any) -> Settings:  # noqa: ANN401 - checked by click
    price_in, price_out = EXAMPLE_PRICE
    return Settings(
        home=str(home),
        server=ServerSettings(port=0),
        large=LargeSettings(
            url="http://recording.invalid/v1",
            model=MODEL,
            input_usd_per_mtok=price_in,
            output_usd_per_mtok=price_out,
            price_source="an example",
        ),
        quality=QualitySettings(max_risk=max_risk, per=per),
        # Never fine-tuned: that needs torch, and the demo is to be the same where it is installed.
        learning=LearningSettings(first_after=450, check_every_s=0.1, niceness=0, finetune="never"),
    )


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run: the traffic sent, who answered each request, and how long it took the client."""

    settings: Settings
    exchanges: list[Exchange]
    recorded: dict[str, Exchange] = field(default_factory=dict)
    local_s: list[float] = field(default_factory=list)
    reference_s: list[float] = field(default_factory=list)
    learning_s: float = 0.0
    n_events: int = 0
    n_runs: int = 0

    def play(self, progress: output.Progress, say: Any) -> None:  # noqa: ANN401
        """Send everything, in time order."""
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError("demo", "openai") from error
        with (
            _gateway(self.settings) as port,
            openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client,
        ):
            for i, exchange in enumerate(self.exchanges):
                self._send(client, exchange)
                progress("requests", i + 1, len(self.exchanges))
                if (i + 1) % POLL_EVERY == 0 and self._wait_for_learning(port, progress):
                    self._tell_events(progress, say, i + 1)

    def _send(self, client: Any, exchange: Exchange) -> None:  # noqa: ANN401 - the official client
        started = time.perf_counter()
        reply = client.chat.completions.with_raw_response.create(
            model="auto",
            messages=[{"role": message.role, "content": message.content} for message in exchange.request.messages],
        )
        took = time.perf_counter() - started
        (self.local_s if reply.headers["x-pilotfish-reason"] == "certified" else self.reference_s).append(took)
        self.recorded[reply.headers["x-pilotfish-request-id"]] = exchange

    def _wait_for_learning(self, port: int, progress: output.Progress) -> bool:
        """Wait while something is learnt; whether something has been."""
        started = time.monotonic()
        while True:
            learner = _status(port)["learner"]
            if not learner["is_running"]:
                break
            stage = learner["progress"]
            progress(f"learning: {stage.get('stage', 'reading the log')}", stage.get("done", 0), stage.get("total", 1))
            time.sleep(0.05)
        self.learning_s += time.monotonic() - started
        if learner["last_error"]:
            raise StoreError(f"Learning failed: {learner['last_error']}")
        has_learnt = learner["runs"] > self.n_runs
        self.n_runs = learner["runs"]
        return bool(has_learnt)

    def _tell_events(self, progress: output.Progress, say: Any, n_sent: int) -> None:  # noqa: ANN401
        home = self._home()
        events = home.registry.events(limit=1000)[::-1]
        names = {record.task_id: record.name for record in home.registry.tasks()}
        home.registry.close()
        progress.clear()
        for event in events[self.n_events :]:
            say(
                f"after {n_sent:>5,} requests  {names.get(event.task_id, event.task_id)}: {event.kind}. {event.message}"
            )
        self.n_events = len(events)

    def _home(self) -> Home:
        from pilotfish.store.home import open_home

        return open_home(Path(self.settings.home))

    def result(self, started: float) -> tuple[Any, dict[str, Any]]:
        """The report of the log, and what the client saw."""
        from pilotfish.replay.from_log import report

        price: Price | None = self.settings.large.price
        claim = self.settings.quality.claim
        assert claim is not None
        found = report(self._home(), self.recorded, claim, price)
        return found, {
            "client_latency_ms": {"local": _quantiles_ms(self.local_s), "reference": _quantiles_ms(self.reference_s)},
            "pretended_delay_ms": 1000 * DELAY_S,
            "seconds": round(time.monotonic() - started, 1),
            "seconds_waiting_for_learning": round(self.learning_s, 1),
        }


@contextlib.contextmanager
def _gateway(settings: Settings) -> Iterator[int]:
    """The gateway in a process of its own, in front of the recording; gives its port."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(settings, sender), daemon=True)
    process.start()
    sender.close()
    try:
        try:
            yield receiver.recv()
        except EOFError as error:
            raise StoreError("The demo's gateway ended before it answered; what it said stands above.") from error
    finally:
        process.terminate()
        process.join()


def _serve(settings: Settings, ready: Connection) -> None:
    """What the gateway's process does."""
    from pilotfish.gateway.serve import serve
    from pilotfish.models.recording import RecordedModel

    reference = RecordedModel(_bundled(), name=MODEL, delay_s=DELAY_S, price=settings.large.price)
    serve(settings, on_ready=ready.send, reference=reference)


def _status(port: int) -> dict[str, Any]:
    """What the gateway says of itself."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/pilotfish/status")
        status = json.load(connection.getresponse())
        assert isinstance(status, dict)
        return status
    finally:
        connection.close()


def _quantiles_ms(seconds: list[float]) -> dict[str, float | int | None]:
    if len(seconds) < 2:
        return {"p50": None, "p95": None, "n": len(seconds)}
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    return {"p50": 1000 * cuts[9], "p95": 1000 * cuts[18], "n": len(seconds)}


def _print_figures(figures: dict[str, Any]) -> None:
    click.echo("\nLatency seen by the client, over HTTP")
    rows = []
    for name, found in figures["client_latency_ms"].items():
        p50, p95 = (None if found[key] is None else f"{found[key]:.1f} ms" for key in ("p50", "p95"))
        note = f"of it {figures['pretended_delay_ms']:.0f} ms pretended" if name == "reference" else "measured"
        rows.append([name, p50, p95, found["n"], note])
    output.print_table(["answered by", "p50", "p95", "n", ""], rows)
    click.echo(
        f"\nPrices are an example (${EXAMPLE_PRICE[0]:g} and ${EXAMPLE_PRICE[1]:g} per million tokens in and out). "
        f"The run took {figures['seconds']:.0f} s, {figures['seconds_waiting_for_learning']:.0f} s of it learning."
    )
