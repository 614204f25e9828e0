"""What answers cost: per task, per correct answer, on hardware of one's own, and where renting begins to pay.

API prices come with their source and date from whoever states them; a cost whose price is unknown is None, never 0.
Costs of one's own hardware hold at a stated utilisation, since an idle machine costs as much as a busy one.
"""

from __future__ import annotations

from pilotfish.core.errors import ConfigError
from pilotfish.core.messages import Price

UTILISATIONS = (0.01, 0.1, 0.5, 1.0)


def read_price(name: str, text: str) -> Price:
    """`IN/OUT@SOURCE AND DATE`, US dollars per million tokens. Raises `ConfigError`."""
    amounts, _, source = text.partition("@")
    read, _, written = amounts.partition("/")
    try:
        return Price(input_usd_per_mtok=float(read), output_usd_per_mtok=float(written or read), source=source)
    except ValueError as error:
        raise ConfigError(
            f"The price of {name!r} is {text!r}.",
            hint="Write IN/OUT@SOURCE AND DATE, in US dollars per million tokens.",
        ) from error


def usd_per_correct(usd_per_task: float | None, accuracy: float | None) -> float | None:
    """US dollars for one correct answer; None where a part is unknown or nothing was right."""
    return None if usd_per_task is None or not accuracy else usd_per_task / accuracy


def self_hosted_usd_per_mtok(usd_per_h: float, tokens_per_s: float, utilisation: float = 1.0) -> float:
    """US dollars per million output tokens: the rent of an hour over the tokens made in one at this utilisation.

    For owned hardware an hour costs its electricity, and its price over the hours it lives.
    """
    return usd_per_h * 1e6 / (tokens_per_s * 3600.0 * utilisation)


def break_even_per_h(rent_usd_per_h: float, api_usd_per_request: float) -> float:
    """Requests an hour from which the rent is cheaper than the API."""
    return rent_usd_per_h / api_usd_per_request


def blended_usd_per_request(
    rent_usd_per_h: float, requests_per_h: float, escalated: float, api_usd_per_request: float
) -> float:
    """US dollars a request where a rented small model answers and the share `escalated` goes on to an API."""
    return rent_usd_per_h / requests_per_h + escalated * api_usd_per_request
