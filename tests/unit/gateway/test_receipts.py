from __future__ import annotations

from pilotfish.core.receipt import Receipt
from pilotfish.gateway import receipts


def test_every_part_has_its_header() -> None:
    receipt = Receipt(
        request_id="pf-1",
        model="big",
        reason="certified",
        task_id="t1",
        task_name="intents",
        certificate_id="c1",
        privacy="masked; types=EMAIL",
    )
    assert receipts.headers(receipt) == [
        (b"x-pilotfish-request-id", b"pf-1"),
        (b"x-pilotfish-model", b"big"),
        (b"x-pilotfish-reason", b"certified"),
        (b"x-pilotfish-task", b"intents"),
        (b"x-pilotfish-certificate", b"c1"),
        (b"x-pilotfish-privacy", b"masked; types=EMAIL"),
    ]


def test_where_nobody_answered_no_model_is_named() -> None:
    names = [name for name, _ in receipts.headers(Receipt(request_id="pf-1", model="", reason="private"))]
    assert names == [b"x-pilotfish-request-id", b"x-pilotfish-reason"]


def test_a_task_without_a_name_is_told_by_its_id_and_no_task_not_at_all() -> None:
    named = Receipt(request_id="pf-1", model="big", reason="observing", task_id="t1")
    assert (b"x-pilotfish-task", b"t1") in receipts.headers(named)
    without = Receipt(request_id="pf-1", model="big", reason="no-task")
    assert len(receipts.headers(without)) == 3


def test_names_cannot_write_headers() -> None:
    receipt = Receipt(request_id="pf-1", model="a\r\nx-evil: 1 \u00fc", reason="other-model")
    assert (b"x-pilotfish-model", b"a??x-evil: 1 ?") in receipts.headers(receipt)
