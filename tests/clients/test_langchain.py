"""LangChain's chat models of both families against the gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from clients.conftest import Serve
from clients.replies import BUSY, answer
from tools.gateway import gateway
from tools.served_home import INSTRUCTIONS, Learnt

FAMILIES = ["openai", "anthropic"]


class Colour(BaseModel):
    """The colour of a thing."""

    colour: str


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sun in {city}"


def model(family: str, port: int, **fields: Any) -> Any:
    url = f"http://127.0.0.1:{port}"
    if family == "openai":
        return ChatOpenAI(base_url=url + "/v1", api_key="none", model="auto", max_retries=0, timeout=120, **fields)
    return ChatAnthropic(base_url=url, api_key="none", model="auto", max_retries=0, timeout=120, max_tokens=99)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("behind", FAMILIES)
def test_answers_streams_and_tools(home: Path, family: str, behind: str) -> None:
    with gateway(home, answer, large={"family": behind, "max_tokens": 99}) as place:
        chat = model(family, place.port)
        whole = chat.invoke("hi")
        assert (whole.text, whole.usage_metadata["output_tokens"]) == ("hello", 3)
        assert "".join(chunk.text for chunk in chat.stream("hi")) == "hello"

        async def awaited() -> tuple[str, str]:
            return (await chat.ainvoke("hi")).text, "".join([chunk.text async for chunk in chat.astream("hi")])

        assert asyncio.run(awaited()) == ("hello", "hello")
        with_tools = chat.bind_tools([weather])
        turns: list[Any] = [HumanMessage("weather?")]
        called = with_tools.invoke(turns)
        assert [(call["name"], call["args"]) for call in called.tool_calls] == [("weather", {"city": "Bern"})]
        chunks = list(with_tools.stream(turns))
        message = chunks[0]
        for chunk in chunks[1:]:
            message += chunk
        assert message.tool_calls[0]["args"] == {"city": "Bern"}
        turns += [called, ToolMessage("sun", tool_call_id=called.tool_calls[0]["id"])]
        assert with_tools.invoke(turns).text == "hello"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_models_error_is_the_clients_own_exception(home: Path, family: str) -> None:
    with gateway(home, answer) as place, pytest.raises(Exception, match="slow down") as caught:
        model(family, place.port).invoke(BUSY)
    assert type(caught.value).__name__ in {"RateLimitError", "OpenAIRateLimitError", "AnthropicRateLimitError"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_task_is_answered_locally(serve: Serve, family: str) -> None:
    with serve() as place:
        chat = model(family, place.port)
        turns = [("system", INSTRUCTIONS), ("human", "my car 1 is red")]
        assert chat.invoke(turns).text == "red"
        assert "".join(chunk.text for chunk in chat.stream(turns)) == "red"
        assert place.server.asked == []


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("behind", FAMILIES)
def test_structured_output_by_a_schema_and_by_a_tool(home: Path, family: str, behind: str) -> None:
    with gateway(home, answer, large={"family": behind, "max_tokens": 99}) as place:
        chat = model(family, place.port)
        fields: dict[str, Any] = {"strict": True} if family == "openai" else {}
        by_schema = chat.with_structured_output(Colour, method="json_schema", **fields)
        assert by_schema.invoke("car?") == Colour(colour="red")
        assert chat.with_structured_output(weather, method="function_calling").invoke("weather?") == {"city": "Bern"}


def test_the_responses_interface(home: Path) -> None:
    with gateway(home, answer) as place:
        responses = model("openai", place.port, use_responses_api=True)
        assert responses.invoke("hi").text == "hello"
        assert "".join(chunk.text for chunk in responses.stream("hi")) == "hello"


def test_embeddings_by_the_shared_encoder(serve: Serve, learnt: Learnt) -> None:
    with serve() as place:
        embeddings = OpenAIEmbeddings(
            base_url=f"http://127.0.0.1:{place.port}/v1",
            api_key="none",  # type: ignore[arg-type]
            model=Path(learnt.encoder).name,
            check_embedding_ctx_length=False,
        )
        one, two = embeddings.embed_documents(["my car is red", "my door is blue"])
        assert len(one) == len(two) == 32
        assert place.server.asked == []


def test_variables_lead_to_the_gateway(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with gateway(home, answer) as place:
        url = f"http://127.0.0.1:{place.port}"
        for name, value in (("OPENAI_BASE_URL", url + "/v1"), ("ANTHROPIC_BASE_URL", url)):
            monkeypatch.setenv(name, value)
            monkeypatch.setenv(name.replace("BASE_URL", "API_KEY"), "none")
        assert ChatOpenAI(model="auto").invoke("hi").text == "hello"
        assert ChatAnthropic(model="auto", max_tokens=9).invoke("hi").text == "hello"  # type: ignore[call-arg]
