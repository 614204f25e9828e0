"""What a user needs, as answers to a fixed list of questions: the same from flags, from a file and on a terminal.

One table, `QUESTIONS`: name, question, how its answer is read. What was not answered is None and constrains nothing.
Nothing here knows a model. Money is US dollars, a month 730 hours.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilotfish.core.errors import ConfigError, UserError
from pilotfish.core.messages import Price
from pilotfish.evals.money import read_price

HOURS_PER_MONTH = 730.0
DEFAULT_MARGIN = 0.02
DEFAULT_UTILISATION = 0.5

_PER_HOUR = {"h": 1.0, "hour": 1.0, "day": 1 / 24, "d": 1 / 24, "month": 1 / HOURS_PER_MONTH, "s": 3600.0}
_YES, _NO = {"yes", "y", "true", "1"}, {"no", "n", "false", "0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What the user states of one candidate. `rent` is US dollars an hour of its own machine, `capacity_per_h` how
    many requests an hour that machine answers; `model` what `inspect` knows it as."""

    price: Price | None = None
    rent_usd_per_h: float | None = None
    capacity_per_h: float | None = None
    is_local: bool | None = None
    context: int | None = None
    languages: tuple[str, ...] | None = None
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """The answers. `margin` is the tolerated loss in score (0..1), `alpha` the chance of a wrong claim about it;
    `utilisation` the share of what a machine can answer that is planned for."""

    task: str = ""
    volume: float | None = None
    max_latency: float | None = None
    budget: float | None = None
    local: bool = False
    offline: bool = False
    context: int | None = None
    margin: float = DEFAULT_MARGIN
    alpha: float = 0.05
    languages: tuple[str, ...] = ()
    tokens: tuple[float, float] | None = None
    machine: float | None = None
    memory: float | None = None
    bandwidth: float | None = None
    utilisation: float = DEFAULT_UTILISATION
    upkeep_hours: float | None = None
    upkeep_price: float | None = None
    stated: Mapping[str, Stated] = field(default_factory=dict)

    @property
    def upkeep_usd_per_h(self) -> float:
        """What looking after something of one's own costs an hour of running; 0 where it was not stated."""
        return (self.upkeep_hours or 0.0) * (self.upkeep_price or 0.0) / HOURS_PER_MONTH


