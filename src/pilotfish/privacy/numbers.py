"""What is known by its digits: cards, accounts, national ids, phone numbers, dates of birth.

All begin at a run of digits, so that a text without any costs one search. A number counts with its checksum; one
whose checksum every tenth order number passes too must also be grouped as its country writes it, or stand after its
name. What looks like a part of something longer (a hash, a UUID, a decimal, a version) never counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pilotfish.core.privacy import Finding
from pilotfish.privacy import checksums

SHAPE, CONTEXT, CHECKED = 0.8, 0.5, 1.0
NEAR = 40
"""Characters before a number in which its name is looked for."""

RUN = re.compile(r"[0-9][0-9 ()./\u00a0\u2010-\u2013-]*")
_NO_DIGIT = re.compile(r"[^0-9]")
_CARD_AT = re.compile(r"[0-9]{12,19}|[0-9]{4}(?:[ -][0-9]{4}){2}[ -][0-9]{1,7}|[0-9]{4}[ -][0-9]{6}[ -][0-9]{4,5}")
_GROUP = re.compile(r"[0-9]+[^0-9]*")
_CARD_NAME = re.compile(
    r"card|credit|debit|maestro|visa|master|amex|karte|carte|tarjeta|\bcarta\b|\b(?:pan|cc)\b", re.IGNORECASE
)
_IBAN_AT = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}")
_IBAN_REST = re.compile(r"(?:[ -]?[A-Za-z0-9]){11,30}")
_UUID_BEFORE = re.compile(r"[0-9a-fA-F]{4}-\Z")

_PHONE_NAME = re.compile(
    r"(?:\b(?:phone|tele?(?:phone|fon)?|mobile?|cell|call|dial|fax|whats ?app|sms|text me|reach (?:me|us)|"
    r"handy|m[oó]vil|portable|ring|rufnummer)\b|phone|tel[.:])[^0-9\n]{0,25}\Z",
    re.IGNORECASE,
)
_NO_PHONE = re.compile(
    r"(?:\b(?:order|ticket|invoice|ref|reference|id|version|build|sku|tracking|case|isbn|issn|part|serial|account|acct|"
    r"batch|lot|item|article|page|pages|build|commit|seq|epoch|timestamp|customer|transaction|policy|claim)\b"
    r"(?:[ _-]?(?:no|nr|num|number|id|code))?|#|\bno\.)[^0-9\n]{0,6}\Z",
    re.IGNORECASE,
)
_INTERNATIONAL = re.compile(r"[1-9][0-9]{0,2}(?:[ ./\u00a0\u2010-\u2013-]{0,3}[(]?[0-9]{1,14}[)]?){1,7}")
_NANP = re.compile(r"(?:1[ .-]?)?[(]?[2-9][0-9]{2}(?:[)] ?|[ .-])[2-9][0-9]{2}[ .-][0-9]{4}")
_TRUNK = re.compile(
    r"0[1-9][0-9]{0,4}(?:[ /-]{1,2}[0-9]{2,8}){1,5}|0[1-9][0-9]{0,3}[)] ?[0-9]{2,8}(?:[ -][0-9]{2,8}){0,4}"
)
_AREA = re.compile(r"[0-9]{2,5}[)][ -]?[0-9]{3,5}[ -][0-9]{2,5}(?:[ -][0-9]{2,4})?")
_EXTENSION = re.compile(r" ?(?:x|ext\.?|extension|Durchwahl) ?[0-9]{1,6}(?![0-9])", re.IGNORECASE)
_ISO_DATE = re.compile(
    r"(?:19|20)[0-9]{2}[-/.][01]?[0-9][-/.][0-3]?[0-9]|[0-3]?[0-9][-/.][0-3]?[0-9][-/.](?:19|20)[0-9]{2}"
)
_TEMPERATE = re.compile(r"[0-9]+(?:\.[0-9]+){1,2}")

_BORN = re.compile(
    r"(?:\bborn\b|\b(?:date|day|year)[ _-]of[ _-]birth\b|\bbirth[ _-]?(?:date|day)\b|\bd\.?o\.?b\b|\bgeboren\b|"
    r"\bgeburtsdatum\b|\bn[ée]e? le\b|\bnacid[oa]\b|\bnat[oa] il\b|\bfecha de nacimiento\b)[^0-9\n]{0,25}\Z",
    re.IGNORECASE,
)
_BIRTH_HINTS = (
    "born",
    "birth",
    "dob",
    "d.o.b",
    "gebor",
    "geburt",
    "né",
    "nee le",
    "ne le",
    "nacid",
    "nato",
    "nata",
    "nacim",
)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}"
_DATE = re.compile(
    r"[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/. ][0-9]{1,2}[-/. ][0-9]{2,4}"
    rf"|[0-9]{{1,2}}(?:st|nd|rd|th)?\.?,? {_MONTH}\.?,? [0-9]{{4}}",
    re.IGNORECASE,
)
_MONTH_DATE = re.compile(rf"\b{_MONTH}\.? [0-9]{{1,2}}(?:st|nd|rd|th)?,? [0-9]{{4}}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Id:
    """One national id: what it looks like, what counts, and where nothing but its name before it makes it count."""

    type: str
    pattern: re.Pattern[str]
    check: Callable[[str], bool]
    n: int
    name: re.Pattern[str] | None = None
    hints: tuple[str, ...] = ()
    back: int = 0
    is_clear: Callable[[str], bool] = lambda text: False


def _grouped(text: str) -> bool:
    return not text.isdigit()


def _name(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{words})[^0-9\n]{{0,25}}\Z", re.IGNORECASE)


# `back` letters stand before the first digit; an id without `name` needs none.
_IDS = (
    _Id(
        type="US_SSN",
        pattern=re.compile(r"[0-9]{3}-[0-9]{2}-[0-9]{4}|[0-9]{3} [0-9]{2} [0-9]{4}|[0-9]{9}"),
        check=checksums.us_ssn,
        n=9,
        name=_name(r"\bssn\b|social[ _-]security|\bss#|\bss no"),
        hints=("ssn", "social", "ss#", "ss no"),
        is_clear=lambda text: "-" in text,
    ),
    _Id(
        type="UK_NHS",
        pattern=re.compile(r"[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}"),
        check=checksums.uk_nhs,
        n=10,
        name=_name(r"\bnhs\b"),
        hints=("nhs",),
        is_clear=lambda text: " " in text and "-" not in text and text.count(" ") == 2,
    ),
    _Id(
        type="DE_TAX_ID",
        pattern=re.compile(r"[0-9]{2} ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}"),
        check=checksums.de_tax_id,
        n=11,
        name=_name(r"steuer|\btax[ _-]?(?:id|number|no)|\bid-?nr|\btin\b"),
        hints=("steuer", "tax", "nr", "tin"),
        is_clear=lambda text: text.count(" ") == 3,
    ),
    _Id(type="ES_DNI", pattern=re.compile(r"[0-9]{8}[ -]?[A-Z]"), check=checksums.es_dni, n=9),
    _Id(type="ES_DNI", pattern=re.compile(r"[XYZ]-?[0-9]{7}[ -]?[A-Z]"), check=checksums.es_dni, n=9, back=2),
    _Id(
        type="FR_INSEE",
        pattern=re.compile(
            r"[1-478] ?[0-9]{2} ?(?:0[1-9]|1[0-2]|[2-9][0-9]) ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}"
        ),
        check=checksums.fr_insee,
        n=15,
    ),
    _Id(
        type="IT_CODICE_FISCALE",
        pattern=re.compile(r"[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]"),
        check=checksums.it_codice_fiscale,
        n=16,
        back=6,
    ),
    _Id(
        type="NL_BSN",
        pattern=re.compile(r"[0-9]{9}"),
        check=checksums.nl_bsn,
        n=9,
        name=_name(r"\bbsn\b|burgerservice"),
        hints=("bsn", "burger"),
    ),
    _Id(
        type="PL_PESEL",
        pattern=re.compile(r"[0-9]{11}"),
        check=checksums.pl_pesel,
        n=11,
        name=_name(r"pesel"),
        hints=("pesel",),
    ),
    _Id(
        type="BR_CPF",
        pattern=re.compile(r"[0-9]{3}\.?[0-9]{3}\.?[0-9]{3}-?[0-9]{2}"),
        check=checksums.br_cpf,
        n=11,
        name=_name(r"\bcpf\b"),
        hints=("cpf",),
        is_clear=lambda text: len(text) == 14,
    ),
    _Id(
        type="CH_AHV",
        pattern=re.compile(r"756(?:\.[0-9]{4}){2}\.[0-9]{2}|756[0-9]{10}"),
        check=checksums.ch_ahv,
        n=13,
        name=_name(r"\bahv|\bavs\b|social[ _-]security"),
        hints=("ahv", "avs", "social"),
        is_clear=_grouped,
    ),
)

TYPES = frozenset(("CARD", "IBAN", "PHONE", "DATE_OF_BIRTH", *(each.type for each in _IDS)))


def runs(text: str) -> list[tuple[int, int]]:
    """Every run of digits with its punctuation, from its first digit to its last, that holds at least four."""
    found = []
    for match in RUN.finditer(text):
        end = match.end()
        while not "0" <= text[end - 1] <= "9":
            end -= 1
        if end - match.start() >= 2:
            found.append((match.start(), end))
    return found


def find(text: str, types: frozenset[str]) -> Iterator[Finding]:
    """Everything of this file, of the types asked for."""
    found = runs(text)
    if not found:
        return
    # One look at the whole text spares a look before each number.
    lower = text.lower()
    ids = [(each, _has(lower, each.hints)) for each in _IDS if each.type in types]
    glued = [pair for pair in ids if pair[0].back]
    plain = [pair for pair in ids if not pair[0].back]
    for start, end in found:
        before = text[start - 1 : start]
        if before.isalpha() or before == "-":
            for each, is_hinted in glued:
                yield from _national(text, start, end, each, is_hinted=is_hinted)
            if "IBAN" in types and before != "-":
                yield from _ibans(text, start)
        if end - start >= 7:
            yield from _long(text, start, end, types)
            for each, is_hinted in plain:
                yield from _national(text, start, end, each, is_hinted=is_hinted)
    if "DATE_OF_BIRTH" in types and _has(lower, _BIRTH_HINTS):
        yield from _births(text, found)


def _long(text: str, start: int, end: int, types: frozenset[str]) -> Iterator[Finding]:
    if end - start >= 12 and "CARD" in types:
        yield from _cards(text, start, end)
    if "PHONE" in types:
        yield from _phones(text, start, end)


def _births(text: str, found: list[tuple[int, int]]) -> Iterator[Finding]:
    dates = [match for start, _ in found if (match := _DATE.match(text, start)) is not None]
    for match in [*dates, *_MONTH_DATE.finditer(text)]:
        if _BORN.search(text, max(0, match.start() - NEAR), match.start()):
            yield Finding(type="DATE_OF_BIRTH", start=match.start(), end=match.end(), score=CONTEXT)


def _has(lower: str, hints: tuple[str, ...]) -> bool:
    return any(hint in lower for hint in hints)


def _is_apart(text: str, start: int, end: int) -> bool:
    """Whether the place is no part of a longer word, decimal, hash or UUID."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if before.isalnum() or before == "_" or after.isalnum() or after == "_":
        return False
    if before and before in ".,-/" and text[start - 2 : start - 1].isdigit():
        return False
    if after and after in ".,-/" and text[end + 1 : end + 2].isdigit():
        return False
    return not _UUID_BEFORE.search(text, max(0, start - 5), start)


