"""Options from a run file of `compare`: everything in them was measured on the user's own items.

The verdicts are `compare`'s: the same pairs, the same tests, Holm over every candidate of the run, whatever the
constraints leave of them; so that a constraint never changes what is shown about quality. Where requests go is read
off what the run says of a model, and unknown where it says nothing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from statistics import NormalDist, fmean
from urllib.parse import urlsplit

from pilotfish.advice.needs import Needs, Stated
from pilotfish.advice.option import Judged, Known, Option, Shape, Where, nothing
from pilotfish.config.settings import Settings
from pilotfish.core.errors import UserError
from pilotfish.core.measured import Measured
from pilotfish.core.messages import Price, Usage
from pilotfish.evals.axes import Axes, axes, item_scores
from pilotfish.evals.run_file import AnswerRow, Key, ModelRow, SessionRow, enter, read_head, read_rows
from pilotfish.evals.verdict import Comparison, Rule, compare, pairs
from pilotfish.stats.paired import score_interval

_OWN_KINDS = ("specialist", "function", "weights")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run, read: its models in order, the reference first. `on` is what `compare --on` calls its data."""

    path: str
    data: str
    on: str
    n_items: int
    reference: str
    reference_spec: str
    options: tuple[Option, ...]
    comparisons: tuple[Comparison, ...]
    tokens: tuple[float, float] | None


def read_run(path: Path, needs: Needs, settings: Settings, reference: str = "") -> Run:
    """The run's options. The reference is the one named, else the configured large model, else the run's first.

    Raises `UserError` where there is nothing to compare, `StoreError` where the file is no run.
    """
    head, (models, rows, sessions) = read_head(path), _read(path)
    first = _reference(list(rows), reference, settings, path)
    names = [first, *(name for name in rows if name != first)]
    scores = {name: item_scores(rows[name]) for name in names}
    shared = [item for item in scores[first] if all(item in found for found in scores.values())]
    if not shared:
        raise UserError(f"No item of {path.name} was answered by all of its models.", hint="Finish the run: compare.")
    clusters = (
        {row.item: row.cluster or row.item for row in rows[first]} if any(r.cluster for r in rows[first]) else None
    )
    rule = Rule(margin=needs.margin, alpha=needs.alpha)
    comparisons = compare(pairs(names, scores, shared, clusters), rule)
    judged = {found.candidate: _judged(found, len(comparisons), rule) for found in comparisons}
    judged[first] = Judged(word="reference", sentence=f"{first} is the reference.", n=len(shared))
    measured = {
        name: axes(models[name], rows[name], [row for row in sessions if row.model == name], clusters=clusters)
        for name in names
    }
    place = _Place(settings, needs.stated, models, needs.tokens)
    found = [_option(measured[name], models[name], rows[name], judged[name], place) for name in names]
    options = tuple(_second_price(option, models[option.name], found, place) for option in found)
    data = head.source or "DATA"
    command = f"pilotfish compare {shlex.quote(models[first].spec)}"
    return Run(
        path=str(path),
        data=head.data,
        on=data,
        n_items=len(shared),
        reference=first,
        reference_spec=models[first].spec,
        options=tuple(
            replace(o, measure=f"{command} {shlex.quote(models[o.name].spec)} --on {shlex.quote(data)}")
            for o in options
        ),
        comparisons=tuple(comparisons),
        tokens=_tokens(rows[first]),
    )


def _read(path: Path) -> tuple[dict[str, ModelRow], dict[str, list[AnswerRow]], list[SessionRow]]:
    models: dict[str, ModelRow] = {}
    answers: dict[Key, AnswerRow] = {}
    sessions: list[SessionRow] = []
    for row in read_rows(path):
        if isinstance(row, ModelRow):
            models[row.name] = row
        elif isinstance(row, SessionRow):
            sessions.append(row)
        else:
            enter(answers, row)
    rows: dict[str, list[AnswerRow]] = {}
    for answer in answers.values():
        if answer.is_scored:  # one that a judge has yet to see says nothing of quality
            rows.setdefault(answer.model, []).append(answer)
    return models, {name: found for name, found in rows.items() if name in models}, sessions


def _reference(names: Sequence[str], wanted: str, settings: Settings, path: Path) -> str:
    if not names:
        raise UserError(f"{path.name} holds no answers yet.", hint="Run `pilotfish compare` to its end.")
    if wanted and wanted not in names:
        raise UserError(f"{path.name} holds no model {wanted!r}.", hint=f"It holds: {', '.join(names)}.")
    return next((name for name in (wanted, settings.large.model) if name in names), names[0])


