"""Schemathesis against our own OpenAPI document: whatever it sends, the reply is one that the document states.

The document names only the fields that are read; here the other fields of the vendors' interfaces are added with any
value, so that what reads and translates them is tried too. A valid request may be refused (400): no document can say
which values have words in the other family.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import CheckContext, load_all_checks
from schemathesis.specs.openapi import checks

from pilotfish.config.settings import ModelSettings
from tools.gateway import gateway

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
load_all_checks()


@pytest.fixture(scope="module", params=SETTINGS)
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with gateway(tmp_path_factory.mktemp("fuzzed"), **SETTINGS[request.param], keep_text=False) as place:
        yield place.port


def document(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=5) as reply:
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
def test_every_reply_is_one_that_the_document_states(port: int, operation: str) -> None:
    schema = schemathesis.openapi.from_dict(with_fields(document(port)))
    for found in schema.get_all_operations():
        api = found.ok()
        if (api.method.upper() == "GET") != (operation == "reads"):
            continue
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            if mode.is_negative and operation == "reads":
                continue
            fuzz(api.as_strategy(generation_mode=mode), port)


def fuzz(cases: Any, port: int) -> None:
    @hypothesis.settings(
        max_examples=40, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(case=cases)
    def send(case: Any) -> None:
        case.call_and_validate(
            base_url=f"http://127.0.0.1:{port}",
            timeout=10,
            additional_checks=[is_stated],
            excluded_checks=[checks.positive_data_acceptance, checks.negative_data_rejection],
        )

    send()
