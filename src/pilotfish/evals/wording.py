"""Figures as text: what the cells of every table say, with unit and interval, or the reason why there is no figure."""

from __future__ import annotations

import math

from pilotfish.core.measured import Measured


def share(figure: Measured, digits: int = 1) -> str:
    """A share with its interval, in per cent."""
    if figure.value is None:
        return figure.why_none or "-"
    text = f"{100 * figure.value:.{digits}f} %"
    if figure.low is not None and figure.high is not None:
        text += f" ({100 * figure.low:.{digits}f} to {100 * figure.high:.{digits}f})"
    return text


def time(figure: Measured) -> str:
    """A time in milliseconds with its interval."""
    if figure.value is None:
        return figure.why_none or "-"
    text = f"{_ms(figure.value)} ms"
    if figure.low is not None and figure.high is not None:
        text += f" ({_ms(figure.low)} to {_ms(figure.high)})"
    return text


def amount(figure: Measured, unit: str = "") -> str:
    """A plain figure with its unit, or why there is none."""
    if figure.value is None:
        return figure.why_none or "-"
    return f"{figure.value:.3g} {unit or figure.unit}"


def size(figure: Measured) -> str:
    """Bytes as MB and MiB, both labelled."""
    if figure.value is None:
        return figure.why_none or "-"
    return f"{figure.value / 1e6:,.0f} MB ({figure.value / 2**20:,.0f} MiB)"


def _ms(value_s: float) -> str:
    value = 1e3 * value_s
    return f"{value:.3f}" if value < 1 else f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def p_value(value: float) -> str:
    """A p-value; the smallest only as a bound."""
    return f"{value:.4f}" if value >= 0.0001 else "<0.0001"


def per_cent(value: float | None) -> str:
    """A share that has no interval."""
    return "-" if value is None else f"{100 * value:.1f} %"


def usd(figure: Measured) -> str:
    """US dollars without their sign, which stands in the column."""
    return figure.why_none or "-" if figure.value is None else f"{figure.value:.3g}"


def plain(value: float | str | None) -> str:
    """A figure of a scorer."""
    return "-" if value is None else value if isinstance(value, str) else f"{value:.4g}"


def dollars(usd: float) -> str:
    """US dollars: to the cent, and three digits of what is less than one."""
    size = abs(usd)
    n_decimals = 2 if size >= 1 or not size else 2 - math.floor(math.log10(size))
    whole, _, rest = f"{size:,.{n_decimals}f}".partition(".")
    return f"{'-' if usd < 0 else ''}${whole}.{rest.rstrip('0').ljust(2, '0')}"