def _judged(found: Comparison, n_candidates: int, rule: Rule) -> Judged:
    return Judged(
        word=found.verdict,
        sentence=found.sentence,
        n=found.n,
        more_items=found.more_items,
        margin_needed=margin_needed(found, n_candidates, rule.alpha),
    )


def margin_needed(found: Comparison, n_candidates: int, alpha: float) -> float:
    """The smallest tolerated loss at which the verdict would surely be non-inferior, whatever the other candidates
    are: the one-sided bound at alpha over their number, the most that Holm asks for."""
    level = alpha / max(1, n_candidates)
    if found.discordant is not None:
        low = score_interval(*found.discordant, found.n, 1.0 - 2.0 * level).low
    else:
        low = found.difference - NormalDist().inv_cdf(1.0 - level) * found.error
    return max(0.0, -low)


@dataclass(frozen=True, slots=True)
class _Place:
    """What is configured and stated about the models of the run."""

    settings: Settings
    stated: Mapping[str, Stated]
    models: Mapping[str, ModelRow]
    tokens: tuple[float, float] | None

    def is_configured(self, spec: str) -> bool:
        large = self.settings.large.model
        return spec == "large" or spec in self.settings.models or bool(large and spec == large)

    def price(self, name: str, spec: str) -> Price | None:
        """As stated, else as configured."""
        stated = self.stated.get(name)
        if stated is not None and stated.price is not None:
            return stated.price
        for key in (name, spec):
            if key in self.settings.models:
                return self.settings.models[key].price
            if self.is_configured(key):
                return self.settings.large.price
        return None

    def where(self, name: str, spec: str, kind: str) -> Where:
        """Where requests to it go."""
        stated = self.stated.get(name, Stated())
        if stated.is_local is not None:
            return "own" if stated.is_local else "remote"
        if stated.rent_usd_per_h is not None or kind in _OWN_KINDS:
            return "own"
        for key in (name, spec):
            model = self.settings.models.get(key, self.settings.large if self.is_configured(key) else None)
            if model is not None:
                return "own" if model.local else "remote"
        is_billed = self.price(name, spec) is not None
        return "remote" if is_billed or (kind == "endpoint" and not is_loopback(spec)) else "unknown"

    def parts(self, spec: str) -> list[tuple[str, str, str]]:
        """Name, what it was called by, and kind, of both models of a cascade."""
        found = []
        for part in re.sub(r"@[\d.]+$", "", spec).split(">", 1):
            row = next((row for row in self.models.values() if row.spec == part.strip()), None)
            found.append((row.name, row.spec, row.kind) if row else _guessed(part.strip()))
        return found


def _guessed(spec: str) -> tuple[str, str, str]:
    """Name and kind of a part of a cascade that is no model of the run itself."""
    if spec.startswith(("http://", "https://")):
        return spec.rpartition("#")[2], spec, "endpoint"
    path, mark, name = spec.partition("#")
    if mark or Path(path).suffix in (".jsonl", ".json", ".gz"):
        return name or Path(path).name.split(".")[0], spec, "recording"
    return spec, spec, "specialist"


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine. What listens there may pass requests on, so this is no promise."""
    host = (urlsplit(url).hostname or "").lower()
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _option(found: Axes, model: ModelRow, rows: Sequence[AnswerRow], judged: Judged, place: _Place) -> Option:
    stated = place.stated.get(model.name, Stated())
    where, is_own = _runs(model, place)
    price = place.price(model.name, model.spec)
    usd = _usd(found, rows, price)
    paid_share = 1.0 if where != "own" or (usd.value is not None and stated.rent_usd_per_h is None) else 0.0
    if model.kind != "cascade" and paid_share:
        is_own = False  # who bills for each request bills for the machine, too
    if model.kind == "cascade" and is_own and found.escalated is not None and paid_share:
        paid_share = found.escalated.value or 0.0
        if usd.value is not None and paid_share:
            usd = replace(usd, value=usd.value / paid_share, method=f"{usd.method}, a request that is passed on")
    return Option(
        name=model.name,
        shape=_shape(model, judged, place),
        source=f"run, {found.quality.n:,} items",
        where=where,
        is_own=is_own,
        judged=judged,
        quality=found.quality,
        latency=Known(measured=found.latency["end_to_end"]["p95"]),
        memory=Known(measured=found.memory),
        usd_per_call=Known(measured=usd, estimate=estimated_usd(price, place.tokens)),
        paid_share=paid_share,
        rent_usd_per_h=stated.rent_usd_per_h,
        capacity_per_h=_capacity(found, rows, stated),
        context=stated.context if stated.context is not None else _longest(rows),
        languages=stated.languages,
        tells_certainty=model.kind != "recording" or any(row.certainty is not None for row in rows),
    )


def _runs(model: ModelRow, place: _Place) -> tuple[Where, bool]:
    """Where requests go, and whether something of one's own must run for it."""
    if model.kind != "cascade":
        alone = place.where(model.name, model.spec, model.kind)
        return alone, alone == "own"
    parts = [place.where(*part) for part in place.parts(model.spec)]
    where: Where = "remote" if "remote" in parts else "unknown" if "unknown" in parts else "own"
    return where, "own" in parts


