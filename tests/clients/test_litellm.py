"""LiteLLM's client against the gateway, through either of its providers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import litellm
import pytest
from pydantic import BaseModel

from clients.conftest import Serve
from clients.replies import BUSY, answer
from tools.gateway import gateway
from tools.served_home import Learnt, messages

FUNCTION = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
PROVIDERS = ["openai", "anthropic"]


class Colour(BaseModel):
    """The colour of a thing."""

    colour: str


def fields(provider: str, port: int) -> dict[str, Any]:
    base = f"http://127.0.0.1:{port}" + ("/v1" if provider == "openai" else "")
    return {"model": f"{provider}/auto", "api_base": base, "api_key": "none", "num_retries": 0, "timeout": 5}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("behind", PROVIDERS)
def test_answers_streams_and_tools(home: Path, provider: str, behind: str) -> None:
    with gateway(home, answer, large={"family": behind, "max_tokens": 99}) as place:
        asked = {**fields(provider, place.port), "messages": [{"role": "user", "content": "hi"}], "max_tokens": 99}
        whole: Any = litellm.completion(**asked)
        assert (whole.choices[0].message.content, whole.usage.completion_tokens) == ("hello", 3)
        stream: Any = litellm.completion(**asked, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "hello"
        awaited: Any = asyncio.run(litellm.acompletion(**asked))
        assert awaited.choices[0].message.content == "hello"
        called: Any = litellm.completion(**asked, tools=[FUNCTION])
        assert called.choices[0].finish_reason == "tool_calls"
        assert json.loads(called.choices[0].message.tool_calls[0].function.arguments) == {"city": "Bern"}
        chunks = list(litellm.completion(**asked, tools=[FUNCTION], stream=True))
        built: Any = litellm.stream_chunk_builder(chunks)
        assert json.loads(built.choices[0].message.tool_calls[0].function.arguments) == {"city": "Bern"}


@pytest.mark.parametrize("behind", PROVIDERS)
def test_its_own_forms_of_the_vendors_interfaces_and_a_schema(home: Path, behind: str) -> None:
    with gateway(home, answer, large={"family": behind, "max_tokens": 99}) as place:
        turns = [{"role": "user", "content": "car?"}]
        sent: Any = litellm.anthropic.messages.acreate(**fields("anthropic", place.port), messages=turns, max_tokens=9)
        assert asyncio.run(sent)["content"][0]["text"] == "hello"
        found: Any = litellm.responses(**fields("openai", place.port), input="hi")
        assert found.output[0].content[0].text == "hello"
        shaped: Any = litellm.completion(**fields("openai", place.port), messages=turns, response_format=Colour)
        assert Colour.model_validate_json(shaped.choices[0].message.content) == Colour(colour="red")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_models_error_is_the_clients_own_exception(home: Path, provider: str) -> None:
    with gateway(home, answer) as place, pytest.raises(litellm.RateLimitError, match="slow down"):
        litellm.completion(**fields(provider, place.port), messages=[{"role": "user", "content": BUSY}])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_task_is_answered_locally_and_its_receipt_can_be_read(serve: Serve, provider: str) -> None:
    with serve() as place:
        asked = {**fields(provider, place.port), "messages": messages("my car 1 is red")}
        whole: Any = litellm.completion(**asked)
        assert whole.choices[0].message.content == "red"
        assert whole._hidden_params["additional_headers"]["llm_provider-x-pilotfish-reason"] == "certified"
        stream: Any = litellm.completion(**asked, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "red"
        assert place.server.asked == []


def test_embeddings_by_the_shared_encoder(serve: Serve, learnt: Learnt) -> None:
    with serve() as place:
        asked = {**fields("openai", place.port), "model": f"openai/{Path(learnt.encoder).name}"}
        found: Any = litellm.embedding(**asked, input=["one", "two"], encoding_format="float")
        assert [len(row["embedding"]) for row in found.data] == [32, 32]


def test_variables_lead_to_the_gateway(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with gateway(home, answer) as place:
        url = f"http://127.0.0.1:{place.port}"
        for name, value in (("OPENAI_BASE_URL", url + "/v1"), ("ANTHROPIC_BASE_URL", url)):
            monkeypatch.setenv(name, value)
            monkeypatch.setenv(name.replace("BASE_URL", "API_KEY"), "none")
        for provider in PROVIDERS:
            found: Any = litellm.completion(model=f"{provider}/auto", messages=[{"role": "user", "content": "hi"}])
            assert found.choices[0].message.content == "hello"
