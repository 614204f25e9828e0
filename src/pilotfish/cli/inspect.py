"""`pilotfish inspect MODEL...`: what a model is and what it costs to run, before it is downloaded.

Parses, asks `sizing/` and prints; several models stand side by side. Neither weights nor a model server are touched;
only an id that is neither a file nor in the catalogue nor seen before is asked of the hub.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilotfish.cli import options, output
from pilotfish.config import places

if TYPE_CHECKING:
    from pilotfish.sizing.facts import Fact
    from pilotfish.sizing.report import Sheet

NUMBER_TYPES = ["fp32", "fp16", "bf16", "fp8", "int8", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q2_K"]
MAX_WIDTH = 60


@click.command(
    "inspect",
    help="What is MODEL, and what does it cost to run? A config.json, a folder, a .gguf or .safetensors file, "
    "a name of the catalogue (--list), or a hub id. Several models stand side by side.",
    epilog="Exit codes: 0 done, 2 a model is unknown or its file cannot be read.",
)
@click.argument("models", nargs=-1, metavar="MODEL...")
@click.option("--context", type=click.IntRange(1, 100_000_000), help="Tokens in use (default: its own, at most 8,192).")
@click.option("--batch", type=click.IntRange(1, 1_000_000), default=1, show_default=True, help="Sequences at once.")
@click.option(
    "--dtype",
    "number_type",
    type=click.Choice(NUMBER_TYPES, case_sensitive=False),
    default="bf16",
    show_default=True,
    help="Number type of the weights.",
)
@click.option("--kv-bits", type=click.Choice(["8", "16", "32"]), default="16", show_default=True, help="Of the cache.")
@click.option("--tokens", type=click.FloatRange(1, 1e18), help="Training tokens (default: as published), e.g. 15e12.")
@click.option("--html", "html_path", type=options.NewFile(), help="Also write it, drawn, as a page to FILE.")
@click.option("--list", "is_list", is_flag=True, help="List the catalogue.")
@options.json_option
def command(
    models: tuple[str, ...],
    context: int | None,
    batch: int,
    number_type: str,
    kv_bits: str,
    tokens: float | None,
    html_path: Path | None,
    is_list: bool,
    as_json: bool,
) -> int:
    if is_list:
        return _list(as_json)
    if not models:
        raise click.UsageError("Name a MODEL, or ask for the catalogue with --list.")
    from pilotfish.sizing import machine, report, sources

    use = report.Use(
        batch=batch,
        number_type=number_type,
        cache_bits=int(kv_bits),
        training_tokens=None if tokens is None else int(tokens),
    )
    cache = places.cache()
    subjects = [sources.find(name, cache) for name in models]
    if not machine.is_measured(cache):
        click.echo("Measuring this machine's memory bandwidth, once (about a second) ...", err=True)
    here, speed = machine.memory(), machine.speed(cache)
    at = context or report.common_context(subjects)
    sheets = [report.describe(subject, use, at, here, speed) for subject in subjects]
    if html_path is not None:
        from pilotfish.sizing.page import render

        html_path.write_text(render(sheets), "utf-8")
    if as_json:
        output.print_json([_json(sheet) for sheet in sheets])
        return 0
    _print(sheets)
    if html_path is not None:
        click.echo(f"\nAs a page: {html_path}")
    return 0


def _json(sheet: Sheet) -> dict[str, Any]:
    use = sheet.use
    return {
        "model": sheet.subject.name,
        "context": sheet.context,
        "batch": use.batch,
        "dtype": use.number_type,
        "kv_bits": use.cache_bits,
        "facts": {fact.key: fact.to_json() for fact in sheet.facts},
    }


def _print(sheets: list[Sheet]) -> None:
    """One table a section; a column for each model, and how the row is known."""
    for section in dict.fromkeys(fact.section for sheet in sheets for fact in sheet.facts):
        rows, reasons = _rows(sheets, section)
        click.echo(f"\n{section}")
        columns = ["", *(output.shorten(sheet.subject.name, MAX_WIDTH) for sheet in sheets), "how"]
        output.print_table(columns, rows)
        for reason in reasons:
            click.echo(reason)


def _rows(sheets: list[Sheet], section: str) -> tuple[list[list[object]], list[str]]:
    """The rows of a section, and, where models stand side by side, the reasons of what is n/a."""
    keys = dict.fromkeys(fact.key for sheet in sheets for fact in sheet.facts if fact.section == section and fact.label)
    rows: list[list[object]] = []
    reasons: dict[str, None] = {}
    for key in keys:
        found = [sheet.fact(key) for sheet in sheets]
        known = next((fact for fact in found if fact is not None and fact.value is not None), None)
        label = next(fact.label for fact in found if fact is not None)
        cells = ["n/a" if fact is None else _text(fact, is_alone=len(sheets) == 1) for fact in found]
        rows.append([label, *cells, known.how if known else ""])
        for sheet, fact in zip(sheets, found, strict=True):
            if len(sheets) > 1 and fact is not None and fact.value is None:
                reasons[f"n/a for {sheet.subject.name}: {fact.why_none}"] = None
    return rows, [output.shorten(reason, 200) for reason in reasons]


def _text(fact: Fact, *, is_alone: bool) -> str:
    if fact.value is None and not is_alone:
        return "n/a"
    return output.shorten(fact.text, 200 if is_alone else MAX_WIDTH)


def _list(as_json: bool) -> int:
    from pilotfish.sizing.catalogue import catalogue

    entries = list(catalogue().entries.values())
    if as_json:
        output.print_json(
            [
                {
                    "name": entry.name,
                    "title": entry.title,
                    "released": entry.released,
                    "source": entry.source,
                    "entered": entry.entered,
                    "undisclosed": entry.undisclosed or None,
                }
                for entry in entries
            ]
        )
        return 0
    rows = [[e.name, e.title, e.released, e.undisclosed or e.source] for e in entries]
    output.print_table(["name", "model", "released", "source"], rows)
    return 0