def _shape(model: ModelRow, judged: Judged, place: _Place) -> Shape:
    if judged.word == "reference":
        return "large only"
    if model.kind == "cascade":
        return "specialist + large" if place.parts(model.spec)[0][2] == "specialist" else "cascade"
    return "specialist only" if model.kind == "specialist" else "small only"


def _usd(found: Axes, rows: Sequence[AnswerRow], price: Price | None) -> Measured:
    """Measured dollars a request: as recorded, else measured tokens at the price that is stated now."""
    if found.money.usd_per_task.value is not None or price is None:
        return found.money.usd_per_task
    costs = [
        price.cost_usd(Usage(prompt=row.prompt_tokens, completion=row.completion_tokens, cached=row.cached_tokens or 0))
        for row in rows
        if not row.variant and row.prompt_tokens is not None and row.completion_tokens is not None
    ]
    if not costs:
        return nothing("a price, but no token counts (--tokens)", "USD")
    return Measured(value=fmean(costs), unit="USD", n=len(costs), method=f"measured tokens, price: {price.source}")


def estimated_usd(price: Price | None, tokens: tuple[float, float] | None) -> Measured:
    """Dollars of one request of so many tokens read and written, or why they are not known."""
    if price is None:
        return nothing("no price", "USD")
    if tokens is None:
        return nothing("a price, but no tokens a request (--tokens)", "USD")
    usd = (tokens[0] * price.input_usd_per_mtok + tokens[1] * price.output_usd_per_mtok) / 1e6
    method = f"{tokens[0]:,.0f}/{tokens[1]:,.0f} tokens, price: {price.source or 'no source'}"
    return Measured(value=usd, unit="USD", method=method)


def _second_price(option: Option, model: ModelRow, options: Sequence[Option], place: _Place) -> Option:
    """A cascade without a cost of its own: the escalated share was measured, and its second model's cost alone was."""
    if model.kind != "cascade" or option.usd_per_call.value is not None:
        return option
    second = place.parts(model.spec)[1][0]
    alone = next((other for other in options if other.name == second), None)
    return replace(option, usd_per_call=alone.usd_per_call) if alone is not None else option


def _capacity(found: Axes, rows: Sequence[AnswerRow], stated: Stated) -> Known:
    """Requests an hour that one machine answers."""
    if stated.capacity_per_h is not None:
        return Known(
            measured=nothing("stated"),
            estimate=Measured(value=stated.capacity_per_h, unit="requests/h", method="stated"),
        )
    rate = found.requests_per_s
    if rate.value:
        under = f"at {found.load}" if found.load else "in the run"
        return Known(measured=Measured(value=3600 * rate.value, unit="requests/h", n=rate.n, method=under))
    seconds = [row.latency_s for row in rows if row.latency_s]
    if seconds:
        return Known(
            measured=Measured(value=3600 / fmean(seconds), unit="requests/h", n=len(seconds), method="one at a time")
        )
    return Known(measured=nothing("no latency was recorded", "requests/h"))


def _longest(rows: Sequence[AnswerRow]) -> int | None:
    """The most tokens that it was seen to hold."""
    seen = [row.prompt_tokens + (row.completion_tokens or 0) for row in rows if row.prompt_tokens is not None]
    return max(seen, default=None)


def _tokens(rows: Sequence[AnswerRow]) -> tuple[float, float] | None:
    """Mean tokens read and written."""
    known = [(row.prompt_tokens, row.completion_tokens) for row in rows]
    both = [(read, written) for read, written in known if read is not None and written is not None]
    return (fmean(read for read, _ in both), fmean(written for _, written in both)) if both else None