def _number(text: str, low: float, high: float, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise UserError(f"{what} expected, got {text!r}.")
    return value


def _volume(text: str) -> float:
    found = re.fullmatch(r"\s*([\d.,_]+(?:e\d+)?)\s*(?:/|per|an|a)\s*([a-z]+)\s*", text, re.IGNORECASE)
    if found is None or found[2].lower() not in _PER_HOUR:
        raise UserError(f"A volume such as 120/h, 3000/day or 90000/month expected, got {text!r}.")
    number = found[1].replace(",", "").replace("_", "")
    return _number(number, 1e-9, 1e12, "A volume above 0") * _PER_HOUR[found[2].lower()]


def _margin(text: str) -> float:
    share = text.strip().removesuffix("points").strip()
    is_percent = share != text.strip() or share.endswith("%")
    value = _number(share.removesuffix("%").strip(), 0, 100, "A loss such as 0.02 or 2% (above 0)")
    value = value / 100 if is_percent else value
    if not 0 < value <= 1:
        raise UserError(f"A loss such as 0.02 or 2% expected, got {text!r}.", hint="It must lie above 0 and up to 1.")
    return value


def _seconds(text: str) -> float:
    bare = text.strip()
    unit = 1e-3 if bare.endswith("ms") else 1.0
    return unit * _number(bare.removesuffix("ms").removesuffix("s"), 1e-6, 1e6, "Seconds, or 800ms,")


def _yes(text: str) -> bool:
    if text.strip().lower() not in _YES | _NO:
        raise UserError(f"yes or no expected, got {text!r}.")
    return text.strip().lower() in _YES


def _usd(text: str) -> float:
    return _number(text.strip().removeprefix("$"), 0, 1e12, "US dollars, 0 or more,")


def _languages(text: str) -> tuple[str, ...]:
    found = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    if not found or not all(re.fullmatch(r"[a-z]{2,3}(-[a-z0-9]+)*", part) for part in found):
        raise UserError(f"Language codes such as en,de expected, got {text!r}.")
    return found


def _tokens(text: str) -> tuple[float, float]:
    read, mark, written = text.partition("/")
    if not mark:
        raise UserError(f"Tokens read and written, such as 400/20, expected, got {text!r}.")
    return (_number(read, 0, 1e9, "A number of tokens"), _number(written, 0, 1e9, "A number of tokens"))


def _gigabytes(text: str) -> float:
    return _number(text.strip().removesuffix("GB"), 1e-3, 1e6, "Gigabytes") * 1e9


def _alpha(text: str) -> float:
    return _number(text, 1e-6, 0.5, "A chance above 0 and up to 0.5")


def _share(text: str) -> float:
    return _number(text, 1e-3, 1, "A share above 0 and up to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One thing to know. `is_asked` says that it is put to a person on a terminal."""

    name: str
    text: str
    help: str
    read: Callable[[str], Any]
    is_asked: bool = True
    only_after: str = ""


QUESTIONS = (
    Question(name="task", text="Which task? (empty: all traffic)", help="A task of the home, by name.", read=str.strip),
    Question(
        name="volume",
        text="How many requests, such as 120/h or 3000/day?",
        help="Requests, such as 120/h, 3000/day (default: what the log shows).",
        read=_volume,
    ),
    Question(
        name="max_latency",
        text="Within how many seconds must 95 of 100 answers be there?",
        help="Seconds within which 95 of 100 answers must be there.",
        read=_seconds,
    ),
    Question(
        name="budget",
        text="How many US dollars may it cost a month?",
        help="US dollars a month, all included.",
        read=_usd,
    ),
    Question(
        name="local",
        text="Must requests stay on your own machines? (yes/no)",
        help="Requests must stay on machines of your own.",
        read=_yes,
    ),
    Question(
        name="offline",
        text="Must it work without a network? (yes/no)",
        help="It must answer without a network.",
        read=_yes,
    ),
    Question(
        name="context",
        text="How many tokens must one request hold, answer included?",
        help="Tokens that a request must hold, answer included.",
        read=lambda text: int(_number(text.replace(",", ""), 1, 1e9, "A number of tokens")),
    ),
    Question(
        name="margin",
        text="What loss against the reference is tolerated, such as 2%?",
        help="Tolerated loss in score against the reference, such as 0.02 or 2%  [default: 2%].",
        read=_margin,
    ),
    Question(
        name="languages",
        text="Which languages must it know, such as en,de?",
        help="Languages that are needed, such as en,de.",
        read=_languages,
    ),
    Question(
        name="tokens",
        text="How many tokens does a request read and write, such as 400/20?",
        help="Tokens a request reads and writes, such as 400/20 (default: what log or run show).",
        read=_tokens,
    ),
    Question(
        name="machine",
        text="What does an hour of your machine cost in US dollars (0: it stands idle anyway)?",
        help="US dollars an hour of the machine that everything of your own runs on; 0 where it stands idle anyway.",
        read=_usd,
    ),
    Question(
        name="upkeep_hours",
        text="How many hours a month will somebody look after it?",
        help="Hours a month that somebody looks after what runs on your own machine.",
        read=lambda text: _number(text, 0, 1e5, "Hours a month"),
    ),
    Question(
        name="upkeep_price",
        text="What does such an hour cost in US dollars?",
        help="US dollars such an hour costs.",
        read=_usd,
        only_after="upkeep_hours",
    ),
    Question(
        name="memory",
        text="",
        help="Gigabytes of memory for a model (default: what is free on this machine).",
        read=_gigabytes,
        is_asked=False,
    ),
    Question(
        name="bandwidth",
        text="",
        help="Gigabytes a second that memory is read with (default: measured on this machine).",
        read=_gigabytes,
        is_asked=False,
    ),
    Question(
        name="utilisation",
        text="",
        help="Share of what a machine can answer that is planned for  [default: 0.5].",
        read=_share,
        is_asked=False,
    ),
    Question(
        name="alpha",
        text="",
        help="Chance of a wrong claim about quality, over all candidates  [default: 0.05].",
        read=_alpha,
        is_asked=False,
    ),
)
BY_NAME = {question.name: question for question in QUESTIONS}

_OF_CANDIDATES = ("price", "rent", "local", "context", "languages", "model")


def needs(answers: Mapping[str, Any], stated: Mapping[str, Stated]) -> Needs:
    """The needs from answers that were read. Raises `UserError` where hours have no price, which would make their cost
    unknown in silence."""
    given = {name: value for name, value in answers.items() if value is not None}
    found = Needs(**given, stated=stated)
    if (found.upkeep_hours is None) != (found.upkeep_price is None):
        raise UserError("Upkeep needs both its hours a month and what an hour costs.", hint="State the other one too.")
    return found


def rent(name: str, text: str) -> tuple[float, float | None]:
    """`USD[@REQUESTS]`: US dollars an hour of a machine, and requests an hour that it answers. Raises `ConfigError`."""
    amount, mark, capacity = text.partition("@")
    try:
        found = float(amount), float(capacity) if mark else None
    except ValueError:
        found = -1.0, None
    if found[0] < 0 or (found[1] is not None and found[1] <= 0):
        raise ConfigError(
            f"The rent of {name!r} is {text!r}.",
            hint="Write USD, or USD@REQUESTS: US dollars an hour, and requests an hour that its machine answers.",
        )
    return found


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, Stated]]:
    """Answers and stated candidates of a TOML file. Raises `ConfigError` naming what it does not know."""
    try:
        rows = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is no TOML file: {error}.") from error
    candidates = rows.pop("candidates", {})
    unknown = next((key for key in rows if key not in BY_NAME), None)
    if unknown is not None or not isinstance(candidates, dict):
        known = ", ".join(BY_NAME)
        raise ConfigError(f"{path.name} has the unknown key {unknown or 'candidates'!r}.", hint=f"Known: {known}.")
    answers = {key: BY_NAME[key].read(_text(value)) for key, value in rows.items()}
    return answers, {name: _stated(name, row, path.name) for name, row in candidates.items()}


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _stated(name: str, row: object, file: str) -> Stated:
    if not isinstance(row, dict) or any(key not in _OF_CANDIDATES for key in row):
        raise ConfigError(
            f"{file}: [candidates.{name}] holds something unknown.", hint=f"Known keys: {', '.join(_OF_CANDIDATES)}."
        )
    usd, capacity = rent(name, str(row["rent"])) if "rent" in row else (None, None)
    return Stated(
        price=read_price(name, str(row["price"])) if "price" in row else None,
        rent_usd_per_h=usd,
        capacity_per_h=capacity,
        is_local=_yes(str(row["local"])) if "local" in row else None,
        context=BY_NAME["context"].read(str(row["context"])) if "context" in row else None,
        languages=_languages(_text(row["languages"])) if "languages" in row else None,
        model=str(row.get("model", "")),
    )
