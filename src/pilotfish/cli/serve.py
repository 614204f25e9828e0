"""`pilotfish serve`: the gateway on loopback.

It checks that there is a large model to stand in front of and says, once requests are answered, where and under which
promise. The gateway itself prints nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilotfish.cli import options, output
from pilotfish.config.settings import Settings
from pilotfish.core.errors import ConfigError

if TYPE_CHECKING:  # loaded only to serve
    from pilotfish.gateway.log_lines import LogFormat


@click.command("serve", help="Stand in front of the large model: an OpenAI-compatible gateway on loopback.")
@click.option("--large", "url", help="Base URL of the large model, up to and including /v1 (PILOTFISH_LARGE_URL).")
@click.option("--model", help="Its model name (PILOTFISH_LARGE_MODEL).")
@click.option("--key-env", help="Environment variable with its key (default OPENAI_API_KEY).")
@click.option("--host", help="Address to listen on (default 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on (default 8710; 0 picks one).")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes that serve the port (default 1).")
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", help="What happens, on standard error (text)."
)
@options.promise_options
@options.place_options
def command(
    url: str | None,
    model: str | None,
    key_env: str | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    log_format: LogFormat,
    max_risk: float | None,
    confidence: float | None,
    per: str | None,
    config_path: Path | None,
    home: Path | None,
) -> None:
    settings = options.settings_from(
        config_path,
        home,
        {
            ("large", "url"): url,
            ("large", "model"): model,
            ("large", "key_env"): key_env,
            ("server", "host"): host,
            ("server", "port"): port,
            ("server", "workers"): workers,
            **options.promise_flags(max_risk, confidence, per),
        },
    )
    large = settings.large
    if not (large.model and (large.url or large.weights)):
        raise ConfigError(
            "The gateway needs a large model to stand in front of.",
            hint="Give --large URL --model NAME, or set [large] url and model in pilotfish.toml.",
        )
    from pilotfish.gateway.log_lines import to_standard_error
    from pilotfish.gateway.serve import serve

    with to_standard_error(log_format):
        serve(settings, on_ready=lambda bound: _say_ready(settings, bound))


def _say_ready(settings: Settings, port: int) -> None:
    claim = settings.quality.claim
    click.echo(f"Pilotfish answers at http://{settings.server.host}:{port}/v1 (process {os.getpid()}).")
    click.echo(f"Large model: {settings.large.model} at {settings.large.url or settings.large.weights}")
    if claim is not None:
        click.echo(f"Promise: {output.claim(claim)}. It learns in the background.")
        click.echo(output.audits(claim, settings.quality.audit_rate))
    elif settings.routing.margin is None:
        click.echo("It observes: every request goes to the large model. Set [quality] max_risk to let it learn.")
    else:
        click.echo("It learns no specialist: set [quality] max_risk for that.")
    for line in output.routing(settings.routing):
        click.echo(line)
