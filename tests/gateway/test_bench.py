"""The bench: every model and specialist side by side, the policy's word, and that none of it is traffic."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import pytest

from pilotfish.config.settings import ModelSettings
from pilotfish.gateway import local
from pilotfish.store.build import open_by_hand, open_registry
from tools.gateway import Place, gateway
from tools.keyed import make_key
from tools.routed import SMALL_USD, SURE, UNSURE, routed
from tools.routes import adopt as adopt_route
from tools.served_home import COLOURS, INSTRUCTIONS, TASK_ID, Learnt, adopt
from tools.site import HOSTILE, make_admin
from tools.upstream import Asked, Reply, Upstream, upstream
from tools.visitor import Tags, Visitor

SERVING: dict[str, object] = {"max_risk": 0.05, "audit_rate": 0.0}
PRICE: dict[str, object] = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}
MAIL = "ann.canary@example.com"


def big(asked: Asked) -> Reply:
    """The large model: says what it was told, hostile or not, or the colour in it."""
    text = asked.json["messages"][-1]["content"]
    return Reply(text=next((colour for colour in COLOURS if colour in text), text))


def small(asked: Asked) -> Reply:
    """Another one: fails where it is told to."""
    text = asked.json["messages"][-1]["content"]
    if "fail" in text:
        return Reply(status=400, body=json.dumps({"error": {"message": f"no: {text}"}}).encode())
    return Reply(text="red", logprob=-0.25)


@pytest.fixture(scope="module")
def served(learnt: Learnt, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Upstream, Visitor]]:
    """A serving specialist, a large model without a price, a small one with a price and log-probabilities."""
    home = tmp_path_factory.mktemp("bench") / "home"
    shutil.copytree(learnt.folder / "specialists", home / "specialists")
    adopt(learnt, home)
    key = make_admin(home)
    with pytest.MonkeyPatch.context() as patched, upstream(small) as server:
        patched.setenv("PILOTFISH_CACHE", str(learnt.folder / "cache"))
        patched.setattr(local, "DEADLINE_S", 10.0)
        models = {"small": ModelSettings(url=server.url, **PRICE)}  # type: ignore[arg-type]
        learning: dict[str, object] = {"encoder": learnt.encoder, "check_every_s": 60.0}
        large: dict[str, object] = {"retry_wait_s": 0.0}
        with gateway(home, big, models=models, quality=SERVING, learning=learning, large=large) as place:
            yield place, server, Visitor(place.port, key)


@pytest.fixture
def behind(served: tuple[Place, Upstream, Visitor]) -> tuple[Place, Upstream, Visitor]:
    """The same, before anybody was asked."""
    served[0].server.asked.clear()
    served[1].asked.clear()
    return served


def spent(place: Place, visitor: Visitor) -> float:
    """What the small model has cost, as the metrics tell."""
    told = place.client.with_options(base_url=f"http://127.0.0.1:{place.port}", api_key=visitor.key)
    lines = told.get("/metrics", cast_to=str).splitlines()
    return float(next(line for line in lines if line.startswith('pilotfish_cost_usd_total{model="small"}')).split()[1])


def ask(visitor: Visitor, text: str, *names: str, system: str = "") -> Tags:
    got = visitor.send("/bench", text=text, system=system, **{f"use:{name}": "1" for name in names})
    assert got.status == 200, got.data
    return Tags(got.data)


def test_everybody_is_heard_once_and_the_policy_says_why(behind: tuple[Place, Upstream, Visitor]) -> None:
    place, server, visitor = behind
    said = ask(visitor, "my car 1 is green", "big", "small", system=INSTRUCTIONS).text
    assert (len(place.server.asked), len(server.asked)) == (1, 1)
    assert "pilotfish/colours would answer." in said
    assert "certified: a specialist answered; both gates passed under a valid certificate." in said
    assert "specialist of this task, mode serve - would answer" in said
    assert "Mean log-probability-0.2500" in said
    assert "unknown: no price is stated" in said
    usd = (11 * 1 + 3 * 2) / 1e6
    assert f"2 calls, ${usd:.6f} and 1 of unknown cost" in said
    with closing(open_by_hand(place.home)) as kept:
        calls = {call.model: call for call in kept.calls(2)}
        assert {name: (call.status, call.cost_usd) for name, call in calls.items()} == {
            "big": (200, None),
            "small": (200, pytest.approx(usd)),
        }
        assert len({call.run_id for call in calls.values()}) == 1
    data = json.loads(visitor.get("/bench/calls.json").data)[:2]
    assert {row["model"] for row in data} == {"big", "small"}


def test_nothing_of_it_is_traffic(behind: tuple[Place, Upstream, Visitor]) -> None:
    """No row, no count of requests, no audit, no change of the task; what was spent is counted."""
    place, _, visitor = behind
    with closing(open_registry(place.home)) as registry:
        before, cost_usd = registry.task(TASK_ID), spent(place, visitor)
        ask(visitor, "my car 1 is green", "big", "small", system=INSTRUCTIONS)
        place.client.chat.completions.create(model="small", messages=[{"role": "user", "content": "hi"}])
        (row,) = place.rows(1)
        assert row.input == "hi"
        assert json.loads(visitor.get("/overview/time.json").data)[-1]["requests"] == 1
        assert registry.task(TASK_ID) == before
        assert registry.events(TASK_ID) == []
    # Two calls of the small model: one of a client, one of the bench.
    assert spent(place, visitor) - cost_usd == pytest.approx(2 * (11 + 3 * 2) / 1e6)


def test_only_chosen_models_are_asked_and_one_failure_is_its_own(behind: tuple[Place, Upstream, Visitor]) -> None:
    place, server, visitor = behind
    said = ask(visitor, "fail", "small")
    assert place.server.asked == []
    assert "No answer: model_status" in said.text
    assert "big would answer." in said.text
    assert "specialist of another task" in said.text
    assert (len(server.asked), "1 call, $0.00 and 1 of unknown cost" in said.text) == (2, True)
    both = ask(visitor, "fail", "big", "small").text
    assert "No answer: model_status" in both
    assert "Answer of big" in str(ask(visitor, "x", "big").found)


def test_hostile_texts_stay_text_everywhere(behind: tuple[Place, Upstream, Visitor]) -> None:
    _, _, visitor = behind
    for text in (HOSTILE, HOSTILE + " fail"):
        tags = ask(visitor, text, "big", "small", system=HOSTILE)
        tags.assert_harmless()
        assert tags.text.count("<script>alert(1)</script>") >= 3
    assert visitor.send("/bench", text="x", **{f"use:{HOSTILE}": "1"}).status == 400
    Tags(visitor.send("/bench", text="x", **{f"use:{HOSTILE}": "1"}).data).assert_harmless()


def test_the_form_keeps_what_was_typed_and_an_empty_request_asks_nobody(
    behind: tuple[Place, Upstream, Visitor],
) -> None:
    place, server, visitor = behind
    got = visitor.send("/bench", text=" \r\n", system="\r\nbe brief", **{"use:small": "1"})
    tags = Tags(got.data)
    assert (got.status, "There is no request to ask with" in tags.text) == (400, True)
    chosen = [a["name"] for _, a in tags.found if a.get("type") == "checkbox" and "checked" in a]
    assert chosen == ["use:small"]
    assert (place.server.asked, server.asked) == ([], [])
    ask(visitor, "one\r\ntwo", "big", system="  ")
    assert place.server.asked[-1].json["messages"] == [{"role": "user", "content": "one\ntwo"}]


def test_others_ask_nothing(behind: tuple[Place, Upstream, Visitor]) -> None:
    place, server, visitor = behind
    stranger = Visitor(place.port)
    assert stranger.send("/bench", text="x", **{"use:big": "1"}).status == 401
    assert visitor.send("/bench", csrf="x", text="x", **{"use:big": "1"}).status == 403
    assert stranger.get("/bench").status == 303
    assert (place.server.asked, server.asked) == ([], [])


def test_readers_without_the_admin_key_see_no_form(home: Path) -> None:
    with gateway(home) as place:
        tags = Visitor(place.port).see("/bench")
        assert "textarea" not in {name for name, _ in tags.found}
        assert "Sign in with the admin key to ask." in tags.text


def test_clicks_beyond_two_at_once_are_refused(home: Path) -> None:
    key = make_admin(home)
    with gateway(home, [Reply(delay_s=0.5)]) as place:
        visitor = Visitor(place.port, key)
        codes: list[int] = []
        threads = [
            threading.Thread(target=lambda: codes.append(visitor.send("/bench", text="x", **{"use:big": "1"}).status))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(codes) == [200, 200, 429]
        assert len(place.server.asked) == 2


@pytest.mark.parametrize("mode", ["local", "mask"])
def test_privacy_holds_on_the_bench(home: Path, mode: str) -> None:
    """Under `local` nothing leaves but to the local model; under `mask` it leaves masked and comes back whole."""
    key = make_admin(home)
    with upstream(big) as here:
        models = {"here": ModelSettings(url=here.url, local=True)}
        with gateway(home, big, models=models, privacy={"mode": mode}) as place:
            said = ask(Visitor(place.port, key), f"write to {MAIL}", "big", "here")
            assert MAIL not in str([asked.body for asked in place.server.asked])
            if mode == "local":
                assert place.server.asked == []
                assert "No answer: privacy_local_only" in said.text
                assert f"write to {MAIL}" in here.asked[0].json["messages"][0]["content"]
                assert "here would answer." in said.text
                assert "private: the request must stay here" in said.text
                assert "1 call" in said.text
            else:
                assert "<EMAIL_1>" in place.server.asked[0].json["messages"][0]["content"]
                assert said.text.count(f"write to {MAIL}") == 3  # two answers, and the form
                assert "Privacy: masked; types=EMAIL." in said.text
    files = [path for path in home.rglob("*") if path.is_file()]
    assert [path.name for path in files if MAIL.encode() in path.read_bytes()] == []


def test_what_nobody_here_may_see_is_refused_and_asks_nobody(home: Path) -> None:
    key = make_admin(home)
    with gateway(home, privacy={"mode": "local"}) as place:
        said = ask(Visitor(place.port, key), f"write to {MAIL}", "big").text
        assert "It would be refused." in said
        assert place.server.asked == []


@pytest.mark.parametrize(("reply", "who", "reason"), [(SURE, "small", "kept"), (UNSURE, "big", "asked-further")])
def test_a_route_says_what_it_would_make_of_the_answers(home: Path, reply: Reply, who: str, reason: str) -> None:
    adopt_route(home)
    key = make_admin(home)
    with routed(home, [reply]) as (place, server):
        visitor = Visitor(place.port, key)
        said = ask(visitor, "hi", "small").text
        assert f"{who} would answer." in said
        assert f"{reason}: " in said
        assert "least logprob=" in said
        assert (len(server.asked), place.server.asked) == (1, [])
        assert f"1 call, ${SMALL_USD:.6f}." in said
        assert "would ask small first" in ask(visitor, "hi", "big").text


def test_under_a_route_a_failure_of_the_smaller_model_leads_to_the_reference(home: Path) -> None:
    adopt_route(home)
    key = make_admin(home)
    with routed(home, [Reply(status=400)]) as (place, _):
        said = ask(Visitor(place.port, key), "hi", "small").text
        assert "big would answer." in said
        assert "smaller-failed: " in said


def test_who_leaves_ends_the_call_which_stays_written_down(home: Path) -> None:
    key = make_admin(home)
    with gateway(home, [Reply(hangs=True)]) as place, closing(open_by_hand(home)) as kept:
        visitor = Visitor(place.port, key)
        with closing(HTTPConnection("127.0.0.1", place.port, timeout=120)) as connection:
            form = urlencode({"csrf": visitor.token, "text": "x", "use:big": "1"})
            connection.request("POST", "/bench", form, {"cookie": visitor.cookie})
            place.server.wait_for_request()
        place.server.wait_for_hang_up()
        assert [(call.model, call.status) for call in kept.calls(9)] == [("big", 0)]
        assert "no end" in visitor.see("/bench").text


def test_a_specialist_that_only_observes_is_heard_too(served_home: Path, learnt: Learnt) -> None:
    adopt(learnt, served_home, mode="observe")
    key = make_admin(served_home)
    learning: dict[str, object] = {"encoder": learnt.encoder, "check_every_s": 60.0}
    with gateway(served_home, big, quality=SERVING, learning=learning) as place:
        said = ask(Visitor(place.port, key), "my car 1 is green", system=INSTRUCTIONS).text
        assert "observing: the task is only observed; the reference answered." in said
        assert "specialist of this task, mode observe" in said
        assert "Gatesboth passed" in said
        assert place.server.asked == []


def test_keys_of_clients_open_no_bench(home: Path) -> None:
    secret = make_key(home)
    with gateway(home) as place:
        assert Visitor(place.port, cookie=f"pilotfish_session={secret}").send("/bench", text="x").status == 401
