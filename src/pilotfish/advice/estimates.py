"""Options that nobody measured: what `inspect` estimates of a model, and what a configured one would cost.

Nothing here says anything about quality, so nothing here is ever chosen; it names what would be worth measuring. Memory
is the estimate of a peak, latency the time that reading memory alone takes: no machine is faster than that.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pilotfish.advice.needs import Needs, Stated
from pilotfish.advice.option import Judged, Known, Option, nothing
from pilotfish.advice.runs import estimated_usd
from pilotfish.config.settings import ModelSettings, Settings
from pilotfish.core.measured import Measured
from pilotfish.core.messages import Price
from pilotfish.sizing import memory
from pilotfish.sizing.catalogue import catalogue
from pilotfish.sizing.machine import Speed
from pilotfish.sizing.report import Use, at_most_tokens_per_s
from pilotfish.sizing.sources import Subject, from_entry

NUMBER_TYPE = "Q4_K_M"
"""The number type that catalogue models are estimated in, the same for each."""
LEAST_CONTEXT = 2048

NOT_MEASURED = Judged(word="not measured", sentence="Nobody measured it on your data.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What estimates rest on: tokens a request reads and writes, the machine's speed; and what `compare` is to ask,
    with the command that must be run `first`."""

    tokens: tuple[float, float] | None
    speed: Speed
    reference: str = "large"
    data: str = "DATA"
    first: str = ""

    def measure(self, spec: str) -> str:
        """The command that would measure a model."""
        asked = shlex.join(["pilotfish", "compare", self.reference, spec, "--on", self.data])
        return f"{self.first}{asked}"


def configured(settings: Settings, needs: Needs, terms: Terms) -> list[Option]:
    """The models of the configuration, the large one first."""
    large = settings.large
    found = [_endpoint(large.model or "large", large, needs, terms)] if large.model else []
    return found + [_endpoint(name, model, needs, terms) for name, model in settings.models.items()]


def stated(names: Sequence[str], needs: Needs, terms: Terms) -> list[Option]:
    """Models of which nothing is known but what the user states."""
    found = [_endpoint(name, ModelSettings(), needs, terms) for name in names]
    return [replace(option, source="stated", measure=terms.measure(f"URL#{option.name}")) for option in found]


def _endpoint(name: str, model: ModelSettings, needs: Needs, terms: Terms) -> Option:
    said = needs.stated.get(name, Stated())
    price = said.price or model.price
    is_local = model.local if said.is_local is None else said.is_local
    is_own = said.rent_usd_per_h is not None or (is_local and price is None)
    return Option(
        name=name,
        shape="small only",
        source="configuration",
        where="own" if is_local or said.rent_usd_per_h is not None else "remote",
        is_own=is_own,
        judged=NOT_MEASURED,
        quality=nothing("not measured"),
        latency=Known(measured=nothing("not measured", "s")),
        memory=Known(measured=nothing("not measured", "bytes")),
        usd_per_call=_usd(price, terms),
        paid_share=0.0 if is_own else 1.0,
        rent_usd_per_h=said.rent_usd_per_h,
        capacity_per_h=_capacity(said),
        context=said.context,
        languages=said.languages,
        n_endpoints=1 + len(model.endpoints),
        measure=terms.measure(name),
    )


def _usd(price: Price | None, terms: Terms) -> Known:
    found = estimated_usd(price, terms.tokens)
    return Known(measured=nothing(found.why_none or "not measured", "USD"), estimate=found)


def _capacity(stated: Stated) -> Known:
    if stated.capacity_per_h is None:
        return Known(measured=nothing("not measured", "requests/h"))
    capacity = Measured(value=stated.capacity_per_h, unit="requests/h", method="stated")
    return Known(measured=nothing("stated", "requests/h"), estimate=capacity)


def inspected(subject: Subject, name: str, needs: Needs, terms: Terms) -> Option:
    """A model that `inspect` knows, run on this machine."""
    said = needs.stated.get(name, Stated())
    a, context = subject.architecture, needs.context or LEAST_CONTEXT
    use = Use(number_type=NUMBER_TYPE)
    why = subject.why_none or "not known"
    peak = memory.serving_bytes(a, use.number_type, context) if a is not None else None
    rate, why_rate = at_most_tokens_per_s(a, use, context, terms.speed) if a is not None else (None, why)
    own = a is not None or said.rent_usd_per_h is not None
    seconds = terms.tokens[1] / rate if rate and terms.tokens else None
    return Option(
        name=name,
        shape="small only",
        source="catalogue" if subject.entry is not None else subject.source,
        where="own" if own else "remote",
        is_own=own,
        judged=NOT_MEASURED,
        quality=nothing("not measured"),
        latency=Known(
            measured=nothing("not measured", "s"),
            estimate=nothing(why_rate or "no tokens a request (--tokens)", "s")
            if seconds is None
            else Measured(value=seconds, unit="s", method="at least: reading memory alone"),
        ),
        memory=Known(
            measured=nothing("not measured", "bytes"),
            estimate=nothing(why, "bytes")
            if peak is None
            else Measured(value=float(peak), unit="bytes", method=f"{NUMBER_TYPE}, {context:,} tokens"),
        ),
        usd_per_call=_usd(said.price, terms),
        paid_share=0.0 if own else 1.0,
        rent_usd_per_h=said.rent_usd_per_h,
        capacity_per_h=Known(
            measured=nothing("not measured", "requests/h"),
            estimate=Measured(value=3600 / seconds, unit="requests/h", method="at most: reading memory alone")
            if seconds and said.capacity_per_h is None
            else _capacity(said).estimate,
        ),
        context=said.context or (a.context if a is not None else None),
        languages=said.languages,
        parameters=a.parameters if a is not None else None,
        measure=terms.measure(f"http://127.0.0.1:8080/v1#{name}" if a is not None else f"URL#{name}"),
    )


def of_catalogue(needs: Needs, terms: Terms, skip: Sequence[str]) -> list[Option]:
    """Every model of the catalogue that writes text and whose shape is published, but those in `skip`."""
    subjects = [(entry.name, from_entry(entry)) for entry in catalogue().entries.values() if entry.config is not None]
    return [
        inspected(subject, name, needs, terms)
        for name, subject in subjects
        if name not in skip and subject.architecture is not None and subject.architecture.kind != "encoder"
    ]
