"""Virtual keys: who is let in, what a key may use, and that nobody can spend more than there is."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import openai
import pytest

from pilotfish.config.settings import LargeSettings, ServerSettings, Settings
from pilotfish.core.errors import ConfigError
from pilotfish.core.ids import sha256
from pilotfish.core.key import ADMIN_PREFIX, new_secret
from pilotfish.gateway import door
from pilotfish.gateway.serve import serving
from pilotfish.models.scripted import ScriptedModel
from pilotfish.store.build import open_keys
from tools.families import whole
from tools.gateway import body, gateway
from tools.keyed import PRICES, ask, make_key, used
from tools.served_home import Learnt, adopt, messages
from tools.upstream import Reply

BYTES_AT_MOST = len(body(max_tokens=10)) // 3 + 1 + 10
"""The tokens that a request of `body(max_tokens=10)` reserves."""


def settled(home: Path, count: str, value: float) -> None:
    """Wait until a count of the key is as expected: it is settled after the reply."""
    deadline = time.monotonic() + 120
    while used(home, time.time())[count] != pytest.approx(value):
        assert time.monotonic() < deadline, used(home, time.time())
        time.sleep(0.01)


def admin(home: Path) -> str:
    secret = new_secret(ADMIN_PREFIX)
    with closing(open_keys(home)) as keys:
        keys.set_admin(sha256(secret.encode()))
    return secret


# Who is let in.


def test_without_a_key_loopback_is_open(home: Path) -> None:
    with gateway(home) as place:
        assert ask(place.port).status == 200
        assert place.rows(1)[0].key_id is None


def test_require_keys_closes_it_before_there_is_one(home: Path) -> None:
    with gateway(home, server={"require_keys": True}) as place:
        assert [ask(place.port, key).status for key in ("", "x")] == [401, 401]
        assert ask(place.port, path="/healthz").status == 200


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
def test_a_key_is_taken_from_where_clients_put_it(home: Path, header: str) -> None:
    key = make_key(home)
    with gateway(home) as place:
        value = f"Bearer {key}" if header == "authorization" else key
        assert ask(place.port, **{header: value}).status == 200
        with closing(open_keys(home)) as keys:
            assert place.rows(1)[0].key_id == keys.get("ci").key_id


def test_all_that_is_no_valid_key_gets_the_very_same_401(home: Path) -> None:
    keys = {name: make_key(home, name) for name in ("ci", "revoked", "rotated")}
    keys["expired"] = make_key(home, "expired", expires_s=time.time() - 1)
    with closing(open_keys(home)) as store:
        store.revoke(store.get("revoked").key_id)
        store.rotate(store.get("rotated").key_id, "ab" * 32)
    wrong = ["", "x", "pf-unknown", keys["expired"], keys["revoked"], keys["rotated"], keys["ci"][:-1], "é"]
    with gateway(home) as place:
        got = [ask(place.port, key) for key in wrong]
        assert {(reply.status, reply.data, reply.headers["www-authenticate"]) for reply in got} == {
            (401, got[0].data, "Bearer")
        }
        assert got[0].error["code"] == "invalid_api_key"
        assert ask(place.port, path="/v1/models").status == 401
        assert ask(place.port, path="/v1/nothing").status == 401
        assert place.server.asked == []
        with pytest.raises(openai.AuthenticationError):
            place.client.models.list()


def test_a_running_gateway_follows_what_is_decided_about_keys(home: Path) -> None:
    with gateway(home) as place:
        assert ask(place.port).status == 200
        key = make_key(home)
        deadline = time.monotonic() + 120
        while ask(place.port).status != 401:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert ask(place.port, key).status == 200
        time.sleep(0.15)
        assert ask(place.port, make_key(home, "other")).status == 200, "a new key opens at once"
        with closing(open_keys(home)) as keys:
            keys.revoke(keys.get("ci").key_id)
        while ask(place.port, key).status != 401:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_virtual_key_never_travels_upstream(home: Path) -> None:
    key = make_key(home)
    with gateway(home) as place:
        ask(place.port, key, **{"api-key": key, "x-api-key": key, "openai-organization": "org"})
        headers = place.server.asked[0].headers
        assert headers["openai-organization"] == "org"
        assert not {"authorization", "api-key", "x-api-key"} & headers.keys()
        assert key not in str(headers)


def test_what_looks_like_a_virtual_key_does_not_travel_from_an_open_gateway_either(home: Path) -> None:
    with gateway(home) as place:
        ask(place.port, "pf-deleted")
        assert "authorization" not in place.server.asked[0].headers


# The admin key.


def test_the_admin_key_opens_the_status_and_nothing_else(home: Path) -> None:
    key, secret = make_key(home), admin(home)
    with gateway(home) as place:
        assert [ask(place.port, one, path="/pilotfish/status").status for one in ("", key, secret)] == [401, 401, 200]
        assert [ask(place.port, one).status for one in (secret, key)] == [401, 200]


def test_on_loopback_without_an_admin_key_the_status_can_be_read(home: Path) -> None:
    make_key(home)
    with gateway(home) as place:
        assert ask(place.port, path="/pilotfish/status").status == 200


def test_the_environments_admin_key_wins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = admin(home)
    monkeypatch.setenv("PILOTFISH_ADMIN_KEY", "of-the-environment-and-long")
    with gateway(home) as place:
        assert ask(place.port, secret, path="/pilotfish/status").status == 401
        assert ask(place.port, "of-the-environment-and-long", path="/pilotfish/status").status == 200


def test_a_short_admin_key_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTFISH_ADMIN_KEY", "secret")
    with pytest.raises(ConfigError, match="at least 24 characters") as caught, gateway(home):
        pass
    assert "secret" not in str(caught.value)


# Other addresses than loopback.


def elsewhere(home: Path) -> Settings:
    return Settings(home=str(home), server=ServerSettings(host="0.0.0.0", port=0), large=LargeSettings(model="big"))


def test_without_any_key_nobody_else_can_be_served(home: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"Others than this machine.*keys create"),
        serving(elsewhere(home), reference=ScriptedModel(["x"], name="big")),
    ):
        pass


def test_elsewhere_only_keys_open_anything(home: Path) -> None:
    secret = admin(home)
    with serving(elsewhere(home), reference=ScriptedModel(["x"], name="big")) as port:
        assert [ask(port, one).status for one in ("", secret)] == [401, 401]
        assert [ask(port, one, path="/pilotfish/status").status for one in ("", secret)] == [401, 200]
        time.sleep(0.15)
        assert ask(port, make_key(home)).status == 200


# Models.


def test_a_key_may_use_only_its_models(home: Path) -> None:
    key, other = make_key(home, models=("gpt-small", "big")), make_key(home, "other", models=("gpt-small",))
    with gateway(home) as place:
        statuses = [ask(place.port, key, data=body(model=name)).status for name in ("gpt-small", "auto", "big", "x")]
        assert statuses == [200, 200, 200, 403]
        refused = ask(place.port, other, data=body(model="auto"))
        assert (refused.status, refused.error["code"], refused.error["param"]) == (403, "not_allowed", "model")
        assert "gpt-small" in refused.error["message"]
        listed = [
            [model["id"] for model in json.loads(ask(place.port, one, path="/v1/models").data)["data"]]
            for one in (key, other)
        ]
        assert listed == [["big"], []]
        assert len(place.server.asked) == 3


def test_a_model_that_is_not_allowed_is_not_answered_locally_either(learnt: Learnt, served_home: Path) -> None:
    adopt(learnt, served_home)
    key = make_key(served_home, models=("gpt-small",))
    with gateway(served_home, quality={"max_risk": 0.05}, learning={"encoder": learnt.encoder}) as place:
        assert ask(place.port, key, data=task_body("my car 7 is red")).status == 403


# Limits.


def task_body(text: str, **fields: object) -> bytes:
    return json.dumps({"model": "auto", "messages": messages(text), **fields}).encode()


def not_at_the_end_of_a_minute() -> None:
    if time.time() % 60 > 57:
        time.sleep(60 - time.time() % 60)


def test_too_many_requests_are_a_429_that_says_when_to_come_again(home: Path) -> None:
    not_at_the_end_of_a_minute()
    key = make_key(home, requests_per_minute=2)
    with gateway(home) as place:
        got = [ask(place.port, key) for _ in range(3)]
        assert [reply.status for reply in got] == [200, 200, 429]
        error = got[2].error
        assert (error["code"], error["param"]) == ("limit_reached", "requests_per_minute")
        assert "2 of 2 are used" in error["message"]
        assert 1 <= int(got[2].headers["retry-after"]) <= 60


def test_a_spent_day_is_a_402_which_official_clients_do_not_try_again(home: Path) -> None:
    key = make_key(home, tokens_per_day=14)
    with gateway(home) as place:
        url = f"http://127.0.0.1:{place.port}/v1"
        client = openai.OpenAI(base_url=url, api_key=key, max_retries=5)
        with client, pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hi"}])
        assert caught.value.status_code == 402
        assert used(home, time.time())["requests_total"] == 1
        assert ask(place.port, key).error["param"] == "tokens_per_day"
        assert place.server.asked == []


def test_what_was_really_used_is_counted(home: Path) -> None:
    key = make_key(home, usd_total=1.0)
    with gateway(home, large=PRICES) as place:
        assert ask(place.port, key).status == 200
        settled(home, "tokens_per_day", 14)
        settled(home, "usd_total", 14e-6)
        assert used(home, time.time())["requests_total"] == 1


def test_a_stream_that_tells_its_usage_is_counted_by_it_and_another_by_its_text(home: Path) -> None:
    key = make_key(home, tokens_per_day=10_000)
    with gateway(home, [Reply(text="abcdefghi")]) as place:
        told = body(stream=True, stream_options={"include_usage": True})
        assert ask(place.port, key, data=told).status == 200
        settled(home, "tokens_total", 14)
        silent = body(stream=True)
        assert ask(place.port, key, data=silent).status == 200
        settled(home, "tokens_total", 14 + -(-len(silent) // 3) + 3)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reply", [Reply(status=500), Reply(closes=True), Reply(body=b"<html>")])
def test_a_failure_costs_nothing(home: Path, reply: Reply, stream: bool) -> None:
    key = make_key(home, tokens_per_day=BYTES_AT_MOST + 10)
    with gateway(home, [reply]) as place:
        for _ in range(3):
            assert ask(place.port, key, data=body(max_tokens=10, stream=stream)).status >= 500
        assert used(home, time.time())["tokens_total"] == 0


def test_who_leaves_in_the_middle_pays_for_what_came(home: Path) -> None:
    key = make_key(home, tokens_per_day=10_000)
    with gateway(home, [Reply(text="a" * 200, pace_s=0.02)]) as place:
        data = body(stream=True)
        with socket.create_connection(("127.0.0.1", place.port)) as client:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\napi-key: {key}\r\n"
            client.sendall(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
            assert client.recv(100)
        place.server.wait_for_hang_up()
        assert place.rows(1)[0].status == 499
        tokens = used(home, time.time())["tokens_total"]
        assert len(data) // 3 <= tokens < len(data) // 3 + 60


def test_many_at_once_cannot_spend_more_than_there_is(home: Path) -> None:
    n_served = 4
    key = make_key(home, tokens_per_day=BYTES_AT_MOST * n_served + BYTES_AT_MOST // 2)
    with gateway(home, [Reply(delay_s=0.3)]) as place, ThreadPoolExecutor(20) as pool:
        got = list(pool.map(lambda _: ask(place.port, key, data=body(max_tokens=10)), range(20)))
        assert sorted(reply.status for reply in got) == [200] * n_served + [402] * (20 - n_served)
        assert len(place.server.asked) == n_served
        settled(home, "tokens_total", 14 * n_served)
        assert ask(place.port, key, data=body(max_tokens=10)).status == 200, "what was not used is there again"


def test_two_gateways_on_one_home_spend_one_budget(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "LOOK_EVERY_S", 0.2)
    key = make_key(home, requests_per_day=30)
    with gateway(home) as one, gateway(home) as two, ThreadPoolExecutor(8) as pool:
        time.sleep(0.4)  # until the first has noticed the second
        ports = [one.port, two.port] * 25
        got = list(pool.map(lambda port: ask(port, key).status, ports))
        assert 29 <= got.count(200) <= 30
        assert set(got) == {200, 402}


def test_a_request_that_can_never_fit_is_told_so(home: Path) -> None:
    key = make_key(home, tokens_per_minute=1000)
    with gateway(home) as place:
        got = ask(place.port, key, data=body(max_tokens=5000))
        assert (got.status, "retry-after" in got.headers) == (402, False)
        assert "shorter answer" in got.error["message"]
        assert ask(place.port, key, data=body()).status == 200, "without a stated maximum only the prompt must fit"
        assert ask(place.port, key, data=body(max_tokens=10**30)).status == 402


@pytest.mark.parametrize("n", [10**400, 2**63, -(10**30)], ids=["huge", "beyond 64 bits", "negative"])
def test_no_count_of_a_broken_server_can_undo_a_budget(home: Path, n: int) -> None:
    key = make_key(home, usd_total=100.0)
    data = json.loads(whole("/v1/chat/completions", "x", "big")) | {
        "usage": {"prompt_tokens": n, "completion_tokens": 1}
    }
    with gateway(home, [Reply(body=json.dumps(data).encode())], large=PRICES) as place:
        assert ask(place.port, key).status == 200
        settled(home, "tokens_total", 1 + max(0, min(n, 10**9)))
        assert 0 <= used(home, time.time())["usd_total"] <= 2000
        assert ask(place.port, key).status == (402 if n > 0 else 200)


@pytest.mark.parametrize("odd", [b'"\xff"', b"[" * 5000 + b"]" * 5000, b"1e99", b"-5", b"true"])
def test_an_odd_maximum_is_taken_for_none(home: Path, odd: bytes) -> None:
    key = make_key(home, tokens_per_day=10_000)
    with gateway(home, [Reply(body=whole("/v1/chat/completions", "x", "big"))]) as place:
        assert ask(place.port, key, data=body()[:-1] + b',"max_tokens":' + odd + b"}").status in (200, 400)


def test_a_money_budget_needs_a_price(home: Path) -> None:
    key = make_key(home, usd_per_day=1.0)
    with gateway(home, large=PRICES) as place:
        assert ask(place.port, key).status == 200
        got = ask(place.port, key, data=body(model="gpt-other"))
        assert (got.status, got.error["param"]) == (403, "model")
        assert "no price is known" in got.error["message"]


def test_an_exhausted_key_still_gets_what_is_answered_locally(learnt: Learnt, served_home: Path) -> None:
    adopt(learnt, served_home)
    key = make_key(served_home, tokens_per_day=1)
    quality: dict[str, object] = {"max_risk": 0.05, "audit_rate": 0.0}
    with gateway(served_home, quality=quality, learning={"encoder": learnt.encoder}) as place:
        local = ask(place.port, key, data=task_body("my car 7 is red"))
        assert (local.status, local.headers["x-pilotfish-reason"]) == (200, "certified")
        assert ask(place.port, key).status == 402
        counts = used(served_home, time.time())
        assert (counts["requests_total"], counts["tokens_total"]) == (2, 0)
        assert place.server.asked == []


def test_a_refusal_stands_in_the_log_with_its_key(home: Path) -> None:
    key = make_key(home, tokens_per_day=1)
    with gateway(home) as place:
        got = ask(place.port, key)
        row = place.rows(1)[0]
        assert (row.status, row.request_id) == (402, got.headers["x-pilotfish-request-id"])
        assert row.error.startswith("limit_reached")
        assert row.key_id is not None


# Canary: no key leaves by any way.

CANARY = "canary-of-the-upstream-0123456789"


def test_no_key_appears_anywhere_on_any_path_of_an_error(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BIG_KEY", CANARY)
    key, secret = make_key(home), admin(home)
    replies = [
        Reply(),
        Reply(status=401, body=b'{"error":{"message":"bad key: %s"}}' % CANARY.encode(), headers=(("x-said", CANARY),)),
        Reply(status=500, body=b"<html>"),
        Reply(status=307, headers=(("location", "http://127.0.0.1:9/"),)),
        Reply(closes=True),
        Reply(),  # between failures, or the breaker would open
        Reply(hangs=True),
        Reply(body=b"no json"),
        Reply(),
        Reply(raw=b"no http at all\r\n\r\n"),
        Reply(text="abc", cut_after=2),
    ]
    said = b""
    with gateway(home, replies, large={"key_env": "BIG_KEY", "timeout_s": 0.2}) as place:
        for number in range(len(replies)):
            data = body(stream=number == len(replies) - 1)
            got = ask(place.port, key, data=data)
            said += got.data + str(got.headers).encode()
        said += ask(place.port, key, data=b"{").data + ask(place.port, "pf-wrong-" + key).data
        said += ask(place.port, secret, path="/pilotfish/status").data
        assert all(asked.headers["authorization"] == f"Bearer {CANARY}" for asked in place.server.asked)
        assert len(place.server.asked) >= len(replies)
        place.rows(len(replies))
    said += caplog.text.encode() + "".join(capsys.readouterr()).encode()
    said += b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    for name in (CANARY, key, secret):
        assert name.encode() not in said


def test_the_upstreams_key_is_in_no_configuration_that_is_shown(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pilotfish.cli.main import run  # noqa: PLC0415

    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setenv("PILOTFISH_LARGE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("PILOTFISH_LARGE_MODEL", "big")
    monkeypatch.setenv("PILOTFISH_ADMIN_KEY", CANARY)
    for command in (
        ["config", "show"],
        ["config", "show", "--json"],
        ["config", "check"],
        ["doctor"],
        ["keys", "list"],
    ):
        run([*command, "--home", str(home)] if command[0] != "doctor" else command)
    out = capsys.readouterr()
    assert CANARY not in out.out + out.err
