"""What is found in texts, and above all what is not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.core.privacy import TYPES, Finding
from pilotfish.privacy.detect import Detector, merged
from tools.clock import least_cpu_s

DETECTOR = Detector()
ALL = Detector(TYPES)


def found(text: str, detector: Detector = DETECTOR) -> list[tuple[str, str]]:
    return [(each.type, text[each.start : each.end]) for each in detector.scan(text)]


SEEN = [
    ("Write to jo.doe+x@mail.example.co.uk, please.", "EMAIL", "jo.doe+x@mail.example.co.uk"),
    ("(mailto:jürgen@bücher.example)", "EMAIL", "mailto:jürgen@bücher.example"[7:]),
    ("Call +49 (0)30 901820 now", "PHONE", "+49 (0)30 901820"),
    ("or (212) 555-0123 x42.", "PHONE", "(212) 555-0123 x42"),
    ("tel 9469 9966", "PHONE", "9469 9966"),
    ("mobile: 07700 900123", "PHONE", "07700 900123"),
    ("0033 1 70 18 99 00", "PHONE", "0033 1 70 18 99 00"),
    ("IBAN gb82 west 1234 5698 7654 32.", "IBAN", "gb82 west 1234 5698 7654 32"),
    ("pay DE89370400440532013000 today", "IBAN", "DE89370400440532013000"),
    ("card 4111 1111 1111 1111 exp 12/30", "CARD", "4111 1111 1111 1111"),
    ("2024 4111 1111 1111 1111", "CARD", "4111 1111 1111 1111"),
    ("3782-822463-10005", "CARD", "3782-822463-10005"),
    ("order 4111111111111111", "CARD", "4111111111111111"),
    ("SSN 123-45-6789", "US_SSN", "123-45-6789"),
    ("ssn: 123456789", "US_SSN", "123456789"),
    ("943 476 5919", "UK_NHS", "943 476 5919"),
    ("NHS number 9434765919", "UK_NHS", "9434765919"),
    ("Steuer-ID 86095742719", "DE_TAX_ID", "86095742719"),
    ("86 095 742 719", "DE_TAX_ID", "86 095 742 719"),
    ("DNI 12345678-Z", "ES_DNI", "12345678-Z"),
    ("NIE X-1234567-L", "ES_DNI", "X-1234567-L"),
    ("2 55 08 14 168 025 38", "FR_INSEE", "2 55 08 14 168 025 38"),
    ("CF RSSMRA85T10A562S", "IT_CODICE_FISCALE", "RSSMRA85T10A562S"),
    ("BSN 111222333", "NL_BSN", "111222333"),
    ("PESEL: 44051401359", "PL_PESEL", "44051401359"),
    ("529.982.247-25", "BR_CPF", "529.982.247-25"),
    ("756.9217.0769.85", "CH_AHV", "756.9217.0769.85"),
    ("from 203.0.113.9, port 80", "IP_ADDRESS", "203.0.113.9"),
    ("at 2001:db8::8a2e:370:7334.", "IP_ADDRESS", "2001:db8::8a2e:370:7334"),
    ("postgres://bob:hunter2@db.example.com/x", "URL_CREDENTIALS", "postgres://bob:hunter2@db.example.com/x"),
    ("key sk-abcdefghijklmnopqrstuvwx12", "SECRET", "sk-abcdefghijklmnopqrstuvwx12"),
    ("AKIAIOSFODNN7EXAMPLE", "SECRET", "AKIAIOSFODNN7EXAMPLE"),
    ("ghp_" + "a1" * 18, "SECRET", "ghp_" + "a1" * 18),
    ("send to 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "CRYPTO_WALLET", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
    ("born on 12 March 1980 in Rome", "DATE_OF_BIRTH", "12 March 1980"),
    ("Date of birth: 1980-03-12", "DATE_OF_BIRTH", "1980-03-12"),
    ("born March 12, 1980", "DATE_OF_BIRTH", "March 12, 1980"),
]


@pytest.mark.parametrize(("text", "kind", "value"), SEEN, ids=[f"{kind}-{value}" for _, kind, value in SEEN])
def test_it_is_found_whole_and_nothing_else_is(text: str, kind: str, value: str) -> None:
    assert found(text) == [(kind, value)]


# Texts that look like personal data and hold none.
LOOK_ALIKES = [
    "Order 1234567890123456 was sent on 2024-11-03.",
    "Ticket #4829301754, see INC0012345678.",
    "order number 20231105123456",
    "tracking 1Z999AA10123456784",
    "tracking 9400111899223197428490",
    "ISBN 978-3-16-148410-0 and ISSN 2049-3630",
    "version 10.4.22.1 of the driver, v1.2.3.4, 2.0.0.1-beta",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b",
    "md5 d41d8cd98f00b204e9800998ecf8427e",
    "id 550e8400-e29b-41d4-a716-446655440000",
    "at 1700000000, or 1700000000123, or 1700000000123456",
    "2024-11-03T10:15:30.123456Z and 20241103T101530",
    "12:34:56 and 10:15:30:22",
    "3.14159265358979323846264338327950288",
    "0.4111111111111111",
    "invoice 2024-000123-45",
    "SKU 123-45-67890, part 000-12-3456, model 987-65-4321",
    "ratio 16:9, verse 3:16, port ::1 and 127.0.0.1 and 0.0.0.0",
    "population 8 336 817; 1 000 000 000 rows; 100 200 300",
    "latitude 48.858370, longitude 2.294481",
    "GB82 is a road, AB12 3CD a postcode, DE89370400440532013001 is no account",
    "C++::std::vector<int>::iterator, a::b::c, Foo::bar",
    "user@localhost and @handle and a @ b and x@y",
    "price $1,234,567.89 or 1.234.567,89 EUR",
    "0123456789012 and 9999999999",
    "RFC 2822, section 3.4.1; page 1024-2048",
    "account 12345678A, lot 20240115B",
    "https://example.com:8080/a@b and http://example.com/?q=1:2@3",
    "sk-learn, task-force, sk-short and risk-adjusted-returns-of-the-portfolio",
    "row 4111111111111112 and 5555 5555 5555 5555",
    "The meeting is on 12 March 2024, not 03/12/2024.",
    "matrix [1, 22, 333, 4444, 55555, 666666, 7777777]",
    "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",
    "epoch 1609459200 seq 00123456789",
]


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_what_only_looks_like_it_raises_no_alarm(text: str) -> None:
    assert found(text) == []


def test_random_numbers_are_no_cards_accounts_or_ids_but_for_those_whose_checksum_holds() -> None:
    checked = frozenset(TYPES) - {"PHONE", "EMAIL", "PERSON", "ADDRESS"}
    detector = Detector(checked)
    numbers = [str(10**15 + 7919 * n) for n in range(2000)] + [str(10**9 + 104729 * n) for n in range(2000)]
    assert [found(f"id {number}", detector) for number in numbers if found(f"id {number}", detector)] == []


def test_names_and_addresses_are_looked_for_only_when_asked() -> None:
    text = "Dear Mrs. Slepička, ship it to 742 Evergreen Terrace, Springfield. Regards, Jennifer Jones"
    assert found(text) == []
    assert found(text, ALL) == [
        ("PERSON", "Slepička"),
        ("ADDRESS", "742 Evergreen Terrace, Springfield"),
        ("PERSON", "Jennifer Jones"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm Quarto Angelo, hi", ("PERSON", "Quarto Angelo")),
        ("then Okonedo told me so", ("PERSON", "Okonedo")),
        ("met Alvir D. Pusaver there", ("PERSON", "Alvir D. Pusaver")),
        ("everyone calls me Vesla", ("PERSON", "Vesla")),
        ("Passauer Strasse 33", ("ADDRESS", "Passauer Strasse 33")),
        ("Piroska u. 97.", ("ADDRESS", "Piroska u. 97.")),
        ("USS Mahler\nFPO AA 70489", ("ADDRESS", "USS Mahler\nFPO AA 70489")),
        ("in Suite 638 upstairs", ("ADDRESS", "Suite 638")),
        ("it is located at 5638 Aasa 43", ("ADDRESS", "5638 Aasa 43")),
    ],
)
def test_names_and_addresses_by_what_stands_around_them(text: str, expected: tuple[str, str]) -> None:
    assert found(text, ALL) == [expected]


@pytest.mark.parametrize(
    "text", ["the Seller says no", "See Appendix B. Results", "Suite and Gate", "our Team replied", "Vitamin C. Zinc"]
)
def test_what_only_looks_like_a_name_or_an_address_is_none(text: str) -> None:
    assert found(text, ALL) == []


def test_overlaps_become_one_that_covers_both_under_the_surer_type() -> None:
    first = Finding(type="PHONE", start=0, end=10, score=0.5)
    second = Finding(type="CARD", start=4, end=20, score=1.0)
    assert merged([second, first]) == [Finding(type="CARD", start=0, end=20, score=1.0)]


@pytest.mark.parametrize(
    "unit",
    [
        "a@",
        "1 ",
        "a.",
        ":1",
        "1.",
        "0 1-",
        "Aa ",
        "eyJ",
        "eyJ-",
        "rue A",
        "A",
        "1 A-",
        "1 A St, ",
        "né ",
        "tel ",
        "://a:",
        "(1",
        "-----BEGIN ",
    ],
)
def test_the_time_grows_no_faster_than_the_text(unit: str) -> None:
    """Texts made to be slow: ten times the length may take thirty times as long, not a hundred."""
    small_s = least_cpu_s(lambda: ALL.scan(unit * 800), 0.0, n_tries=3)
    enough_s = 30 * small_s + 0.05
    assert least_cpu_s(lambda: ALL.scan(unit * 8000), enough_s) <= enough_s


def test_a_time_limit_ends_the_scan() -> None:
    with pytest.raises(TimeoutError):
        DETECTOR.scan("any text", time.perf_counter() - 1)


@given(st.text())
def test_findings_lie_inside_any_text_in_order_and_apart(text: str) -> None:
    at = 0
    for finding in ALL.scan(text):
        assert at <= finding.start < finding.end <= len(text)
        at = finding.end