def _cards(text: str, start: int, end: int) -> Iterator[Finding]:
    while (match := _CARD_AT.search(text, start, end)) is not None:
        digits = _NO_DIGIT.sub("", match[0])
        is_card = checksums.luhn(digits) and _is_apart(text, match.start(), match.end())
        # Ids of 12 and 19 digits are common, such cards are rare: they must be called so, or be grouped.
        is_usual = checksums.card(digits) and (len(digits) in range(13, 18) or _grouped(match[0]))
        if is_card and (is_usual or _CARD_NAME.search(text, max(0, match.start() - NEAR), match.start())):
            yield Finding(type="CARD", start=match.start(), end=match.end(), score=CHECKED)
            start = match.end()
        else:
            # Groups of something else may stand before those of the card.
            group = _GROUP.match(text, match.start(), end)
            start = group.end() if group else end


def _ibans(text: str, digits_at: int) -> Iterator[Finding]:
    start = digits_at - 2
    if start < 0 or _IBAN_AT.match(text, start) is None:
        return
    length = checksums.iban_length(text[start:digits_at].upper())
    rest = _IBAN_REST.match(text, digits_at + 2) if length else None
    if rest is None:
        return
    n, end = 4, rest.start()
    while n < length and end < rest.end():
        n += text[end] not in " -"
        end += 1
    code = text[start:end].replace(" ", "").replace("-", "").upper()
    if not text[end : end + 1].isalnum() and checksums.iban(code):
        yield Finding(type="IBAN", start=start, end=end, score=CHECKED)


