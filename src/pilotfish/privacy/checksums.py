"""Check digits of cards, accounts, national ids and wallets.

Each takes the characters that count, without spaces or punctuation, and says whether they can be genuine. Where a
published rule excludes ranges (never issued, reserved), the rule is here too.
"""

from __future__ import annotations

import hashlib
import re

_IBAN_LENGTHS = dict(
    re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18FK18FO18FR27"
        "GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22MK19"
        "MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23"
        "TN24TR26UA29VA22VG24XK20YE30",
    )
)
# Visa, Mastercard (both ranges), American Express, Diners, Discover, JCB, UnionPay, Maestro.
_CARDS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|09|[689]\d)\d{11}|(?:6011|65\d\d|64[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|(?:1800|2131)\d{11}"
    r"|62\d{14,17}|(?:5018|5020|5038|5[678]\d\d|6304|6390|6759|676[1-3])\d{8,15}"
)
_BASE58 = {digit: value for value, digit in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}
_BECH32 = {digit: value for value, digit in enumerate("qpzry9x8gf2tvdw0s3jn54khce6mua7l")}
_CF_FIRST = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21)
_CF_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (*_CF_FIRST, *_CF_FIRST, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812 annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (1 + place % 2)
        total += doubled - 9 * (doubled > 9)
    return total % 10 == 0


def card(digits: str) -> bool:
    """A payment card: a known issuer's prefix and length, and Luhn."""
    return _CARDS.fullmatch(digits) is not None and luhn(digits)


def iban(code: str) -> bool:
    """ISO 13616: the country's length and mod 97, in capital letters."""
    if _IBAN_LENGTHS.get(code[:2]) != str(len(code)):
        return False
    return int("".join(str(int(char, 36)) for char in code[4:] + code[:4])) % 97 == 1


def iban_length(country: str) -> int:
    """How long an IBAN of this country is, 0 where it has none."""
    return int(_IBAN_LENGTHS.get(country, 0))


def us_ssn(digits: str) -> bool:
    """Never issued: area 000, 666 and 900 to 999, group 00, serial 0000, and two numbers known from advertisements."""
    is_issued = digits[:3] not in ("000", "666") and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"
    return is_issued and digits not in ("078051120", "219099999") and len(set(digits)) > 1


def uk_nhs(digits: str) -> bool:
    """NHS number: weights 10 to 2, mod 11."""
    check = 11 - sum(int(digit) * (10 - place) for place, digit in enumerate(digits[:9])) % 11
    return len(set(digits)) > 1 and check % 11 == int(digits[9]) and check != 10


def de_tax_id(digits: str) -> bool:
    """Steuerliche Identifikationsnummer: one digit twice or thrice among the first ten, ISO 7064 mod 11-10."""
    counts = sorted((digits[:10].count(digit) for digit in set(digits[:10])), reverse=True)
    if digits[0] == "0" or counts[0] not in (2, 3) or counts[1] != 1:
        return False
    product = 10
    for digit in digits[:10]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def es_dni(code: str) -> bool:
    """DNI and NIE: the letter is the number mod 23; X, Y, Z stand for 0, 1, 2."""
    number = code[:-1].translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == code[-1]


def fr_insee(code: str) -> bool:
    """Numéro de sécurité sociale: 97 minus the number mod 97; Corsica's 2A and 2B count as 19 and 18."""
    number = code[:13].replace("2A", "19").replace("2B", "18")
    return 97 - int(number) % 97 == int(code[13:])


def it_codice_fiscale(code: str) -> bool:
    """Codice fiscale: odd places by table, even places by value, mod 26."""
    total = sum(
        int(char, 36) - 10 * char.isalpha() if place % 2 else _CF_ODD[char] for place, char in enumerate(code[:15])
    )
    return chr(ord("A") + total % 26) == code[15]


def nl_bsn(digits: str) -> bool:
    """Burgerservicenummer: the test of eleven, weights 9 to 2 and -1."""
    weights = (9, 8, 7, 6, 5, 4, 3, 2, -1)
    total = sum(weight * int(digit) for weight, digit in zip(weights, digits, strict=True))
    return len(set(digits)) > 1 and total % 11 == 0


def pl_pesel(digits: str) -> bool:
    """PESEL: month with its century, day, weights 1 3 7 9."""
    total = sum(weight * int(digit) for weight, digit in zip((1, 3, 7, 9) * 2 + (1, 3, 1), digits, strict=True))
    return 1 <= int(digits[2:4]) % 20 <= 12 and 1 <= int(digits[4:6]) <= 31 and total % 10 == 0


def br_cpf(digits: str) -> bool:
    """CPF: two check digits mod 11; eleven equal digits are no number."""
    for n in (9, 10):
        total = sum(int(digit) * (n + 1 - place) for place, digit in enumerate(digits[:n]))
        if total * 10 % 11 % 10 != int(digits[n]):
            return False
    return len(set(digits)) > 1


def ch_ahv(digits: str) -> bool:
    """AHV number: 756 and EAN-13."""
    total = sum(int(digit) * (1 + 2 * (place % 2)) for place, digit in enumerate(digits[:12]))
    return digits.startswith("756") and (10 - total % 10) % 10 == int(digits[12])


def bitcoin(address: str) -> bool:
    """A Bitcoin address: Base58Check (P2PKH, P2SH), or Bech32 and Bech32m (BIP 173, BIP 350)."""
    return _bech32(address) if address[:3].lower() == "bc1" else _base58check(address)


def _base58check(address: str) -> bool:
    number = 0
    for char in address:
        number = number * 58 + _BASE58[char]
    if number >= 1 << 200:
        return False
    data = number.to_bytes(25, "big")
    return hashlib.sha256(hashlib.sha256(data[:21]).digest()).digest()[:4] == data[21:]


def _bech32(address: str) -> bool:
    if address not in (address.lower(), address.upper()):
        return False
    values = [3, 3, 0, 2, 3, *(_BECH32[char] for char in address.lower()[3:])]
    state = 1
    for value in values:
        top = state >> 25
        state = (state & 0x1FFFFFF) << 5 ^ value
        for bit, factor in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            state ^= factor if top >> bit & 1 else 0
    return state in (1, 0x2BC830A3)
