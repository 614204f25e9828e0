from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from pilotfish.config.settings import LargeSettings
from pilotfish.core.errors import ConfigError, ModelError, ModelFormatError, ModelStatusError
from pilotfish.core.messages import ChatRequest, Message, Usage
from pilotfish.models import build
from pilotfish.models.http import HttpModel
from pilotfish.models.wire.chat import CHAT, DONE
from tools.upstream import Reply, Script, Upstream, upstream


def asking(
    script: Script, work: Callable[[HttpModel], Awaitable[object]], *, key: str = "", url_suffix: str = ""
) -> Upstream:
    """Runs `work` on a model in front of a server; the server, to see what it was asked."""

    async def run(url: str) -> None:
        model = HttpModel(url=url + url_suffix, name="big", key=key, timeout_s=20.0)
        try:
            await work(model)
        finally:
            await model.aclose()
            await asyncio.sleep(0.01)

    with upstream(script) as server:
        asyncio.run(run(server.url))
    return server


def request(**fields: object) -> ChatRequest:
    return ChatRequest(messages=[Message(role="user", content="hi")], **fields)  # type: ignore[arg-type]


def test_an_answer_with_everything_the_vendor_sent() -> None:
    async def work(model: HttpModel) -> None:
        answer = await model.answer(request())
        assert (answer.text, answer.usage) == ("hello", Usage(prompt=11, completion=3, cached=2))
        assert b'"vendor_field"' in answer.body
        assert ("x-ratelimit-remaining", "7") in answer.headers
        assert {"content-length", "date", "set-cookie"}.isdisjoint(name for name, _ in answer.headers)

    headers = (("X-RateLimit-Remaining", "7"), ("Set-Cookie", "a=b"), ("Date", "today"))
    server = asking([Reply(headers=headers)], work)
    assert server.asked[0].path == "/v1/chat/completions"
    assert server.asked[0].json["model"] == "big"


def test_a_raw_body_is_sent_as_it_came_where_it_names_a_model() -> None:
    raw = b'{"model": "other",  "messages":[], "vendor": 1.10}'
    server = asking([Reply()], lambda model: model.answer(CHAT.decode_request(raw)))
    assert server.asked[0].body == raw


def test_a_raw_body_without_a_model_gets_the_name() -> None:
    server = asking([Reply()], lambda model: model.answer(CHAT.decode_request(b'{"messages":[],"vendor":1.10}')))
    assert server.asked[0].body == b'{"messages":[],"vendor":1.10,"model":"big"}'


def test_the_own_key_replaces_what_the_client_sent() -> None:
    sent = CHAT.decode_request(b'{"messages":[]}', (("authorization", "Bearer client"), ("openai-project", "p")))
    assert asking([Reply()], lambda model: model.answer(sent), key="own").asked[0].headers["authorization"] == (
        "Bearer own"
    )
    passed = asking([Reply()], lambda model: model.answer(sent)).asked[0].headers
    assert (passed["authorization"], passed["openai-project"]) == ("Bearer client", "p")


def test_a_query_in_the_base_url_stays_at_the_end() -> None:
    server = asking([Reply()], lambda model: model.answer(request()), url_suffix="/deployments/x/?api-version=1")
    assert server.asked[0].path == "/v1/deployments/x/chat/completions?api-version=1"


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_status_keeps_body_and_retry_after(stream: bool) -> None:
    async def work(model: HttpModel) -> None:
        with pytest.raises(ModelStatusError) as caught:
            await first(model, stream=stream)
        assert (caught.value.status, caught.value.body) == (429, b'{"error":{"message":"slow down"}}')
        assert ("retry-after", "7") in caught.value.headers

    reply = Reply(status=429, body=b'{"error":{"message":"slow down"}}', headers=(("Retry-After", "7"),))
    assert len(asking([reply], work).asked) == 1


async def first(model: HttpModel, *, stream: bool) -> object:
    if not stream:
        return await model.answer(request())
    pieces = model.stream(request(stream=True))
    try:
        return await anext(pieces)
    finally:
        await pieces.aclose()


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"<html>"),
        Reply(body=b""),
        Reply(status=302, headers=(("Location", "http://example.com"),)),
        Reply(headers=(("Content-Encoding", "br"),)),
    ],
)
def test_what_cannot_be_used_is_a_format_error(reply: Reply) -> None:
    async def work(model: HttpModel) -> None:
        with pytest.raises(ModelFormatError):
            await model.answer(request())

    asking([reply], work)


def test_a_stream_is_relayed_byte_for_byte_as_it_comes() -> None:
    gate = threading.Event()

    async def work(model: HttpModel) -> None:
        data = b""
        async for piece in model.stream(request(stream=True)):
            gate.set()  # held back, nothing would come
            data += piece
        assert CHAT.decode_stream(data).text == "abcdefgh"
        assert data.endswith(DONE)

    asking([Reply(text="abcdefgh", gate=gate)], work)


def test_a_stream_that_is_none_is_a_format_error() -> None:
    async def work(model: HttpModel) -> None:
        with pytest.raises(ModelFormatError, match="text/html"):
            await first(model, stream=True)

    asking([Reply(body=b"<html>", content_type="text/html")], work)


def test_closing_a_stream_hangs_up_at_once() -> None:
    async def run(url: str) -> None:
        model = HttpModel(url=url, name="big")
        pieces = model.stream(request(stream=True))
        await anext(pieces)
        await pieces.aclose()
        await asyncio.sleep(0.01)

    with upstream([Reply(text="abc", hangs_after=2)]) as server:
        asyncio.run(run(server.url))
        server.wait_for_hang_up()


def test_many_at_once() -> None:
    async def work(model: HttpModel) -> None:
        answers = await asyncio.gather(*(model.answer(request(model=f"m{number}")) for number in range(50)))
        assert [answer.model for answer in answers] == [f"m{number}" for number in range(50)]

    asking([Reply(delay_s=0.01)], work)


@pytest.mark.parametrize("key", ["a\nb", "ключ"])
def test_a_key_no_header_can_carry_is_a_configuration_error(key: str) -> None:
    with pytest.raises(ConfigError, match="key") as caught:
        HttpModel(url="http://x/v1", name="big", key=key)
    assert key not in str(caught.value)


def test_the_reference_is_built_from_settings_with_the_key_of_the_environment() -> None:
    async def run(url: str) -> None:
        settings = LargeSettings(
            url=url, model="big", key_env="MY_KEY", input_usd_per_mtok=1.0, output_usd_per_mtok=2.0
        )
        model = build.large_model(settings, {"MY_KEY": " secret\n"})
        assert model.card.price == settings.price
        await model.answer(request())
        await model.aclose()
        await asyncio.sleep(0.01)

    with upstream() as server:
        asyncio.run(run(server.url))
        assert server.asked[0].headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize("settings", [LargeSettings(), LargeSettings(url="http://x/v1")])
def test_without_address_or_name_there_is_no_reference(settings: LargeSettings) -> None:
    with pytest.raises(ConfigError, match="large model"):
        build.large_model(settings, {})


def test_errors_name_the_model_and_never_its_address() -> None:
    async def run() -> None:
        model = HttpModel(url="http://127.0.0.1:9/v1", name="big")
        with pytest.raises(ModelError) as caught:
            await model.answer(request())
        assert "127.0.0.1" not in str(caught.value)
        assert "big" in str(caught.value)

    asyncio.run(run())
