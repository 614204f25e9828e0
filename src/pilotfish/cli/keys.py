"""`pilotfish keys create|list|show|revoke|rotate|admin`: who may use the gateway, and how much.

A key is printed once, when it is made, and then known to nobody but its holder. A gateway that runs takes changes over
within a second. How use is counted is the business of `store/tallies.py`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pilotfish.cli import options, output
from pilotfish.config import load
from pilotfish.config.settings import Settings
from pilotfish.core.errors import ConfigError
from pilotfish.core.ids import sha256
from pilotfish.core.key import ADMIN_PREFIX, KeyRecord, Limits, new_secret, unit_of, window_end_s, window_of
from pilotfish.core.privacy import MODES, PrivacyMode
from pilotfish.store import build
from pilotfish.store.base import Keys
from pilotfish.store.tallies import read_usage

_NAME = re.compile(r"[\w.@-]{1,64}", re.ASCII)
_SPANS_S = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


@click.group("keys", help="Create, list, rotate and revoke the keys that clients need.")
def command() -> None:
    pass


class _Expiry(click.ParamType):  # type: ignore[type-arg]
    """A span such as `30d`, or a date; the time in seconds since the epoch."""

    name = "30d|DATE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """The time. A date without one begins at midnight, UTC."""
        span = re.fullmatch(r"(\d{1,6})([mhdw])", value)
        if span:
            return time.time() + int(span[1]) * _SPANS_S[span[2]]
        try:
            moment = datetime.fromisoformat(value)
            expires_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a span (30d, 12h, 90m, 4w) nor a date (2027-01-31).", param, ctx)
        if expires_s <= time.time():
            self.fail(f"{value!r} is in the past.", param, ctx)
        return expires_s


def _limit_options(decorated: Callable[..., Any]) -> Callable[..., Any]:
    """One flag a limit, named as it is."""
    for name, kind in reversed(Limits.__annotations__.items()):
        is_money = unit_of(name) == "usd"
        what = "US dollars" if is_money else unit_of(name)
        window = window_of(name)
        until = "in all" if window == "total" else f"each {window} (UTC)"
        number = click.FloatRange(0, min_open=True) if "float" in str(kind) else click.IntRange(1)
        decorated = click.option(
            f"--{name.replace('_', '-')}", name, type=number, metavar="N", help=f"At most so many {what} {until}."
        )(decorated)
    return decorated


@command.command("create")
@click.argument("name")
@click.option("--models", default="", help="Only these models, separated by commas (default: all).")
@click.option("--expires", "expires_s", type=_Expiry(), help="When it ends: a span (30d, 12h) or a date, UTC.")
@click.option(
    "--privacy",
    type=click.Choice(MODES),
    default="allow",
    show_default=True,
    help="What may be done with its requests that hold personal data; the configuration can only be stricter.",
)
@_limit_options
@options.place_options
@options.json_option
def create(
    name: str,
    models: str,
    expires_s: float | None,
    privacy: PrivacyMode,
    config_path: Path | None,
    home: Path | None,
    as_json: bool,
    **limits: Any,  # noqa: ANN401 - one value a limit
) -> None:
    """Make a key and print it, this once."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"A key cannot be called {name!r}.", hint="Use up to 64 letters, digits and . _ @ -.")
    settings = options.settings_from(config_path, home)
    stated = Limits(**limits)
    _check_price(settings, stated)
    allowed = tuple(dict.fromkeys(part.strip() for part in models.split(",") if part.strip()))
    keys = _keys(settings)
    was_open = not keys.all()
    secret = new_secret()
    digest = sha256(secret.encode())
    record = keys.create(name, digest, models=allowed, limits=stated, expires_s=expires_s, privacy=privacy)
    if as_json:
        output.print_json({"key": secret, **_row(settings, record)})
        return
    click.echo(f"{secret}\n\nThis is the only time that the key {name!r} ({record.key_id}) is shown.")
    if was_open:
        click.echo("From now on every request to /v1 needs a key.")


@command.command("list")
@options.place_options
@options.json_option
def list_keys(config_path: Path | None, home: Path | None, as_json: bool) -> None:
    """Every key with its state, limits and use."""
    settings = options.settings_from(config_path, home)
    keys = _keys(settings)
    rows = [_row(settings, record) for record in keys.all()]
    if as_json:
        output.print_json(rows)
        return
    if not rows:
        click.echo("There is no key. On loopback the gateway asks for none; `pilotfish keys create NAME` makes one.")
        return
    output.print_table(
        ["name", "id", "state", "models", "privacy", "requests", "tokens", "US dollars", "expires (UTC)"],
        [
            [
                row["name"],
                row["id"],
                row["state"],
                output.shorten(", ".join(row["models"]) or "all", 40),
                row["privacy"],
                int(row["used"]["requests_total"]),
                int(row["used"]["tokens_total"]),
                row["used"]["usd_total"],
                output.moment(row["expires_s"]),
            ]
            for row in rows
        ],
    )


