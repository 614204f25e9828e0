"""The words of privacy: what is personal, and what may be done with a request that holds it.

The types here are those of the settings, the placeholders, the headers and the documentation. How each is found is
known to `privacy/`, what follows from a finding to the gateway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PrivacyMode = Literal["allow", "mask", "local"]

MODES: tuple[PrivacyMode, ...] = ("allow", "mask", "local")
"""From the least to the most strict."""

TYPES: dict[str, str] = {
    "EMAIL": "an e-mail address",
    "PHONE": "a phone number: international, in a usual national form, or after a word such as `tel`",
    "IBAN": "a bank account number (country's length, mod 97)",
    "CARD": "a payment card number (known prefix and length, Luhn)",
    "US_SSN": "a US social security number, with dashes or after its name (ranges never issued are left out)",
    "UK_NHS": "a British NHS number, grouped 3-3-4 or after its name (mod 11)",
    "DE_TAX_ID": "a German tax id, grouped 2-3-3-3 or after its name (repeated digit, mod 11-10)",
    "ES_DNI": "a Spanish DNI or NIE (letter mod 23)",
    "FR_INSEE": "a French social security number (month, mod 97)",
    "IT_CODICE_FISCALE": "an Italian codice fiscale (check letter)",
    "NL_BSN": "a Dutch BSN, after its name (test of eleven)",
    "PL_PESEL": "a Polish PESEL, after its name (date, weighted check digit)",
    "BR_CPF": "a Brazilian CPF, punctuated or after its name (two check digits)",
    "CH_AHV": "a Swiss AHV number (756, EAN-13)",
    "IP_ADDRESS": "an IPv4 or IPv6 address, but for loopback, unspecified and version numbers",
    "URL_CREDENTIALS": "a URL that carries a password",
    "SECRET": "an API key, token or private key of a well-known shape",
    "CRYPTO_WALLET": "a Bitcoin address (Base58Check, Bech32)",
    "DATE_OF_BIRTH": "a date after words such as `born` or `date of birth`",
    "ADDRESS": "a postal address: house number and street, box, unit",
    "PERSON": "a name, by its title, the words around it or a common given name",
}
"""Every built-in type with what it is."""

WEAK_TYPES = frozenset(("ADDRESS", "PERSON"))
"""Found by words and context alone, and so only where the settings ask for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place in a text. `score` orders findings: 1.0 checksum, 0.8 strong shape, 0.5 context, 0.3 words alone."""

    type: str
    start: int
    end: int
    score: float


def stricter(first: PrivacyMode, second: PrivacyMode) -> PrivacyMode:
    """The stricter of two modes."""
    return max(first, second, key=MODES.index)
