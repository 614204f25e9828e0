"""/metrics as Prometheus's own parser reads it, and readiness."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pilotfish.gateway.metrics import FAMILIES
from tools.gateway import Place, body, gateway, post
from tools.keyed import PRICES, ask, make_key
from tools.served_home import Learnt, adopt, messages, sentences
from tools.upstream import Reply

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(place: Place, key: str = "") -> Samples:
    """Every sample by name and labels, read by the parser of Prometheus's own client."""
    got = ask(place.port, key, path="/metrics")
    assert (got.status, got.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = list(text_string_to_metric_families(got.data.decode()))
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            at = (sample.name, frozenset(sample.labels.items()))
            assert at not in found, f"{at} twice"
            found[at] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples that carry these labels."""
    wanted = set(labels.items())
    return sum(it for (found, its), it in samples.items() if found == name and wanted <= its)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_requests_tokens_and_costs_are_counted(home: Path) -> None:
    with gateway(home, large=PRICES) as place:
        for stream in (False, True):
            assert (
                post(place.port, body(stream=stream, stream_options={"include_usage": True} if stream else None))[0]
                == 200
            )
        assert post(place.port, b"{")[0] == 400
        assert ask(place.port, path="/nothing").status == 404
        rows = place.rows(2)
        seen = scrape(place)
        kind = {"reason": "observing", "mode": "observe", "status": "2xx", "format": "chat/completions"}
        assert value(seen, "pilotfish_requests_total", **kind) == 2
        assert value(seen, "pilotfish_errors_total", code="invalid_request") == 1
        assert value(seen, "pilotfish_errors_total", code="not_found") == 1
        known = [row for row in rows if row.prompt_tokens is not None]
        for token, n in (
            ("prompt", sum(row.prompt_tokens or 0 for row in known)),
            ("completion", sum(row.completion_tokens or 0 for row in known)),
        ):
            assert value(seen, "pilotfish_tokens_total", model="big", kind=token) == n > 0
        cost = sum(row.cost_usd or 0 for row in rows)
        assert value(seen, "pilotfish_cost_usd_total", model="big") == pytest.approx(cost)
        assert value(seen, "pilotfish_unknown_total", model="big", what="tokens") == len(rows) - len(known)
        assert value(seen, "pilotfish_request_seconds_count", answered="remote") == 2
        assert value(seen, "pilotfish_first_byte_seconds_count") == 1
        assert value(seen, "pilotfish_request_seconds_sum") == pytest.approx(sum(row.latency_s for row in rows))
        assert value(seen, "pilotfish_request_seconds_bucket", le="+Inf", answered="remote") == 2
        assert value(seen, "pilotfish_build_info") == 1
        assert value(seen, "pilotfish_process_resident_bytes") > 1e6


def test_a_cost_that_is_not_known_is_no_cost_of_nothing(home: Path) -> None:
    with gateway(home) as place:
        assert post(place.port, body())[0] == 200
        place.rows(1)
        seen = scrape(place)
        assert value(seen, "pilotfish_cost_usd_total", model="big") == 0
        assert value(seen, "pilotfish_unknown_total", model="big", what="cost") == 1


def test_no_text_of_a_client_becomes_a_label(home: Path) -> None:
    with gateway(home) as place:
        for n in range(20):
            assert post(place.port, body(f"text {n}", model=f"evil-{n}"))[0] == 200
        place.rows(20)
        assert b"evil" not in ask(place.port, path="/metrics").data
        assert value(scrape(place), "pilotfish_unknown_total", model="other", what="cost") == 20


def test_local_answers_audits_and_a_withdrawal_are_seen(served_home: Path, learnt: Learnt) -> None:
    adopt(learnt, served_home)
    serve = partial(gateway, served_home, learning={"encoder": learnt.encoder, "check_every_s": 0.05})
    with serve(lambda _: Reply(text="nothing"), quality={"max_risk": 0.05, "audit_rate": 1.0}) as place:
        for text, _ in sentences(40, seed=1):
            place.client.chat.completions.create(model="auto", messages=messages(text))  # type: ignore[arg-type]
            if value(scrape(place), "pilotfish_withdrawals_total", task="colours"):
                break
        until(lambda: value(scrape(place), "pilotfish_withdrawals_total", task="colours") == 1)
        until(lambda: value(scrape(place), "pilotfish_audits_pending") == 0)
        seen = scrape(place)
        n_local = value(
            seen, "pilotfish_requests_total", reason="certified", task="colours", mode="serve", status="2xx"
        )
        assert n_local > 0
        assert value(seen, "pilotfish_audits_total", task="colours", outcome="differed") == n_local
        assert value(seen, "pilotfish_audits_total", task="colours", outcome="made") == n_local
        assert value(seen, "pilotfish_local_decision_seconds_count") == n_local
        assert value(seen, "pilotfish_tasks", mode="observe") == 1
        tiers = {dict(labels)["tier"] for name, labels in seen if name == "pilotfish_requests_total"}
        assert tiers & {"1", "2"}


def test_breakers_are_told_by_number_and_make_the_gateway_not_ready(home: Path) -> None:
    with gateway(home, [Reply(status=500)], large={"retry_wait_s": 0.0}) as place:
        for _ in range(5):
            assert post(place.port, body())[0] == 500
        seen = scrape(place)
        assert value(seen, "pilotfish_server_open", model="big", server="0") == 1
        assert value(seen, "pilotfish_errors_total", code="model_status") == 5
        assert b"127.0.0.1" not in ask(place.port, path="/metrics").data
        got = ask(place.port, path="/health/ready")
        assert got.status == 503
        assert b'"large model"' in got.data
        assert b"127.0.0.1" not in got.data
        assert ask(place.port, path="/health/live").status == 200


def test_a_log_that_cannot_be_written_is_not_ready_until_it_can(home: Path) -> None:
    with gateway(home) as place:
        spool = next((home / "spool").glob("*.jsonl"))
        fd = next(int(link.name) for link in Path("/proc/self/fd").iterdir() if _leads_to(link, spool))
        kept = os.dup(fd)
        full = os.open("/dev/full", os.O_WRONLY)
        try:
            os.dup2(full, fd)
            assert post(place.port, body())[0] == 200
            until(lambda: ask(place.port, path="/health/ready").status == 503)
            assert b'"log"' in ask(place.port, path="/health/ready").data
            assert value(scrape(place), "pilotfish_log_gaps_total") >= 1
        finally:
            os.dup2(kept, fd)
            os.close(kept)
            os.close(full)
        assert ask(place.port, path="/health/ready").status == 200


def _leads_to(link: Path, goal: Path) -> bool:
    try:
        return link.readlink() == goal
    except OSError:
        return False


def test_with_an_admin_key_only_it_may_look(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = "a" * 30
    monkeypatch.setenv("PILOTFISH_ADMIN_KEY", admin)
    key = make_key(home, requests_per_minute=1)
    with gateway(home) as place:
        assert [ask(place.port, key).status for _ in range(2)] == [200, 429]
        assert ask(place.port, "wrong").status == 401
        assert [ask(place.port, used, path="/metrics").status for used in ("", key)] == [401, 401]
        assert ask(place.port, path="/health/ready").status == 200
        seen = scrape(place, admin)
        assert value(seen, "pilotfish_errors_total", code="limit_reached") == 1
        assert value(seen, "pilotfish_errors_total", code="invalid_api_key") == 3
        assert key.encode() not in ask(place.port, admin, path="/metrics").data


def test_privacy_outcomes_are_counted(home: Path) -> None:
    with gateway(home, privacy={"mode": "mask"}) as place:
        assert post(place.port, body("write to ann@example.org"))[0] == 200
        image = {"type": "image_url", "image_url": {"url": "https://x.example/y.png"}}
        assert post(place.port, body(messages=[{"role": "user", "content": [image]}]))[0] == 451
        place.rows(1)
        seen = scrape(place)
        assert value(seen, "pilotfish_privacy_total", outcome="masked") == 1
        assert value(seen, "pilotfish_privacy_total", outcome="refused") == 1


def test_every_family_is_told_or_has_nothing_to_tell(home: Path) -> None:
    with gateway(home) as place:
        assert post(place.port, body())[0] == 200
        place.rows(1)
        told = {
            line.split()[2] for line in ask(place.port, path="/metrics").data.decode().splitlines() if "# TYPE" in line
        }
        of_tasks = {name for name, (_, labels, _) in FAMILIES.items() if "task" in labels.split(", ")}
        unset = {"pilotfish_errors_total", "pilotfish_routed_budget_usd"}
        assert set(FAMILIES) - told == of_tasks - {"pilotfish_requests_total"} | unset
