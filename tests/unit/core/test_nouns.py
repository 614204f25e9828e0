"""The nouns: messages, ids, certificates, receipts, errors."""

from __future__ import annotations

import inspect
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.core import errors
from pilotfish.core.certificate import Certificate, Claim, FirstTier, Refusal
from pilotfish.core.ids import fingerprint, request_id
from pilotfish.core.messages import ChatRequest, Message, Price, Usage
from pilotfish.core.receipt import REASONS, Reason
from tools.certificates import certificate as certificate_by_hand


def certificate(**changes: object) -> Certificate:
    values = {
        "task_id": "t",
        "task_name": "triage",
        "claim": Claim(max_risk=0.02),
        "bound": 0.0199,
        "min_certainty": 0.9,
        "min_scope": 0.2,
        "coverage": 0.8,
        "n": 1000,
        "n_served": 800,
        "errors": 8.0,
        "attempt": 1,
        "delta_spent": 0.03,
        "schedule": "basel",
        "start_certainty": 0.95,
        "procedure": "exact",
        "split_rule": "later rows",
        "scorer": "equality",
        "data_sha256": "d",
        "artefact_sha256": "a",
        "created_at": "2026-11-22T00:00:00+00:00",
    }
    return Certificate(**{**values, **changes})  # type: ignore[arg-type]


def test_a_certificate_survives_json_and_its_id_covers_its_content() -> None:
    one = certificate()
    assert Certificate.from_json(one.to_json()) == one
    assert Certificate.from_json(one.to_json()).id == one.id
    assert certificate(errors=9.0).id != one.id


def test_a_refusal_survives_json() -> None:
    refusal = Refusal(
        task_id="t", task_name="triage", claim=Claim(max_risk=0.01), short_of="examples", message="m", examples_short=9
    )
    assert Refusal.from_json(refusal.to_json()) == refusal


def test_request_ids_sort_by_time_and_do_not_repeat() -> None:
    first = request_id()
    time.sleep(0.002)
    second = request_id()
    assert first < second
    assert len({request_id() for _ in range(2000)}) == 2000
    assert all(len(name) == 24 and name.startswith("pf-") for name in (first, second))


@given(st.lists(st.text()), st.lists(st.text()))
def test_fingerprints_of_different_parts_differ(a: list[str], b: list[str]) -> None:
    assert (fingerprint(*a) == fingerprint(*b)) == (a == b)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        ([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}], None),
        ([], None),
        (None, None),
        (7, None),
    ],
)
def test_the_text_of_a_message(content: object, text: str | None) -> None:
    assert Message(role="user", content=content).text == text


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, ""),
        ({"n": 1, "logprobs": False, "stop": [], "modalities": ["text"]}, ""),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"stop": "\n"}, "stop"),
        ({"audio": {"voice": "x"}}, "audio"),
    ],
)
def test_options_that_only_the_reference_can_honour(options: dict[str, object], name: str) -> None:
    request = ChatRequest(messages=[Message(role="user", content="x")], **options)  # type: ignore[arg-type]
    assert request.unsupported_option == name


def test_cached_tokens_have_their_own_price() -> None:
    usage = Usage(prompt=1_000_000, completion=500_000, cached=400_000)
    assert Price(input_usd_per_mtok=2.0, output_usd_per_mtok=8.0).cost_usd(usage) == pytest.approx(6.0)
    cheaper = Price(input_usd_per_mtok=2.0, output_usd_per_mtok=8.0, cached_usd_per_mtok=0.5)
    assert cheaper.cost_usd(usage) == pytest.approx(0.6 * 2.0 + 0.4 * 0.5 + 4.0)


def test_every_reason_is_explained() -> None:
    assert set(REASONS) == set(Reason.__args__)  # type: ignore[attr-defined]


def test_every_error_has_a_code_of_its_own_and_stands_in_the_tree() -> None:
    classes = [item for _, item in inspect.getmembers(errors, inspect.isclass) if item.__module__ == errors.__name__]
    codes = [item.code for item in classes]
    assert len(set(codes)) == len(codes)
    drawn = errors.__doc__ or ""
    assert all(item.__name__ in drawn for item in classes)


def test_a_certificate_of_a_single_tier_keeps_the_id_it_had_before_there_were_two():
    assert certificate_by_hand().id == "865f804504fa0ad0"
    assert "first" not in certificate_by_hand().to_json()


def test_a_certificate_of_two_tiers_is_read_back():
    first = FirstTier(min_certainty=0.9, min_scope=0.8, n_served=10, errors=1.0, max_share=0.5)
    made = certificate_by_hand(first=first)
    assert Certificate.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert made.id != certificate_by_hand().id
