"""Schemathesis against our own OpenAPI document: whatever it sends, the reply is one that the document states.

The document names only the fields that are read; here the other fields of the vendors' interfaces are added with any
value, so that what reads and translates them is tried too. A valid request may be refused (400): no document can say
which values have words in the other family.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies
from schemathesis.checks import CheckContext, load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

from pilotfish.config.settings import ModelSettings
from pilotfish.core.ids import sha256
from pilotfish.gateway import asgi, openapi
from pilotfish.gateway.app import Gateway
from pilotfish.models.wire.chat import Chat
from pilotfish.store.build import open_keys
from tools.gateway import gateway
from tools.keyed import make_key

FIELDS = (
    "prompt",
    "input",
    "instructions",
    "system",
    "tools",
    "tool_choice",
    "functions",
    "response_format",
    "text",
    "stop",
    "stop_sequences",
    "n",
    "logprobs",
    "top_logprobs",
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "stream_options",
    "thinking",
    "reasoning",
    "previous_response_id",
    "store",
    "include",
    "metadata",
    "user",
    "dimensions",
    "encoding_format",
    "modalities",
    "audio",
    "suffix",
    "echo",
    "best_of",
)
SETTINGS: dict[str, dict[str, Any]] = {
    "openai": {},
    "anthropic": {"large": {"family": "anthropic", "max_tokens": 50}},
    "no-responses": {"large": {"responses": False}},
    "private": {"privacy": {"mode": "local"}},
    "several": {"models": {"small": ModelSettings(url="http://127.0.0.1:9/v1")}},
}
KEYS: dict[str, dict[str, Any]] = {
    "keyed": {},
    "held-to-little": {"tokens_per_day": 3000, "requests_per_minute": 50, "models": ("auto", "big")},
    "masking": {"privacy": "mask"},
}
ADMIN = "pf-admin-of-the-fuzzed-gateway"
load_all_checks()


@pytest.fixture(scope="module", params=[*SETTINGS, *KEYS])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    home, name = tmp_path_factory.mktemp("fuzzed"), request.param
    key = make_key(home, **KEYS[name]) if name in KEYS else ""
    with gateway(home, **SETTINGS.get(name, {}), keep_text=False) as opened:
        yield Fuzzed(opened.port, {"authorization": f"Bearer {key}"} if key else {})


class Fuzzed(NamedTuple):
    """A gateway, and what is sent to it with every request."""

    port: int
    headers: dict[str, str]


def document(place: Fuzzed) -> dict[str, Any]:
    asked = urllib.request.Request(f"http://127.0.0.1:{place.port}/openapi.json", headers=place.headers)
    with urllib.request.urlopen(asked, timeout=120) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


def with_fields(found: dict[str, Any]) -> dict[str, Any]:
    for path in found["paths"].values():
        if "post" in path:
            schema = path["post"]["requestBody"]["content"]["application/json"]["schema"]
            schema["properties"] = {**{name: {} for name in FIELDS}, **schema["properties"]}
    return found


def is_stated(_context: CheckContext, response: Any, case: Any) -> None:
    """Our own statuses are listed one by one; `default` is for a model's errors, and this model makes none."""
    stated = case.operation.definition.raw["responses"]
    assert str(response.status_code) in stated, response.status_code
    assert response.status_code != 500


@pytest.mark.parametrize("operation", ["reads", "writes"])
def test_every_reply_is_one_that_the_document_states(place: Fuzzed, operation: str) -> None:
    for api in operations(place, operation):
        fuzz_both(api, place)


def operations(place: Fuzzed, which: str) -> Iterator[Any]:
    schema = schemathesis.openapi.from_dict(with_fields(document(place)))
    for found in schema.get_all_operations():
        api = found.ok()
        if (api.method.upper() == "GET") == (which == "reads"):
            yield api


def fuzz_both(api: Any, place: Fuzzed) -> None:
    fuzz(api.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE), place)
    if api.method.upper() == "POST":
        fuzz(api.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE), place)


def fuzz(cases: Any, place: Fuzzed) -> None:
    @hypothesis.settings(
        max_examples=40, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(case=cases)
    def send(case: Any) -> None:
        case.call_and_validate(
            base_url=f"http://127.0.0.1:{place.port}",
            headers=place.headers,
            timeout=10,
            additional_checks=[is_stated],
            excluded_checks=[checks.positive_data_acceptance, checks.negative_data_rejection],
        )

    send()


def crash(patch: pytest.MonkeyPatch) -> None:
    decode = Chat.decode_request

    def breaking(self: Chat, body: bytes, headers: Any = ()) -> Any:
        if isinstance(json.loads(body).get("temperature"), str | list):
            raise ZeroDivisionError
        return decode(self, body, headers)

    patch.setattr(Chat, "decode_request", breaking)


def leave_out_a_status(patch: pytest.MonkeyPatch) -> None:
    found = json.loads(openapi.document())
    del found["paths"]["/v1/chat/completions"]["post"]["responses"]["400"]
    patch.setattr(openapi, "document", lambda: json.dumps(found).encode())


def answer_another_shape(patch: pytest.MonkeyPatch) -> None:
    async def live(self: Gateway, headers: Any, receive: Any, send: Any) -> None:
        await asgi.respond(send, 200, [asgi.JSON], b'["ok"]')

    patch.setattr(Gateway, "_tell_health", live)


@pytest.mark.parametrize(
    ("fault", "path"),
    [
        (crash, "/v1/chat/completions"),
        (leave_out_a_status, "/v1/chat/completions"),
        (answer_another_shape, "/health/live"),
    ],
)
def test_a_fault_that_was_put_there_is_found(
    home: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[pytest.MonkeyPatch], None], path: str
) -> None:
    fault(monkeypatch)
    with gateway(home, keep_text=False) as opened:
        place = Fuzzed(opened.port, {})
        which = "writes" if path.startswith("/v1") else "reads"
        api = next(api for api in operations(place, which) if api.path == path)
        with pytest.raises((FailureGroup, ExceptionGroup, AssertionError)):
            fuzz_both(api, place)


def test_no_other_key_opens_anything(home: Path) -> None:
    keys = [make_key(home, "ci"), make_key(home, "old", expires_s=1.0)]
    with closing(open_keys(home)) as registry:
        registry.set_admin(sha256(ADMIN.encode()))
    near = [keys[0][:-1], keys[0] + " x", keys[0].upper(), keys[1], ADMIN[:-1], "pf-", "Basic x", "Bearer"]
    sent = strategies.sampled_from(near) | strategies.text(strategies.characters(min_codepoint=32, max_codepoint=126))
    with gateway(home, keep_text=False) as opened:

        @hypothesis.settings(max_examples=25, deadline=None, database=None)
        @hypothesis.given(data=strategies.data())
        def send(data: Any, api: Any) -> None:
            header = data.draw(strategies.sampled_from(["authorization", "x-api-key", "api-key"]))
            case = data.draw(api.as_strategy())
            value = data.draw(sent).strip()
            reply = case.call(base_url=f"http://127.0.0.1:{opened.port}", headers={header: value}, timeout=10)
            assert reply.status_code == 401

        for which in ("reads", "writes"):
            for api in operations(Fuzzed(opened.port, {"x-api-key": ADMIN}), which):
                if not api.path.startswith("/health"):
                    send(api=api)
        assert opened.server.asked == []
