"""Published numbers pass their checks, and one wrong digit fails them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pilotfish.privacy import checksums

PUBLISHED: list[tuple[Callable[[str], bool], list[str]]] = [
    (
        checksums.card,
        [
            "4111111111111111",
            "5555555555554444",
            "378282246310005",
            "6011111111111117",
            "30569309025904",
            "3530111333300000",
            "2223003122003222",
        ],
    ),
    (
        checksums.iban,
        [
            "GB82WEST12345698765432",
            "DE89370400440532013000",
            "FR1420041010050500013M02606",
            "NO9386011117947",
            "CH9300762011623852957",
            "MT84MALT011000012345MTLCAST001S",
        ],
    ),
    (checksums.uk_nhs, ["9434765919"]),
    (checksums.de_tax_id, ["86095742719", "47036892816", "65929970489"]),
    (checksums.es_dni, ["12345678Z", "X1234567L", "Y1234567X", "Z1234567R"]),
    (checksums.fr_insee, ["255081416802538"]),
    (checksums.it_codice_fiscale, ["RSSMRA85T10A562S", "MRTMTT91D08F205J"]),
    (checksums.nl_bsn, ["111222333", "123456782"]),
    (checksums.pl_pesel, ["44051401359", "02070803628"]),
    (checksums.br_cpf, ["52998224725", "11144477735"]),
    (checksums.ch_ahv, ["7569217076985"]),
    (
        checksums.bitcoin,
        [
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
            "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy",
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
            "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr",
        ],
    ),
]
CASES = [(check, number) for check, numbers in PUBLISHED for number in numbers]


@pytest.mark.parametrize(("check", "number"), CASES, ids=[f"{check.__name__}-{number}" for check, number in CASES])
def test_a_published_number_is_genuine_and_with_another_last_character_is_not(
    check: Callable[[str], bool], number: str
) -> None:
    assert check(number)
    last = number[-1]
    other = str((int(last) + 1) % 10) if last.isdigit() else "AB"[last == "A"] if last.isupper() else "qp"[last == "q"]
    assert not check(number[:-1] + other)


@pytest.mark.parametrize("number", ["000121234", "666121234", "900121234", "123001234", "123450000", "078051120"])
def test_numbers_that_were_never_issued_are_no_social_security_numbers(number: str) -> None:
    assert checksums.us_ssn("123456789")
    assert not checksums.us_ssn(number)


@pytest.mark.parametrize("number", ["1234567812345670", "0000000000000000", "9999999999999995"])
def test_luhn_alone_makes_no_card(number: str) -> None:
    assert checksums.luhn(number)
    assert not checksums.card(number)


def test_an_iban_of_the_wrong_length_or_country_is_none() -> None:
    assert not checksums.iban("GB82WEST123456987654321")
    assert not checksums.iban("XX82WEST12345698765432")