def _national(text: str, start: int, end: int, each: _Id, *, is_hinted: bool) -> Iterator[Finding]:
    at = start
    if each.back:
        # Letters come first; a hyphen may stand between them and the number.
        at = start - each.back
        if each.back == 2:
            at = start - 2 if text[start - 1 : start] == "-" else start - 1
        if at < 0:
            return
    # Of a run that holds more than one number each place after a space is tried.
    while at < end:
        match = each.pattern.match(text, at)
        if match is not None and _is_apart(text, match.start(), match.end()):
            code = match[0].replace(" ", "").replace("-", "").replace(".", "")
            if len(code) == each.n and each.check(code) and _is_named(text, at, match[0], each, is_hinted=is_hinted):
                yield Finding(type=each.type, start=match.start(), end=match.end(), score=CHECKED)
                return
        at = text.find(" ", at, end) + 1
        if at == 0 or each.back:
            return


def _is_named(text: str, at: int, number: str, each: _Id, *, is_hinted: bool) -> bool:
    """Whether the checksum is enough, or the number is grouped as its country writes it, or its name stands before."""
    if each.name is None or each.is_clear(number):
        return True
    return is_hinted and each.name.search(text, max(0, at - NEAR), at) is not None


def _phones(text: str, start: int, end: int) -> Iterator[Finding]:
    opening = start - 1 if text[start - 1 : start] == "(" else start
    before = text[opening - 1 : opening]
    if before == "+" and opening == start:
        number_end = _international_end(text, start, end)
        if number_end:
            yield _phone(text, opening - 1, number_end, SHAPE)
        return
    if before.isalnum() or before in ("_", ".", "-", "/", "$", "€", "£", "#", "="):
        return
    if text[end : end + 1].isalpha() and not _EXTENSION.match(text, end):
        return
    number = text[start:end]
    n = _n_digits(number)
    if not 7 <= n <= 17 or _ISO_DATE.match(number) or _TEMPERATE.fullmatch(number):
        return
    patterns = (_NANP, _TRUNK) if opening == start else (_NANP, _TRUNK, _AREA)
    shape = next((found for pattern in patterns if (found := pattern.match(text, start, end))), None)
    if number.startswith("00") and _grouped(number):
        shape = _INTERNATIONAL.match(text, start + 2, end) or shape
    context = text[max(0, opening - NEAR) : opening]
    if _PHONE_NAME.search(context):
        yield _phone(text, opening, end, CONTEXT + 0.1)
    elif shape is not None and 8 <= _n_digits(shape[0]) <= 15 and not _NO_PHONE.search(context):
        yield _phone(text, opening, shape.end(), CONTEXT)


def _international_end(text: str, start: int, end: int) -> int:
    """Where a number after its + ends: the most groups that make 8 to 15 digits. 0 where none do."""
    found, n = 0, 0
    match = _INTERNATIONAL.match(text, start, end)
    for group in re.finditer("[0-9]+", match[0]) if match else ():
        n += len(group[0])
        if 8 <= n <= 15:
            found = start + group.end()
    return found


def _phone(text: str, start: int, end: int, score: float) -> Finding:
    extension = _EXTENSION.match(text, end)
    return Finding(type="PHONE", start=start, end=extension.end() if extension else end, score=score)


def _n_digits(text: str) -> int:
    return len(_NO_DIGIT.sub("", text))
