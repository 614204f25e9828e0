"""What a client may write into `model`: our names, tasks, configured models, aliases; and what becomes of the bytes."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import openai
import pytest

from pilotfish.config.settings import EndpointSettings, ModelSettings
from tools.gateway import Place, body, gateway
from tools.served_home import TASK_ID, Learnt, adopt, messages
from tools.upstream import Reply, Upstream, upstream

SERVING = {"max_risk": 0.05, "audit_rate": 0.0}
Serve = Callable[..., AbstractContextManager[Place]]


def ask(place: Place, model: str, rows: list[dict[str, str]] | None = None) -> tuple[str, dict[str, str]]:
    raw = place.client.chat.completions.with_raw_response.create(
        model=model,
        messages=rows or [{"role": "user", "content": "hi"}],  # type: ignore[arg-type]
    )
    return raw.parse().choices[0].message.content or "", dict(raw.headers)


@contextlib.contextmanager
def two_models(home: Path, **settings: object) -> Iterator[tuple[Place, Upstream]]:
    """`big`, and beside it `small`, which its server calls `small-2026`."""
    with upstream([Reply(text="from small")]) as server:
        small = ModelSettings(url=server.url, model="small-2026", input_usd_per_mtok=1, output_usd_per_mtok=2)
        with gateway(home, models={"small": small}, **settings) as place:  # type: ignore[arg-type]
            yield place, server


def test_a_configured_model_answers_under_its_name_and_belongs_to_no_task(home: Path) -> None:
    with two_models(home, large={"input_usd_per_mtok": 100.0, "output_usd_per_mtok": 100.0}) as (place, server):
        answer, headers = ask(place, "small")
        assert (answer, headers["x-pilotfish-model"]) == ("from small", "small")
        assert headers["x-pilotfish-reason"] == "other-model"
        assert server.asked[0].json["model"] == "small-2026"
        assert place.server.asked == []
        row = place.rows(1)[0]
        assert (row.reason, row.sampling, row.task_id, row.model) == ("other-model", "none", "", "small")
        assert (row.answer, row.reference_answer) == ("from small", None)
        assert row.cost_usd == pytest.approx((11 * 1 + 3 * 2) / 1e6)


def test_beside_configured_models_an_unknown_name_is_a_404_that_tells_no_names(home: Path) -> None:
    with two_models(home) as (place, server):
        with pytest.raises(openai.NotFoundError) as caught:
            ask(place, "gpt-4o")
        assert caught.value.code == "model_not_found"
        assert "small" not in str(caught.value)
        assert place.server.asked == server.asked == []


def test_of_what_another_model_costs_nothing_is_known_where_only_a_name_is(home: Path) -> None:
    with gateway(home, large={"input_usd_per_mtok": 100.0, "output_usd_per_mtok": 100.0}) as place:
        ask(place, "gpt-4o-mini")
        assert (place.rows(1)[0].cost_usd, place.rows(1)[0].prompt_tokens) == (None, 11)


@pytest.mark.parametrize(
    ("alias", "reason", "sent"), [("gpt-4o", "observing", "big"), ("gpt-4o-mini", "other-model", "small-2026")]
)
def test_an_alias_stands_for_its_target(home: Path, alias: str, reason: str, sent: str) -> None:
    with two_models(home, aliases={"gpt-4o": "auto", "gpt-4o-mini": "small"}) as (place, server):
        _, headers = ask(place, alias)
        assert headers["x-pilotfish-reason"] == reason
        assert [asked.json["model"] for asked in (*place.server.asked, *server.asked)] == [sent]


def test_every_name_is_listed(home: Path, served_home: Path, learnt: Learnt) -> None:
    adopt(learnt, served_home)
    with two_models(home, aliases={"gpt-4o": "auto"}) as (place, _):
        assert [model.id for model in place.client.models.list()] == [
            "big",
            "auto",
            "small",
            "gpt-4o",
            "pilotfish/colours",
            "all-MiniLM-L6-v2",
        ]


@pytest.fixture
def serve(served_home: Path, learnt: Learnt) -> Serve:
    adopt(learnt, served_home)
    return partial(gateway, served_home, [Reply(text="from big")], learning={"encoder": learnt.encoder})


@pytest.mark.parametrize("name", ["colours", "pilotfish/colours", TASK_ID, "gpt-4o"])
def test_a_task_may_be_named(serve: Serve, name: str) -> None:
    with serve(quality=SERVING, aliases={"gpt-4o": "pilotfish/colours"}) as place:
        answer, headers = ask(place, name, messages("my car 1 is red"))
        assert (answer, headers["x-pilotfish-reason"]) == ("red", "certified")
        assert headers["x-pilotfish-task"] == "colours"


def test_a_request_that_names_a_task_and_is_none_of_it_is_told_so(serve: Serve) -> None:
    with serve(quality=SERVING) as place:
        with pytest.raises(openai.BadRequestError, match="does not carry its instructions"):
            ask(place, "colours", [{"role": "user", "content": "my car 1 is red"}])
        with pytest.raises(openai.NotFoundError):
            ask(place, "pilotfish/flavours")
        assert place.server.asked == []


ODD = b"""{ "vendor" :[1.10,1E3] ,"messages": [ {"content":"Be\\u0020kind.",  "role":"system"},
  {"name":"x","role":"user","content":"hi"}],"model" : "%s" , "temperature":0.0}"""


@pytest.mark.parametrize(("name", "is_whole"), [(b"big", True), (b"gpt-other", True), (b"auto", False)])
def test_the_prompt_is_relayed_byte_for_byte_so_that_its_prefix_is_found_in_a_cache(
    home: Path, name: bytes, is_whole: bool
) -> None:
    data = ODD % name
    prompt = data[data.index(b"[ {") : data.index(b',"model"')]
    with upstream() as second:
        large = {"endpoints": (EndpointSettings(url=second.url),)}
        with gateway(home, [Reply(status=500, body=b"{}")], large=large) as place:
            send(place.port, data)
            for asked in (*place.server.asked, *second.asked):
                assert prompt in asked.body
                assert b"[1.10,1E3]" in asked.body
                assert (asked.body == data) == is_whole
            assert json.loads(second.asked[0].body)["model"] == (name.decode() if is_whole else "big")


def send(port: int, data: bytes) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", data)
    with urllib.request.urlopen(request, timeout=120) as reply:
        assert reply.status == 200


def test_every_server_gets_its_own_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE_KEY", "one")
    monkeypatch.setenv("TWO_KEY", "two")
    failing = [Reply(status=500, body=b"{}")]
    with upstream(failing) as second, upstream() as third:
        places = (EndpointSettings(url=second.url, key_env="TWO_KEY"), EndpointSettings(url=third.url))
        with gateway(home, failing, large={"key_env": "ONE_KEY", "endpoints": places}) as place:
            send(place.port, body())
            keys = [server.asked[0].headers["authorization"] for server in (place.server, second, third)]
            assert keys == ["Bearer one", "Bearer two", "Bearer one"]


def test_a_clients_key_is_sent_to_no_other_host_than_the_large_models(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with upstream([Reply(status=500, body=b"{}")]) as second, upstream() as third:
        large = {"endpoints": (EndpointSettings(url=second.url),), "degraded": "small"}
        models = {"small": ModelSettings(url=third.url)}
        with gateway(home, [Reply(status=500, body=b"{}")], large=large, models=models) as place:
            ask(place, "auto")
            ask(place, "small")
            assert place.server.asked[0].headers["authorization"] == "Bearer client-key"
            assert len(second.asked) == 1
            assert len(third.asked) == 2
            for asked in (*second.asked, *third.asked):
                assert "authorization" not in asked.headers
        models = {"beside": ModelSettings(url=third.url)}
        with gateway(home, large={"url": third.url}, models=models) as place:
            ask(place, "beside")
            assert third.asked[-1].headers["authorization"] == "Bearer client-key"


def test_the_status_shows_each_server_without_its_path_or_key(home: Path) -> None:
    with two_models(home) as (place, server):
        found = place.client.with_options(base_url=f"http://127.0.0.1:{place.port}").get(
            "/pilotfish/status", cast_to=dict[str, object]
        )
        assert (
            found["models"]["small"]
            == [  # type: ignore[index]
                {"host": server.url[7:-3], "is_open": False, "failures_in_a_row": 0}
            ]
        )
