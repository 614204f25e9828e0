"""`pilotfish config show|check`: what is in force, and whether it can be used.

Where a value comes from (file, environment, default) is the business of `config/`; here it is only shown. No key is
ever printed, since settings hold the names of variables, not keys.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import click

from pilotfish.cli import options, output
from pilotfish.config import load
from pilotfish.config.settings import SECTIONS, PrivacySettings, Settings


@click.group("config", help="Show and check the configuration.")
def command() -> None:
    pass


@command.command("show")
@options.place_options
@options.json_option
def show(config_path: Path | None, home: Path | None, as_json: bool) -> None:
    """Every setting with its value and meaning."""
    settings = options.settings_from(config_path, home)
    if as_json:
        output.print_json(dataclasses.asdict(settings))
        return
    rows: list[list[object]] = [["", "home", str(load.home(settings)), _help(Settings, "home")]]
    records = {section: getattr(settings, section) for section in SECTIONS}
    records |= {f"models.{name}": model for name, model in settings.models.items()}
    for section, record in records.items():
        for item in dataclasses.fields(record):
            value = _shown(getattr(record, item.name))
            rows.append([section, item.name, value, _help(type(record), item.name)])
    rows += [["aliases", name, target, "What this name of a client stands for."] for name, target in _aliases(settings)]
    output.print_table(["section", "key", "value", "meaning"], rows)
    claim = settings.quality.claim
    if claim is not None:
        click.echo("\n" + output.audits(claim, settings.quality.audit_rate))


@command.command("check")
@options.place_options
@options.json_option
def check(config_path: Path | None, home: Path | None, as_json: bool) -> int:
    """Read the configuration and say what it means; exit code 1 when it cannot serve yet."""
    settings = options.settings_from(config_path, home)
    notes = _notes(settings)
    if as_json:
        output.print_json({"ok": _can_serve(settings), "notes": notes})
    else:
        for note in notes:
            click.echo(note)
    return 0 if _can_serve(settings) else 1


def _can_serve(settings: Settings) -> bool:
    return bool(settings.large.model and (settings.large.url or settings.large.weights))


def _notes(settings: Settings) -> list[str]:
    large, claim = settings.large, settings.quality.claim
    notes = [f"Home: {load.home(settings)}"]
    notes.append(
        f"Large model: {large.model} at {large.url or large.weights}"
        if _can_serve(settings)
        else "Large model: none yet. It needs [large] url and model, or `pilotfish serve --large URL --model NAME`."
    )
    if large.url and large.key_env:
        notes.append(_key_note("Key", large.key_env, ": the client's key is passed on"))
    for endpoint in large.endpoints:
        key_env = large.key_env if endpoint.key_env is None else endpoint.key_env
        notes.append(_key_note(f"Further server: {endpoint.url}. Key", key_env))
    for name, model in settings.models.items():
        if model.weights:
            notes.append(f"Model {name}: {model.weights} in this process ({model.task}).")
        else:
            notes.append(_key_note(f"Model {name}: {model.model or name} at {model.url}. Key", model.key_env))
    notes += [f"Alias: {name} stands for {target}." for name, target in _aliases(settings)]
    if large.degraded:
        notes.append(f"While the large model is down: {large.degraded} may answer, without a promise.")
    if claim is None:
        notes.append("Promise: none, so no specialist answers. Set [quality] max_risk to begin.")
    else:
        notes += [f"Promise: {output.claim(claim)}.", output.audits(claim, settings.quality.audit_rate)]
    notes += output.routing(settings.routing)
    notes.append(_privacy_note(settings.privacy))
    asked = settings.consistency
    if asked.calls:
        limit = "" if asked.usd is None else f", ${asked.usd:g} over all tasks"
        notes.append(
            f"Asked again: a sample, {asked.answers} answers each; at most {asked.calls:,} calls a task{limit}."
        )
        if asked.usd is not None and large.price is None:
            notes.append("Asked again: nothing, since [consistency] usd is set and no price is known.")
    if large.price is None:
        notes.append("Price: unknown, so costs are unknown. Set [large] input_usd_per_mtok and output_usd_per_mtok.")
    return notes


def _privacy_note(privacy: PrivacySettings) -> str:
    """What may leave. Raises `ConfigError` or `MissingExtraError` for patterns that cannot be used."""
    from pilotfish.privacy.own_patterns import compile_patterns

    n_patterns = len(compile_patterns(privacy.patterns))
    tasks = "".join(f", task {name}: {mode}" for name, mode in privacy.tasks.items())
    if privacy.mode == "allow" and not privacy.tasks:
        return "Privacy: everything may leave. Set [privacy] mode to mask or keep personal data."
    own = f"; {n_patterns} patterns of your own" if n_patterns else ""
    return f"Privacy: {privacy.mode}{tasks}{own}."


def _key_note(what: str, variable: str, otherwise: str = "") -> str:
    if not variable:
        return f"{what}: none."
    found = "is set" if os.environ.get(variable) else f"is not set{otherwise}"
    return f"{what}: the variable {variable} {found}."


def _aliases(settings: Settings) -> list[tuple[str, str]]:
    return sorted(settings.aliases.items())


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(endpoint.url for endpoint in value) or "none"
    return "unset" if value is None else str(value)


def _help(kind: type, key: str) -> str:
    text = {item.name: item.metadata.get("help", "") for item in dataclasses.fields(kind)}[key]
    return str(text)
