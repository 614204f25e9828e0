"""Spans as a real collector receives them: the receipt in the words of the conventions, and no text."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import pytest

from pilotfish.config import load
from pilotfish.config.settings import EndpointSettings
from pilotfish.core.errors import ConfigError, MissingExtraError
from pilotfish.gateway import spans
from tools.collector import collector, values
from tools.gateway import body, gateway, post
from tools.served_home import Learnt, adopt, messages
from tools.upstream import Reply, upstream

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
SECRET_TEXT = "the-quick-brown-fox"
PRICES = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are sent after 20 ms."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")


def test_a_request_is_a_span_below_the_clients(home: Path) -> None:
    with collector() as found, gateway(home, telemetry={"otlp_url": found.url}, large=PRICES) as place:
        status, headers, _ = post(place.port, body(SECRET_TEXT), traceparent=TRACEPARENT)
        assert status == 200
        span = found.wait_for(1)[0]
        said = values(span.attributes)
        assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("chat auto", TRACE, PARENT)
        assert (said["gen_ai.operation.name"], said["gen_ai.provider.name"]) == ("chat", "openai")
        assert (said["gen_ai.request.model"], said["gen_ai.response.model"]) == ("auto", "big")
        row = place.rows(1)[0]
        tokens = (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"])
        assert tokens == (row.prompt_tokens, row.completion_tokens)
        assert said["pilotfish.cost_usd"] == pytest.approx(row.cost_usd)
        assert said["pilotfish.request_id"] == headers["x-pilotfish-request-id"]
        assert (said["pilotfish.reason"], said["pilotfish.tries"]) == ("observing", 1)
        assert said["http.response.status_code"] == 200
        assert "error.type" not in said
        lasted_s = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
        assert lasted_s == pytest.approx(row.latency_s, abs=0.001)
    assert found.paths[0] == "/v1/traces"
    assert found.resources[0]["service.name"] == "pilotfish"
    assert SECRET_TEXT.encode() not in b"".join(found.raw)
    assert b"client-key" not in b"".join(found.raw)


def test_errors_have_a_type_and_streams_a_first_byte(home: Path) -> None:
    replies = [Reply(status=400, body=SECRET_TEXT.encode()), Reply(pace_s=0.02)]
    with collector() as found, gateway(home, replies, telemetry={"otlp_url": found.url}) as place:
        assert post(place.port, body())[0] == 400
        assert post(place.port, body(stream=True))[0] == 200
        failed, streamed = (values(span.attributes) for span in found.wait_for(2))
        assert (failed["error.type"], failed["http.response.status_code"]) == ("model_status", 400)
        assert found.spans[0].status.code == 2
        assert streamed["pilotfish.stream"] is True
        span = found.spans[1]
        assert 0 < streamed["pilotfish.first_byte_s"] < (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
    assert SECRET_TEXT.encode() not in b"".join(found.raw)


def test_a_local_answer_names_its_task_and_certificate(served_home: Path, learnt: Learnt) -> None:
    certificate = adopt(learnt, served_home)
    serve = partial(gateway, served_home, learning={"encoder": learnt.encoder}, quality={"max_risk": 0.05})
    with collector() as found, serve(telemetry={"otlp_url": found.url}) as place:
        assert place.client.chat.completions.create(model="big", messages=messages("my car is red"))  # type: ignore[arg-type]
        said = values(found.wait_for(1)[0].attributes)
        assert (said["gen_ai.provider.name"], said["gen_ai.response.model"]) == ("pilotfish", "pilotfish/colours")
        assert (said["pilotfish.task"], said["pilotfish.certificate"]) == ("colours", certificate.id)
        assert (said["pilotfish.reason"], said["gen_ai.usage.input_tokens"]) == ("certified", 0)


def test_what_must_stay_here_does_not_tell_its_model_name(home: Path) -> None:
    data = body("mail me at ann@example.org", model="ann@example.org")
    with (
        collector() as found,
        gateway(home, telemetry={"otlp_url": found.url}, privacy={"mode": "local"}) as place,
    ):
        assert post(place.port, data)[0] == 451
        said = values(found.wait_for(1)[0].attributes)
        assert (said["pilotfish.reason"], said["error.type"]) == ("private", "privacy_local_only")
        assert "gen_ai.request.model" not in said
    assert b"ann@example.org" not in b"".join(found.raw)


@pytest.mark.parametrize("key", ["", "our-key"])
def test_the_clients_trace_goes_on_to_the_model(home: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OUR_KEY", key)
    with gateway(home, large={"key_env": "OUR_KEY"}) as place:
        sent = {"traceparent": TRACEPARENT, "tracestate": "a=b", "authorization": "Bearer client-key"}
        assert post(place.port, body(), **sent)[0] == 200
        got = place.server.asked[0].headers
        assert (got["traceparent"], got["tracestate"]) == (TRACEPARENT, "a=b")
        assert got["authorization"] == f"Bearer {key or 'client-key'}"


def test_a_collector_that_is_away_delays_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "SEND_TIMEOUT_S", 0.3)
    with gateway(home, telemetry={"otlp_url": "http://127.0.0.1:9"}) as place:
        started = time.monotonic()
        assert post(place.port, body())[0] == 200
        assert time.monotonic() - started < 1


def test_the_clients_trace_goes_to_another_host_and_another_family(home: Path) -> None:
    with upstream([Reply()]) as other:
        large = {"url": "http://127.0.0.1:9/v1", "endpoints": (EndpointSettings(url=other.url),), "family": "anthropic"}
        with gateway(home, large={**large, "max_tokens": 10}) as place:
            assert post(place.port, body(), traceparent=TRACEPARENT, authorization="Bearer client-key")[0] == 200
            row = place.rows(1)[0]
            assert (row.server, row.tries) == (other.url.split("/")[2], 2)
        [asked] = other.asked
        assert asked.headers["traceparent"] == TRACEPARENT
        assert "client-key" not in str(asked.headers)


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(MissingExtraError, match=r"pilotfish\[otel\]"):
        spans.open_spans("http://127.0.0.1:9")


@pytest.mark.parametrize("url", ["collector:4318", "http://user:password@collector:4318"])
def test_an_address_that_cannot_be_used_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match="otlp_url"):
        load.load(environment={"PILOTFISH_TELEMETRY_OTLP_URL": url})
