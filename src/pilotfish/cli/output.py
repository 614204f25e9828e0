"""Tables for people, JSON for programs, and a progress line for long work.

All commands print through here, so that columns, percentages and "why there is no number" look the
same everywhere. Standard output carries the result; progress goes to standard error and only to a
terminal.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:  # only named in annotations
    from pilotfish.config.settings import RoutingSettings
    from pilotfish.core.certificate import Certificate, Claim
    from pilotfish.core.measured import Measured
    from pilotfish.evals.tables import Table


def print_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """One JSON document on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table with left-aligned text and right-aligned numbers; columns as wide as their content."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max([len(column), *(len(row[i]) for row in cells)]) for i, column in enumerate(columns)]
    is_number = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(columns))]
    for line in [list(columns), ["-" * width for width in widths], *cells]:
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, is_number, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())


def print_titled(table: Table) -> None:
    """A table of `evals` under its title, long cells cut, with its notes."""
    click.echo(f"\n{table.title}")
    print_table(table.columns, [[shorten(cell, 60) for cell in row] for row in table.rows])
    for note in table.notes:
        if note:
            click.echo(note)


def percent(share: float | None, digits: int = 1) -> str:
    """`0.123` as `12.3 %`; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def with_interval(measured: Measured, digits: int = 2) -> str:
    """A share with its interval and n, or the reason there is none."""
    if measured.value is None:
        return measured.why_none or "-"
    text = percent(measured.value, digits)
    if measured.low is not None and measured.high is not None:
        text += f" ({100 * measured.low:.{digits}f} to {100 * measured.high:.{digits}f})"
    return f"{text}, n = {measured.n}"


def claim(asked: Claim) -> str:
    """A promise in words, with all the digits it was asked for in."""
    return (
        f"disagreement per {asked.per} at most {100 * asked.max_risk:g} % with {100 * asked.confidence:g} % confidence"
    )


def audits(asked: Claim, rate: float | None) -> str:
    """How soon audits at `rate`, chosen where it is None, will notice a broken promise that is yet to be certified."""
    from pilotfish.guarantees.audit import Audit

    audit = Audit(asked)
    expected = "" if rate is not None else " (the rate is chosen; the certificate may move it a little)"
    return f"Audits: {audit.power(audit.rate(rate))}{expected}."


def routing(asked: RoutingSettings) -> list[str]:
    """What smaller models may do for open requests, in a sentence; none where no model is named."""
    if not asked.models:
        return []
    names = " > ".join(asked.models)
    collected = f" {100 * asked.collect:g} % are put to them too, unseen." if asked.collect else ""
    if asked.margin is None:
        return [f"Open requests: {names} answers none until [routing] margin is stated.{collected}"]
    return [
        f"Open requests: {names} may answer, under an adopted route that loses at most {100 * asked.margin:g} points "
        f"with {100 * asked.confidence:g} % confidence.{collected}"
    ]


def promise(certificate: Certificate) -> str:
    """A certificate in one sentence."""
    if certificate.claim.per == "loss":
        return (
            f"certificate {certificate.id}: loss against always asking the large model at most "
            f"{100 * certificate.claim.max_risk:g} points with {100 * certificate.claim.confidence:g} % confidence "
            f"({percent(certificate.coverage)} of {certificate.n:,} calibration outcomes kept; attempt "
            f"{certificate.attempt}, delta spent {certificate.delta_spent:.4f})"
        )
    first = certificate.first
    of_first = "" if first is None else f", {first.errors:g} of {first.n_served:,} by the first tier"
    return (
        f"certificate {certificate.id}: {claim(certificate.claim)} "
        f"(bound {percent(certificate.bound, 2)}; {certificate.errors:g} of "
        f"{certificate.n_served:,} served calibration rows differed{of_first}, {certificate.n:,} rows in all, coverage "
        f"{percent(certificate.coverage)}; attempt {certificate.attempt}, delta spent {certificate.delta_spent:.4f})"
    )


def shorten(text: str | None, width: int) -> str:
    """One line of at most `width` characters; what could steer a terminal is replaced."""
    line = "".join(c if c.isprintable() else "\ufffd" for c in " ".join((text or "").split()))
    return line if len(line) <= width else line[: width - 1] + "…"


def moment(seconds: float | None) -> str:
    """A time in UTC, to the second."""
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value.rstrip(" %ms$").replace(".", "").replace(",", "").lstrip("-").isdigit()
    return value is None or isinstance(value, int | float)


class Progress:
    """A line on a terminal's standard error that is rewritten in place; silent elsewhere.

    Use as a context manager, so that an interrupt leaves the terminal clean.
    """

    WIDTH = 24

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._last_s = 0.0
        self._started: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Show how far `stage` is; at most ten times a second, and when it is complete.

        What was done before the first call (a run that goes on) says nothing about the time left.
        """
        now = time.monotonic()
        # What stands behind a colon changes while the stage goes on.
        started, first = self._started.setdefault(stage.partition(":")[0], (now, done))
        if not self._is_terminal or (now - self._last_s < 0.1 and done < total):
            return
        self._last_s = now
        share = done / total if total else 0.0
        bar = "█" * round(share * self.WIDTH)
        is_known = 0.05 * total < done - first and share < 1
        left = f", {(now - started) * (total - done) / (done - first):.0f} s left" if is_known else ""
        told = f", {detail}" if detail else ""
        sys.stderr.write(f"\r\x1b[K{stage:<28} {bar:<{self.WIDTH}} {done:,}/{total:,}{left}{told}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Wipe the line."""
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def say(self, text: str) -> None:
        """A lasting line on standard error, above the progress line."""
        self.clear()
        click.echo(text, err=True)
