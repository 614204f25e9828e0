"""Judges what a text says about models: "Phi-2 has 270 million parameters" against the catalogue.

Conservative: a sentence that asks, denies, supposes, or speaks of variants is left alone, and so is a claim that lies
between right and wrong. A name that people use for several sizes is right if one of them fits, wrong only if none does.
A figure for a model whose maker published none cannot be judged, and is listed as that. How sentences are read stands
in `claim_forms.py`, how far a rounded number may lie from the exact one in `rounding.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from pilotfish.sizing import memory
from pilotfish.sizing.catalogue import Entry, catalogue
from pilotfish.sizing.claim_forms import Claim, read
from pilotfish.sizing.facts import size
from pilotfish.sizing.rounding import fits
from pilotfish.sizing.sources import Subject, from_entry

Verdict = Literal["right", "wrong", "cannot judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One claim: where and what was said, the value it was held against, and where that is from."""

    line: int
    text: str
    model: str
    quantity: str
    claimed: str
    value: str
    verdict: Verdict
    source: str


def judge(text: str) -> list[Judged]:
    """The claims of a text that can be judged, or that cannot because nothing is published, in order."""
    found = (_judged(claim) for claim in read(text))
    return [judged for judged in found if judged is not None]


def _judged(claim: Claim) -> Judged | None:
    subjects = [from_entry(catalogue().entries[name]) for name in claim.models]
    unknown = next((s for s in subjects if s.architecture is None), None)
    if unknown is not None:
        return _undisclosed(claim, unknown)
    if claim.quantity == "smaller":
        return _relative(claim, subjects)
    if claim.quantity == "memory":
        return _memory(claim, subjects)
    if claim.quantity in WORDS:
        return _word(claim, subjects)
    return _number(claim, subjects)


def _undisclosed(claim: Claim, subject: Subject) -> Judged | None:
    """No verdict on what was never published; but a published context window can be right."""
    entry = subject.entry
    published = [fact for fact in entry.facts if fact.fact == claim.quantity] if entry else []
    for fact in published:
        if fits(claim.said, fact.value, claim.quantity):
            return _made(claim, subject, f"{int(fact.value):,}", "right", fact.cited)
    if claim.quantity in ("parameters", "active", "layers"):
        return _made(claim, subject, subject.why_none, "cannot judge", _source(subject))
    return None


def _number(claim: Claim, subjects: list[Subject]) -> Judged | None:
    verdicts: list[bool | None] = []
    for subject in subjects:
        values = list(_values(claim.quantity, subject))
        found = [fits(claim.said, value, claim.quantity) for value, _ in values]
        for (value, source), is_right in zip(values, found, strict=True):
            if is_right:
                return _made(claim, subject, f"{int(value):,}", "right", source)
        verdicts.append(False if found and all(one is False for one in found) else None)
    if not all(verdict is False for verdict in verdicts):
        return None
    firsts = [next(iter(_values(claim.quantity, subject)))[0] for subject in subjects]
    shown = " or ".join(dict.fromkeys(f"{int(first):,}" for first in firsts))
    return _made(claim, subjects[0], shown, "wrong", _source(subjects[0]))


def _values(quantity: str, subject: Subject) -> Iterable[tuple[float, str]]:
    """What the quantity is, by the configuration first, then as published, each with its source."""
    a = subject.architecture
    assert a is not None
    known: dict[str, int | None] = {
        "parameters": a.parameters,
        "active": a.active_parameters if a.is_mixture else None,
        "context": a.context,
        "layers": a.n_layers if a.n_encoder_layers is None else None,
        "hidden": a.hidden,
        "heads": a.n_heads,
        "kv_heads": a.n_kv_heads if a.kind == "decoder" else None,
        "vocabulary": a.vocab,
    }
    value = known[quantity]
    if value is not None:
        yield value, _source(subject)
    if quantity == "parameters":
        for head in a.heads:
            yield head.parameters, f"{_source(subject)}, with {head.name}"
    for fact in subject.entry.facts if subject.entry else ():
        if fact.fact == quantity:
            yield fact.value, fact.cited


def _memory(claim: Claim, subjects: list[Subject]) -> Judged | None:
    """Weights alone are a lower bound: more can be needed, less cannot."""
    is_below = True
    for subject in subjects:
        assert subject.architecture is not None
        n_bytes = memory.weights_bytes(subject.architecture.parameters, claim.detail)
        units = (n_bytes / 1e9, n_bytes / 2**30)
        if any(fits(claim.said, unit, "memory") for unit in units):
            return _made(claim, subject, f"weights {size(n_bytes)}", "right", _source(subject))
        is_below &= claim.said.value < 0.85 * min(units) and claim.said.bound != "at least"
    if not is_below:
        return None
    assert subjects[0].architecture is not None
    least = memory.weights_bytes(subjects[0].architecture.parameters, claim.detail)
    return _made(claim, subjects[0], f"weights alone {size(least)}", "wrong", _source(subjects[0]))


def _relative(claim: Claim, subjects: list[Subject]) -> Judged | None:
    """`A is 40 % smaller than B`, over all sizes that both names can mean."""
    others = [from_entry(catalogue().entries[name]) for name in claim.others]
    if any(other.architecture is None for other in others):
        return None
    shares = [(1 - _count(a) / _count(b), a) for a in subjects for b in others]
    said = claim.said.value / 100
    nearest, subject = min(shares, key=lambda pair: abs(pair[0] - said))
    distance = abs(nearest - said)
    if 0.012 < distance <= 0.06:
        return None
    verdict: Verdict = "right" if distance <= 0.012 else "wrong"
    return _made(claim, subject, f"{100 * nearest:.1f} % smaller", verdict, _source(subject))


def _count(subject: Subject) -> int:
    assert subject.architecture is not None
    return subject.architecture.parameters


def _word(claim: Claim, subjects: list[Subject]) -> Judged | None:
    values = [WORDS[claim.quantity](subject) for subject in subjects]
    known = [value for value in values if value]
    if len(known) < len(values):
        return None
    for subject, value in zip(subjects, known, strict=True):
        if value == claim.detail:
            return _made(claim, subject, value, "right", _source(subject))
    return _made(claim, subjects[0], " or ".join(dict.fromkeys(known)), "wrong", _source(subjects[0]))


def _kind(subject: Subject) -> str | None:
    return subject.architecture.kind if subject.architecture else None


def _tokenizer(subject: Subject) -> str | None:
    return subject.architecture.tokenizer if subject.architecture else None


WORDS: dict[str, Callable[[Subject], str | None]] = {"kind": _kind, "tokenizer": _tokenizer}
"""Quantities that are words."""


def _source(subject: Subject) -> str:
    return f"{subject.source}, entered {subject.date}"


def _made(claim: Claim, subject: Subject, value: str, verdict: Verdict, source: str) -> Judged:
    entry: Entry | None = subject.entry
    return Judged(
        line=claim.line,
        text=claim.text,
        model=entry.title if entry else subject.name,
        quantity=claim.quantity.replace("_", " "),
        claimed=claim.said.text or claim.detail,
        value=value,
        verdict=verdict,
        source=source,
    )
