"""Flags that several commands share, and the settings they make.

Each command stands in a file of its own and knows only its own flags; a flag that means the same in two of them is
declared once, here, so that its name and help cannot drift apart.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pilotfish.config import places
from pilotfish.core.certificate import RISK_KINDS
from pilotfish.core.errors import MissingExtraError, TaskError, UserError

if TYPE_CHECKING:  # commands without settings or a home should not pay for loading them
    from pilotfish.config.settings import Settings
    from pilotfish.specialists.encoder import Encoder
    from pilotfish.store.base import Registry, TaskRecord
    from pilotfish.store.home import Home
    from pilotfish.students.recipe import Tuning

Command = TypeVar("Command", bound=Callable[..., Any])


class NewFile(click.Path):
    """A file to write. That it can be written is checked before the work, not after it."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False, writable=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """The path."""
        path = Path(str(super().convert(value, param, ctx)))
        if not os.access(path.parent, os.W_OK):
            self.fail(f"the folder {str(path.parent)!r} is not there or cannot be written.", param, ctx)
        return path


class Named(click.ParamType[tuple[str, str]]):
    """`NAME=VALUE`."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:  # noqa: ANN401
        """The two halves."""
        if isinstance(value, tuple):
            return value
        name, mark, rest = str(value).partition("=")
        if not name or not mark or not rest:
            self.fail(f"expected NAME=VALUE, got {value!r}", param, ctx)
        return name, rest


config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help=f"Configuration file (default: {places.FILE_NAME} here, if there is one).",
)
home_option = click.option(
    "--home", type=click.Path(path_type=Path), help="Folder of log, registry and specialists (PILOTFISH_HOME)."
)
margin_option = click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.02,
    show_default=True,
    help="Tolerated loss in score, 0..1.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")


def place_options(command: Command) -> Command:
    """`--config` and `--home`: where settings and data are."""
    return config_option(home_option(command))


def items_options(command: Command) -> Command:
    """`--limit` and `--split`: which items of the data."""
    command = click.option("--split", help="Only items of this split.")(command)
    return click.option("--limit", type=click.IntRange(1), help="Only so many items, chosen by the seed.")(command)


def promise_options(command: Command) -> Command:
    """`--max-risk`, `--confidence` and `--per`: the promise."""
    command = click.option(
        "--per",
        type=click.Choice(RISK_KINDS),
        help="Count the risk per local answer, each of its fields, or all traffic.",
    )(command)
    command = click.option("--confidence", type=float, help="Confidence of the promise (default 0.95).")(command)
    return click.option("--max-risk", type=float, help="Tolerated disagreement with the large model, e.g. 0.02.")(
        command
    )


def promise_flags(
    max_risk: float | None, confidence: float | None, per: str | None
) -> dict[tuple[str, str], float | str | None]:
    """What `promise_options` gave, as `settings_from` takes it."""
    return {("quality", "max_risk"): max_risk, ("quality", "confidence"): confidence, ("quality", "per"): per}


def home_from(config_path: Path | None, home: Path | None) -> Home:
    """The opened home of the effective settings."""
    from pilotfish.config import load
    from pilotfish.store.home import open_home

    settings = settings_from(config_path, home)
    return open_home(load.home(settings), settings.learning)


def settings_from(
    config_path: Path | None, home: Path | None, flags: Mapping[tuple[str, str], object] | None = None
) -> Settings:
    """The effective settings of a command: file, environment, then its flags."""
    from pilotfish.config import load

    given = {("", "home"): None if home is None else str(home), **(flags or {})}
    return load.load(config_path, flags=given)


def encoder_from(settings: Settings) -> Encoder | None:
    """The shared encoder, None where the settings want none. Raises as `open_encoder` does."""
    from pilotfish.config import load
    from pilotfish.config.settings import NO_ENCODER

    if settings.learning.encoder == NO_ENCODER:
        return None
    from pilotfish.students.encoder_cache import open_encoder

    return open_encoder(load.cache(), settings.learning.encoder)


def tuning_from(settings: Settings, say: Callable[[str], None]) -> Tuning | None:
    """Fine-tuning as the settings want it, None where there is to be none. Its cost is announced to `say`."""
    from pilotfish.config.settings import NO_ENCODER

    mode = settings.learning.finetune
    if mode == "never" or settings.learning.encoder == NO_ENCODER:
        return None
    if importlib.util.find_spec("torch") is None:
        if mode == "auto":
            return None
        raise MissingExtraError("train", "torch")
    from pilotfish.students import weights
    from pilotfish.students.recipe import Tuning

    try:
        found = weights.find(settings.learning.encoder)
    except UserError:
        # A built encoder runs without its weights, and they cannot be tuned.
        if mode == "auto":
            return None
        raise
    return Tuning(weights=found, is_forced=mode == "always", announce=say)


def find_task(registry: Registry, name: str) -> TaskRecord:
    """The task of that name or id. Raises `TaskError` naming those there are."""
    record = registry.task(name)
    if record is not None:
        return record
    known = [task.name for task in registry.tasks()]
    hint = f"Known tasks: {', '.join(known[:12])}." if known else "No task is known yet: `pilotfish tasks` looks."
    raise TaskError(f"There is no task {name!r}.", hint=hint)
