"""The sheets as one self-contained page, with each model's anatomy drawn: where its parameters sit, memory against
context, work for one more token against context.

Pure text out of sheets; every text that came from a file is escaped. The pieces are those of `pages/`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from pilotfish.pages import html, svg
from pilotfish.sizing import flops, memory
from pilotfish.sizing.architecture import Architecture, Part
from pilotfish.sizing.facts import flops as flops_text
from pilotfish.sizing.facts import size
from pilotfish.sizing.report import Sheet

COLOURS = ("var(--local)", "var(--wrong)", "var(--promise)", "var(--soft)", "var(--ink)")
LONGEST = 131_072


def render(sheets: Sequence[Sheet]) -> str:
    """The page."""
    names = ", ".join(sheet.subject.name for sheet in sheets)
    return html.document(names, [f"<h1>{escape(names)}</h1>", *parts(sheets)])


def parts(sheets: Sequence[Sheet]) -> list[str]:
    """What stands below its title, each as HTML; some are empty."""
    found: list[str] = []
    for sheet in sheets:
        found += _drawn(sheet, is_alone=len(sheets) == 1)
    for section in dict.fromkeys(fact.section for sheet in sheets for fact in sheet.facts):
        found += [f"<h2>{escape(section.capitalize())}</h2>", _table(sheets, section)]
    return found


def _table(sheets: Sequence[Sheet], section: str) -> str:
    rows: list[list[str]] = []
    labels = {
        fact.key: fact.label for sheet in sheets for fact in sheet.facts if fact.section == section and fact.label
    }
    for key, label in labels.items():
        found = [sheet.fact(key) for sheet in sheets]
        how = next((fact.how for fact in found if fact is not None and fact.value is not None), "")
        rows.append([label.strip(), *("n/a" if fact is None else fact.text for fact in found), how])
    return html.table(["", *(sheet.subject.name for sheet in sheets), "how it is known"], rows)


def _drawn(sheet: Sheet, *, is_alone: bool) -> list[str]:
    heading = "" if is_alone else f"<h2>{escape(sheet.subject.name)}</h2>"
    a = sheet.subject.architecture
    if a is None:
        parts = sheet.subject.stored.by_part() if sheet.subject.stored else {}
        told = f"<p>No shape: {escape(sheet.subject.why_none)}.</p>"
        return [heading, told, _anatomy(parts)] if parts else [heading, told]
    return [
        heading,
        f"<p>{a.parameters:,} parameters, {escape(a.kind)}, {escape(a.family)}.</p>",
        _anatomy(a.by_part()),
        _memory(a, sheet),
        _work(a),
    ]


def _anatomy(parts: dict[Part, int]) -> str:
    """One bar whose pieces are as wide as their share of the parameters, with a line of text for each."""
    whole, across = sum(parts.values()), 0.0
    pieces: list[str] = []
    for i, (part, count) in enumerate(parts.items()):
        share, colour = count / whole, COLOURS[i % len(COLOURS)]
        pieces.append(svg.bar((across, 0.72), (across + share, 1.0), colour, 0.85))
        text = f"{part}: {count:,} ({100 * share:.1f} %)"
        pieces.append(svg.label((0.5 * (i % 2), 0.5 - 0.22 * (i // 2)), text, colour=colour))
        across += share
    return svg.figure(pieces, "Where the parameters sit; each piece is as wide as its share")


def _memory(a: Architecture, sheet: Sheet) -> str:
    """Weights, and what the cache and activations add, as the context grows."""
    lengths, use = _lengths(a), sheet.use
    weights = memory.weights_bytes(a.parameters, use.number_type)
    cache = [memory.cache_bytes(a, n, use.batch, use.cache_bits) for n in lengths]
    extra = [memory.activation_bytes(a, n, use.batch) or 0 for n in lengths]
    top = weights + cache[-1] + extra[-1]
    x = _across(lengths)
    level = weights / top
    with_cache = [(weights + kept) / top for kept in cache]
    peak = [(weights + kept + more) / top for kept, more in zip(cache, extra, strict=True)]
    pieces = [
        svg.axis(),
        svg.bar((0, 0), (1, level), COLOURS[0], 0.3),
        svg.area([(0, level), *zip(x, with_cache, strict=True), (1, level)], COLOURS[2]),
        svg.curve(zip(x, with_cache, strict=True), COLOURS[2]),
        svg.curve(zip(x, peak, strict=True), COLOURS[1]),
        svg.note(f"weights in {use.number_type}: {size(weights)}", "top left", COLOURS[0]),
        svg.note(f"with activations: {size(top)}", "top right", COLOURS[1]),
        *(svg.tick(at, f"{n:,}", "bottom") for at, n in _ticks(x, lengths)),
        svg.note("tokens of context", "bottom right"),
    ]
    kept = "with the KV cache" if cache[-1] else "no KV cache: it reads the whole text at once"
    return svg.figure(pieces, f"Memory against context (doubling), batch {use.batch}: weights, then {kept}")


def _work(a: Architecture) -> str:
    """FLOPs for one more token under each kind of attention, both axes in doublings."""
    found = flops.curves(a, _lengths(a)[-1])
    values = [value for row in found.by_kind.values() for value in row]
    low, high = math.log2(min(values)), math.log2(max(values))
    x, span = _across(found.lengths), max(high - low, 1e-9)
    pieces = [svg.axis()]
    for i, (kind, row) in enumerate(found.by_kind.items()):
        colour = COLOURS[i % len(COLOURS)]
        places = [(at, 0.95 * (math.log2(value) - low) / span) for at, value in zip(x, row, strict=True)]
        pieces.append(svg.curve(places, colour))
        pieces.append(svg.label((0.02, 0.95 - 0.1 * i), f"{kind}: {flops_text(row[-1])} at the end", colour=colour))
    pieces += [svg.tick(at, f"{n:,}", "bottom") for at, n in _ticks(x, found.lengths)]
    pieces.append(svg.note("tokens of context", "bottom right"))
    whose = "of the decoder " if a.kind == "encoder-decoder" else ""
    label = f"Operations {whose}for one token against the tokens it sees (both doubling): as it is, or as it would be"
    return svg.figure(pieces, label)


def _lengths(a: Architecture) -> tuple[int, ...]:
    longest = max(1024, min(a.context or LONGEST, 1 << 30))
    return tuple(2**i for i in range(7, longest.bit_length()))


def _across(lengths: Sequence[int]) -> list[float]:
    steps = max(1, len(lengths) - 1)
    return [i / steps for i in range(len(lengths))]


def _ticks(x: Sequence[float], lengths: Sequence[int]) -> list[tuple[float, int]]:
    """About six labels."""
    step = max(1, len(lengths) // 6)
    return list(zip(x, lengths, strict=True))[::step]
