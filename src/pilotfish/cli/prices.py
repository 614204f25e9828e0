"""`pilotfish prices`: what each configured model costs, where that was read, and when.

No price is built in: vendors change them, and a wrong one would make every cost wrong. What was not stated is unknown,
never free. The date is the latest one (YYYY-MM-DD) that `price_source` holds.
"""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilotfish.cli import options, output

if TYPE_CHECKING:
    from pilotfish.config.settings import ModelSettings

OLD_DAYS = 90
"""A price read longer ago than this should be looked at again."""

_DATE = re.compile(r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)")


@click.command("prices", help="What do the configured models cost, and since when is that known?")
@click.option("--check", is_flag=True, help="Exit with 1 where a price is unknown, undated or older than 90 days.")
@options.place_options
@options.json_option
def command(check: bool, config_path: Path | None, home: Path | None, as_json: bool) -> int:
    settings = options.settings_from(config_path, home)
    today = datetime.datetime.now(datetime.UTC).date()
    models = {settings.large.model or "(no large model)": settings.large, **settings.models}
    found = [_price(name, model, today) for name, model in models.items()]
    warnings = [warning for price in found for warning in price["warnings"]]
    if as_json:
        output.print_json({"date": today.isoformat(), "prices": found, "ok": not warnings})
    else:
        columns = ["model", "in $/Mtok", "out $/Mtok", "cached $/Mtok", "read on", "days", "source"]
        output.print_table(columns, [_row(price) for price in found])
        for warning in warnings:
            click.echo(warning, err=check)
    return 1 if check and warnings else 0


def _price(name: str, model: ModelSettings, today: datetime.date) -> dict[str, Any]:
    """What is known of one model's price, with what is wrong about it."""
    read_on = _read_on(model.price_source)
    age_days = None if read_on is None else (today - read_on).days
    return {
        "model": name,
        "input_usd_per_mtok": model.input_usd_per_mtok,
        "output_usd_per_mtok": model.output_usd_per_mtok,
        "cached_usd_per_mtok": model.cached_usd_per_mtok,
        "source": model.price_source or None,
        "read_on": None if read_on is None else read_on.isoformat(),
        "age_days": age_days,
        "warnings": _warnings(name, model, age_days),
    }


def _warnings(name: str, model: ModelSettings, age_days: int | None) -> list[str]:
    if model.price is None:
        missing = [key for key in ("input_usd_per_mtok", "output_usd_per_mtok") if getattr(model, key) is None]
        return [f"{name}: its price is unknown, and so is what it costs. Set {' and '.join(missing)}."]
    if age_days is None:
        return [f"{name}: price_source holds no date (YYYY-MM-DD), so nobody can tell how old the price is."]
    if age_days < 0:
        return [f"{name}: price_source holds a date that is yet to come."]
    if age_days > OLD_DAYS:
        return [f"{name}: its price was read {age_days} days ago. Look again, and set price_source."]
    return []


def _read_on(source: str) -> datetime.date | None:
    """The latest date in a text, None where it holds none."""
    found = []
    for text in _DATE.findall(source):
        try:
            found.append(datetime.date.fromisoformat(text))
        except ValueError:
            continue
    return max(found, default=None)


def _row(price: dict[str, Any]) -> list[object]:
    """Unknown is a word here: a dash could be taken for nothing to pay."""
    known = [price["input_usd_per_mtok"], price["output_usd_per_mtok"]]
    prices = ["unknown" if value is None else f"{value:g}" for value in known]
    cached = price["cached_usd_per_mtok"]
    return [
        price["model"],
        *prices,
        "-" if cached is None else f"{cached:g}",
        price["read_on"] or "-",
        price["age_days"],
        output.shorten(price["source"], 60) if price["source"] else "-",
    ]