@command.command("show")
@click.argument("name")
@options.place_options
@options.json_option
def show(name: str, config_path: Path | None, home: Path | None, as_json: bool) -> None:
    """One key: its limits and what is used of each."""
    settings = options.settings_from(config_path, home)
    row = _row(settings, _keys(settings).get(name))
    if as_json:
        output.print_json(row)
        return
    click.echo(f"{row['name']} ({row['id']}): {row['state']}, made {output.moment(row['created_s'])} UTC")
    click.echo(f"models: {', '.join(row['models']) or 'all'}")
    click.echo(f"privacy: {row['privacy']}")
    click.echo(f"expires: {'never' if row['expires_s'] is None else output.moment(row['expires_s']) + ' UTC'}")
    now_s = time.time()
    output.print_table(
        ["count", "used", "limit", "begins anew (UTC)"],
        [
            [
                name.replace("_", " "),
                used if used is None or name.startswith("usd") else int(used),
                row["limits"].get(name),
                output.moment(window_end_s(window_of(name), now_s)),
            ]
            for name, used in row["used"].items()
        ],
    )


@command.command("revoke")
@click.argument("name")
@click.option("--delete", is_flag=True, help="Forget it too, so that its name is free and no longer counts as a key.")
@options.place_options
def revoke(name: str, delete: bool, config_path: Path | None, home: Path | None) -> None:
    """Void a key: it opens nothing any more."""
    keys = _keys(options.settings_from(config_path, home))
    record = keys.get(name)
    if not delete:
        keys.revoke(record.key_id)
        click.echo(f"The key {record.name!r} ({record.key_id}) opens nothing any more.")
        return
    keys.delete(record.key_id)
    click.echo(f"The key {record.name!r} ({record.key_id}) is deleted.")
    if not keys.all():
        click.echo("There is no key left: on loopback the gateway asks for none.")


@command.command("rotate")
@click.argument("name")
@options.place_options
@options.json_option
def rotate(name: str, config_path: Path | None, home: Path | None, as_json: bool) -> None:
    """Give a key a new secret, printed this once; limits and use stay, the old secret is void at once."""
    settings = options.settings_from(config_path, home)
    keys = _keys(settings)
    record = keys.get(name)
    secret = new_secret()
    keys.rotate(record.key_id, sha256(secret.encode()))
    if as_json:
        output.print_json({"key": secret, **_row(settings, record)})
        return
    click.echo(f"{secret}\n\nThis is the only time that the key {record.name!r} ({record.key_id}) is shown.")
    if record.revoked_s is not None or not record.is_valid(time.time()):
        click.echo(f"It is {record.state(time.time())} and opens nothing.")


@command.command("admin")
@click.option("--remove", is_flag=True, help="Remove it instead.")
@options.place_options
@options.json_option
def admin(remove: bool, config_path: Path | None, home: Path | None, as_json: bool) -> None:
    """Make the key for /pilotfish/status and the like, printed this once; it replaces the one before."""
    keys = _keys(options.settings_from(config_path, home))
    secret = "" if remove else new_secret(ADMIN_PREFIX)
    keys.set_admin(sha256(secret.encode()) if secret else "")
    if as_json:
        output.print_json({"key": secret or None})
    elif remove:
        click.echo("There is no admin key any more, unless the environment holds one (PILOTFISH_ADMIN_KEY).")
    else:
        click.echo(f"{secret}\n\nThis is the only time that the admin key is shown.")


def _keys(settings: Settings) -> Keys:
    return build.open_keys(load.home(settings))


def _check_price(settings: Settings, limits: Limits) -> None:
    has_budget = any(unit_of(name) == "usd" for name in limits.stated())
    if has_budget and settings.large.price is None:
        raise ConfigError(
            "A budget in US dollars needs the price of the model, and none is stated.",
            hint="Set [large] input_usd_per_mtok and output_usd_per_mtok, or limit tokens with --tokens-per-day.",
        )


def _row(settings: Settings, record: KeyRecord) -> dict[str, Any]:
    now_s = time.time()
    used: dict[str, float | None] = dict(read_usage(build.usage(load.home(settings)), record.number, now_s))
    if settings.large.price is None and not used["usd_total"]:
        used |= dict.fromkeys(name for name in used if unit_of(name) == "usd")  # unknown, not nothing
    return {
        "name": record.name,
        "id": record.key_id,
        "state": record.state(now_s),
        "created_s": record.created_s,
        "expires_s": record.expires_s,
        "revoked_s": record.revoked_s,
        "models": list(record.models),
        "privacy": record.privacy,
        "limits": record.limits.stated(),
        "used": used,
    }
