"""Further looks at a smaller model's answer, samples and a verifier: collected, learnt from, and drawn live."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from pilotfish.core.messages import Answer
from pilotfish.evals.outcomes import read_outcomes
from pilotfish.gateway.looks import PROMPT, probability
from pilotfish.guarantees.route_file import RouteFile
from pilotfish.routing.signals import SAMPLED
from tools.command_line import CommandLine
from tools.families import whole
from tools.keyed import make_key, used
from tools.routed import SMALL_USD, ask, content, routed, status, tried_rows
from tools.routes import adopt, promise, route
from tools.upstream import Asked, Reply, Script

PAIRS: dict[str, object] = {"margin": None, "collect": 1.0, "collect_usd_per_day": 1.0}
LOOKS: dict[str, object] = {"samples": 3, "verifier": "judge"}
REFUSED = Reply(status=400, body=b"{}")


def verdict(*said: tuple[str, float], text: str = "Yes") -> Reply:
    """A verifier's word, with the log-probabilities of what it could have said."""
    row = json.loads(whole("/v1/chat/completions", text, "judge"))
    tops = [{"token": token, "logprob": logprob} for token, logprob in said]
    row["choices"][0]["logprobs"] = {"content": [{**tops[0], "top_logprobs": tops}]} if tops else None
    return Reply(body=json.dumps(row).encode())


def by_kind(answer: Reply, sample: Reply, verified: Reply) -> Script:
    """Another reply to a first answer, a sample and the verifier; what is looked at here asks for no temperature."""

    def script(asked: Asked) -> Reply:
        if asked.json["model"] == "judge":
            return verified
        return sample if asked.json.get("temperature") == 1 else answer

    return script


SAYS_7, SAYS_8, YES = Reply(text="It is 7"), Reply(text="It is 8"), verdict(("Yes", -0.1), (" no", -2.1))


@pytest.mark.parametrize("stream", [False, True])
def test_pairs_hold_samples_and_a_verdict_with_all_they_cost(home: Path, stream: bool) -> None:
    script = by_kind(SAYS_7, SAYS_8, YES)
    with routed(home, script, routing=PAIRS | LOOKS) as (place, server):
        ask(place, stream=stream, seed=3, temperature=0, logprobs=True, top_logprobs=4, max_tokens=20)
        row = tried_rows(place)[0]
        tried = json.loads(row.tried or "")
        assert (tried["text"], tried["samples"]) == ("It is 7", ["It is 8"] * 3)
        assert tried["verifier"] == pytest.approx(1 / (1 + 2.718281828**-2))
        assert tried["verified_by"] == "judge"
        # One answer, three samples and the verifier, which say 11 tokens and 3 of the same price each.
        assert row.cost_usd == tried["cost_usd"] == pytest.approx(5 * SMALL_USD)
        assert row.expected_usd is not None
        assert row.cost_usd < row.expected_usd
        assert status(place)["collecting"]["spent_usd_today"] == pytest.approx(5 * SMALL_USD)
        samples = [one.json for one in server.asked if one.json.get("temperature") == 1]
        assert [sorted(one) for one in samples] == [["max_tokens", "messages", "model", "temperature"]] * 3
        question = next(one.json for one in server.asked if one.json["model"] == "judge")
        assert question["messages"][0]["content"] == PROMPT.format(request="hi", answer="It is 7")
        assert (question["max_completion_tokens"], question["logprobs"], question["top_logprobs"]) == (1, True, 5)


def test_a_temperature_that_is_no_greedy_one_is_the_clients(home: Path) -> None:
    with routed(home, [SAYS_7], routing=PAIRS | {"samples": 1}) as (place, server):
        ask(place, temperature=0.3)
        tried_rows(place)
        assert [one.json["temperature"] for one in server.asked] == [0.3, 0.3]


def test_what_is_looked_at_is_set_aside_before(home: Path) -> None:
    # One answer of ten tokens costs 5e-5 at most; three samples and a verifier do not fit beside it.
    poor = PAIRS | {"collect_usd_per_day": 1e-4}
    with routed(home, [SAYS_7], routing=poor | LOOKS) as (place, server):
        ask(place, max_tokens=10)
        place.rows(1)
        time.sleep(0.1)
        assert (server.asked, status(place)["collecting"]["spent_usd_today"]) == ([], 0.0)
    with routed(home, [SAYS_7], routing=poor) as (place, server):
        ask(place, max_tokens=10)
        tried_rows(place)
        assert len(server.asked) == 1


def test_nothing_is_collected_where_the_verifier_has_no_price(home: Path) -> None:
    with routed(home, [SAYS_7], routing=PAIRS | {"verifier": "big"}, large={"input_usd_per_mtok": None}) as (place, _):
        assert status(place)["collecting"]["why_none"] == "no price is known for 'big'"


@pytest.mark.parametrize("broken", [Reply(status=500, body=b"{}"), REFUSED, Reply(closes=True), Reply(body=b"[")])
def test_a_look_that_fails_leaves_its_signal_unknown_and_nothing_else(home: Path, broken: Reply) -> None:
    with routed(home, by_kind(SAYS_7, broken, YES), routing=PAIRS | LOOKS) as (place, _):
        ask(place)
        tried = json.loads(tried_rows(place)[0].tried or "")
        assert (tried["text"], "samples" in tried, tried["verifier"] > 0.5) == ("It is 7", False, True)


def test_a_verifier_without_logprobs_is_asked_for_the_word_alone(home: Path) -> None:
    def script(asked: Asked) -> Reply:
        if asked.json["model"] == "small":
            return SAYS_7
        return REFUSED if "logprobs" in asked.json else Reply(text="No.")

    with routed(home, script, routing=PAIRS | {"verifier": "judge"}) as (place, server):
        for n in (1, 2):
            ask(place)
            assert [json.loads(row.tried or "")["verifier"] for row in tried_rows(place, n)] == [0.0] * n
        assert ["logprobs" in one.json for one in server.asked if one.json["model"] == "judge"] == [True, False, False]


def test_models_of_the_other_family_are_looked_at_too(home: Path) -> None:
    def script(asked: Asked) -> Reply:
        return Reply(text="No" if asked.json["model"] == "judge" else "It is 7")

    with routed(home, script, routing=PAIRS | LOOKS, family="anthropic") as (place, server):
        ask(place)
        tried = json.loads(tried_rows(place)[0].tried or "")
        assert (tried["text"], tried["samples"], tried["verifier"]) == ("It is 7", ["It is 7"] * 3, 0.0)
        assert {one.path for one in server.asked} == {"/v1/messages"}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (verdict(("Yes", -0.2), ("No", -0.2)), 0.5),
        (verdict((" yes", 1e300), ("YES", 0.0), ("**No", 0.0)), 2 / 3),
        (verdict(("Yes", -9999.0), ("No", -9999.0), text="No"), 0.0),
        (verdict(("The", -0.1), ("Well", -2.0), text="The"), None),
        (verdict(text="yes, it is"), 1.0),
        (verdict(text="Nothing"), None),
        (Reply(body=b'{"choices": [{"logprobs": {"content": "x"}}]}'), None),
    ],
)
def test_how_a_verdict_is_read(reply: Reply, expected: float | None) -> None:
    body = reply.body or b""
    choice = json.loads(body)["choices"][0]
    answer = Answer(text=choice.get("message", {}).get("content"), model="judge", body=body)
    assert probability(answer) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("signal", "says", "sample", "is_kept"),
    [
        ("samples disagree", YES, SAYS_7, True),
        ("samples disagree", YES, SAYS_8, False),
        ("verifier", YES, SAYS_8, True),
        ("verifier", verdict(("No", -0.1), ("Yes", -3.0)), SAYS_7, False),
    ],
)
def test_live_what_the_route_reads_is_drawn_and_nothing_else(
    home: Path, stream: bool, signal: str, says: Reply, sample: Reply, is_kept: bool
) -> None:
    adopt(home, route(signal=signal))
    with routed(home, by_kind(SAYS_7, sample, says), routing=LOOKS) as (place, server):
        _, headers, data = ask(place, stream=stream, logprobs=True)
        assert content(data) == ("It is 7" if is_kept else "from big")
        assert headers["x-pilotfish-reason"] == ("kept" if is_kept else "asked-further")
        assert f"{signal}=" in headers["x-pilotfish-route"]
        n = 3 if signal != "verifier" else 1
        assert {one.json["model"] for one in server.asked[1:]} == {"judge" if signal == "verifier" else "small"}
        assert len(server.asked) == 1 + n
        row = place.rows(1)[0]
        # What an answer cost that was given stands in the row's own cost, all else beside it.
        assert row.tried_usd == pytest.approx((n if is_kept else n + 1) * SMALL_USD)
        assert json.loads(row.route)["asked"][0]["cost_usd"] == pytest.approx((n + 1) * SMALL_USD)
        connection = HTTPConnection("127.0.0.1", place.port, timeout=120)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        spent = {
            line.partition('model="')[2].partition('"')[0]: float(line.split()[-1])
            for line in text.splitlines()
            if line.startswith("pilotfish_cost_usd_total")
        }
        assert spent["small"] + spent["judge"] == pytest.approx((n + 1) * SMALL_USD)
        assert (spent["judge"] > 0) is (signal == "verifier")


@pytest.mark.parametrize("asks", [False, True])
def test_logprobs_that_the_client_asked_for_are_the_answers_own(home: Path, asks: bool) -> None:
    adopt(home, route(signal="samples spread"))
    fields: dict[str, object] = {"logprobs": True, "top_logprobs": 2} if asks else {}
    with routed(home, [Reply(text="It is 7", logprob=-0.1)], routing=LOOKS) as (place, server):
        choice = json.loads(ask(place, **fields)[2])["choices"][0]  # type: ignore[arg-type]
        assert (choice["message"]["content"], "logprobs" in choice) == ("It is 7", asks)
        assert not asks or len(choice["logprobs"]["content"]) == len("It is 7")
        assert ["logprobs" in one.json for one in server.asked] == [True, False, False, False]


@pytest.mark.parametrize("broken", [Reply(status=500, body=b"{}"), Reply(closes=True), Reply(text="Perhaps")])
def test_a_verifier_that_fails_costs_the_client_no_reply(home: Path, broken: Reply) -> None:
    adopt(home, route(signal="verifier"))
    with routed(home, by_kind(SAYS_7, SAYS_7, broken), routing=LOOKS) as (place, _):
        code, headers, data = ask(place)
        assert (code, content(data), headers["x-pilotfish-reason"]) == (200, "from big", "asked-further")
        assert "why=unknown" in headers["x-pilotfish-route"]


def test_looks_count_towards_the_deadline_and_what_they_cost_is_not_known(home: Path) -> None:
    adopt(home, route(signal="verifier", own_s=0.1, further_s=0.2))
    script = by_kind(SAYS_7, SAYS_7, Reply(hangs=True))
    with routed(home, script, routing=LOOKS | {"deadline_s": 0.6}) as (place, server):
        began_s = time.perf_counter()
        _, headers, data = ask(place)
        assert (content(data), headers["x-pilotfish-reason"]) == ("from big", "asked-further")
        # Without the deadline the verifier would be waited for as long as any model, 600 s.
        assert time.perf_counter() - began_s < 20
        server.wait_for_hang_up()
        assert place.rows(1)[0].tried_usd is None


def test_a_beginning_is_decided_on_without_looks(home: Path) -> None:
    adopt(home, route(prefix=4))
    sure = Reply(text="It is 7", logprob=-0.1)
    with routed(home, [sure], routing=LOOKS) as (place, server):
        assert [ask(place, stream=stream)[1]["x-pilotfish-reason"] for stream in (False, True)] == ["kept", "kept"]
        assert len(server.asked) == 2


def test_a_key_pays_for_looks_and_one_that_may_not_use_the_verifier_gets_the_reference(home: Path) -> None:
    adopt(home, route(signal="verifier"))
    poor = make_key(home, "poor", usd_per_day=1e-4)
    other = make_key(home, "other", models=("small", "big"))
    with routed(home, by_kind(SAYS_7, SAYS_7, YES), routing=LOOKS) as (place, server):
        assert content(ask(place, model="", key=other)[2]) == "from big"
        assert server.asked == []
        said = [ask(place, key=poor, max_tokens=1) for _ in range(2)]
        assert said[0][1]["x-pilotfish-reason"] == "kept"
        # The question to the verifier, some 200 bytes, was held once; there is no room for it again, nor for the
        # reference.
        assert said[1][0] == 402
        assert [one.json["model"] for one in server.asked] == ["small", "judge", "small"]


@pytest.mark.parametrize(("sample", "n"), [(SAYS_7, 4), (Reply(status=500, body=b"{}"), 1)])
def test_what_looks_have_used_is_counted_at_the_key_and_what_failed_is_given_back(
    home: Path, sample: Reply, n: int
) -> None:
    adopt(home, route(signal="samples disagree"))
    # Room for the answer and the reference, of a body of 84 bytes and ten tokens, and not for three more answers.
    key = make_key(home, "own", usd_per_day=5.6e-4)
    with routed(home, by_kind(SAYS_7, sample, YES), routing=LOOKS) as (place, _):
        is_kept = content(ask(place, key=key, max_tokens=10)[2]) == "It is 7"
        assert is_kept is (n == 4)
    # Three samples at once, each held and settled by itself; the reference costs ten times as much.
    assert used(home, time.time(), "own")["usd_total"] == pytest.approx((n + 10 * (not is_kept)) * SMALL_USD)


def test_the_days_budget_holds_looks_and_keeps_what_it_cannot_look_at(home: Path) -> None:
    adopt(home, route(signal="samples disagree"))
    # Room for the answer (a body of some 90 bytes and ten tokens are held), not for three more of them.
    routing = LOOKS | {"usd_per_day": 9e-5}
    with routed(home, by_kind(SAYS_7, SAYS_7, YES), routing=routing) as (place, server):
        _, headers, data = ask(place, max_tokens=10)
        assert (content(data), headers["x-pilotfish-reason"]) == ("It is 7", "budget")
        budget = status(place)["budget"]
        assert budget["spent_usd_today"] == pytest.approx(len(server.asked) * SMALL_USD)
        assert len(server.asked) < 4
    with routed(home, by_kind(SAYS_7, SAYS_7, YES), routing=LOOKS | {"usd_per_day": 1.0}) as (place, server):
        before = status(place)["budget"]["spent_usd_today"]
        assert ask(place, max_tokens=10)[1]["x-pilotfish-reason"] == "kept"
        assert status(place)["budget"]["spent_usd_today"] - before == pytest.approx(4 * SMALL_USD)


def test_an_audit_adds_what_the_route_did_not_draw(home: Path) -> None:
    adopt(home, route(signal="verifier"))

    def script(asked: Asked) -> Reply:
        if "Yes or No" in asked.json["messages"][0]["content"]:
            return YES
        return Reply(text="Verdict: tie") if asked.json["model"] == "judge" else SAYS_7

    routing = LOOKS | {"audit_rate": 1.0, "judge": "judge", "usd_per_day": 1.0}
    with routed(home, script, routing=routing) as (place, server):
        assert ask(place)[1]["x-pilotfish-reason"] == "kept"
        row = tried_rows(place)[0]
        tried = json.loads(row.tried or "")
        assert (row.purpose, tried["samples"], tried["verifier"] > 0.5) == ("audit", ["It is 7"] * 3, True)
        assert row.cost_usd == pytest.approx(5 * SMALL_USD)
        # Nobody is asked twice: an answer, three samples, one verdict, and the judge in both orders.
        assert len(server.asked) == 7
        assert status(place)["budget"]["spent_usd_today"] == pytest.approx((7 + 10) * SMALL_USD)


def test_neither_the_log_nor_the_verifier_gets_what_must_not_leave(home: Path) -> None:
    rows = [{"role": "user", "content": "Write to jane@example.com"}]

    def script(asked: Asked) -> Reply:
        text = asked.json["messages"][0]["content"]
        return YES if asked.json["model"] == "judge" else Reply(text=f"{text} and joe@example.com")

    with routed(home, script, routing=PAIRS | LOOKS, privacy={"mode": "mask"}) as (place, server):
        ask(place, rows)
        row = tried_rows(place)[0]
        assert len(json.loads(row.tried or "")["samples"]) == 3
        assert all("@example.com" not in str(one.json) for one in server.asked)
        assert "@example.com" not in str(row)


@pytest.mark.parametrize(
    ("signal", "routing", "said"),
    [
        ("verifier", {"samples": 3}, "the route reads 'verifier', and [routing] verifier names no model"),
        ("samples spread", {"verifier": "judge"}, "the route reads 'samples spread', and [routing] samples is 0"),
        ("samples spread of 5", LOOKS, "the route reads 'samples spread' of 5, and [routing] samples is 3"),
        ("verifier by small", LOOKS, "the route reads 'verifier' of 'small', and [routing] verifier is 'judge'"),
        ("fails tests", LOOKS, "the route reads 'fails tests', which no live request shows"),
        ("verifier, soon", LOOKS, "the route reads 'verifier', which the first tokens of an answer do not show"),
    ],
)
def test_a_route_that_reads_what_is_not_provided_decides_nothing_and_says_so(
    home: Path, tmp_path: Path, capsys: Any, signal: str, routing: dict[str, object], said: str
) -> None:
    name, _, soon = signal.partition(", ")
    name, _, samples = name.partition(" of ")
    name, _, verifier = name.partition(" by ")
    found = route(signal=name, prefix=4 if soon else 0)
    found = replace(found, steps=(replace(found.steps[0], samples=int(samples or 0), verifier=verifier),))
    file, config = tmp_path / "route.json", tmp_path / "pilotfish.toml"
    RouteFile(route=found, verdict=promise(found)).save(file)
    wanted = {"models": ["small"], "margin": 0.05, "audit_rate": 0.0} | routing
    lines = "\n".join(f"{name} = {value!r}" for name, value in wanted.items())
    url = "url = 'http://127.0.0.1:9/v1'"
    config.write_text(
        f"[large]\n{url}\nmodel = 'big'\n[routing]\n{lines}\n[models.small]\n{url}\n[models.judge]\n{url}\n"
    )
    run = CommandLine(capsys)
    adopted = run("route", "adopt", file, "--config", config, "--home", home)
    assert (adopted.code, f"It decides nothing with these settings: {said}." in adopted.out) == (0, True)
    assert run("route", "adopt", file, "--config", config, "--home", home, "--json").json["why_none"] == said
    with routed(home, [SAYS_7], routing=routing) as (place, server):
        assert (content(ask(place)[2]), server.asked) == ("from big", [])
        assert status(place)["why_none"] == said


N_PAIRS = 260


def test_from_collected_looks_to_a_route_that_draws_them(home: Path, tmp_path: Path, capsys: Any) -> None:
    """Hard requests: the small model is wrong, its samples differ, and the verifier doubts."""
    drawn = iter(range(10**9))

    def script(asked: Asked) -> Reply:
        text = asked.json["messages"][0]["content"]
        is_hard = "hard" in text
        if "Verdict:" in text:
            if not is_hard:
                return Reply(text="Verdict: tie")
            return Reply(text="Verdict: 2" if text.index("It is 7") < text.index("from big") else "Verdict: 1")
        if asked.json["model"] == "judge":
            return verdict(("No", -0.1), ("Yes", -3.0)) if is_hard else YES
        differs = is_hard and asked.json.get("temperature") == 1
        return Reply(text=f"It is {8 + next(drawn)}") if differs else SAYS_7

    def asking(i: int) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"Item {i} {'hard' if i % 2 else 'soft'}"}]

    run, out, file = CommandLine(capsys), tmp_path / "outcomes.jsonl", tmp_path / "route.json"
    with routed(home, script, routing=PAIRS | LOOKS | {"judge": "judge"}) as (place, server):
        for i in range(N_PAIRS):
            ask(place, asking(i))
            if i % 20 == 19:
                tried_rows(place, i - 10)
        tried_rows(place, N_PAIRS)
        config = tmp_path / "pilotfish.toml"
        config.write_text(
            f'home = "{home}"\n[large]\nurl = "{server.url}"\nmodel = "big"\n[routing]\nmodels = ["small"]\n'
            f'judge = "judge"\nsamples = 3\nverifier = "judge"\nmargin = 0.15\n[models.small]\nurl = "{server.url}"\n'
            f'[models.judge]\nurl = "{server.url}"\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 2\n'
        )
        assert run("route", "outcomes", "--config", config, "--out", out, "--judge", "--json").json["outcomes"]
    outcomes = read_outcomes([out])
    assert all(len(one.tried["small"].samples) == 3 and one.tried["small"].verifier for one in outcomes)
    assert {one.tried["small"].verified_by for one in outcomes} == {"judge"}
    assert outcomes[0].tried["small"].cost_usd == pytest.approx(5 * SMALL_USD)
    said = run("route", "train", out, "--out", file, "--models", "small>big", "--margin", "0.15")
    assert said.code == 0, said.out
    step = RouteFile.load(file).route.steps[0]
    assert {"samples disagree", "verifier"} & set(step.gain.signals)
    assert step.verifier == ("judge" if "verifier" in step.gain.signals else "")
    assert step.samples == (3 if SAMPLED & set(step.gain.signals) else 0)
    assert run("route", "adopt", file, "--config", config, "--json").json["why_none"] is None
    with routed(home, script, routing=LOOKS | {"margin": 0.15}) as (place, _):
        said_live = [ask(place, asking(i)) for i in (1000, 1001)]
        assert [content(data) for _, _, data in said_live] == ["It is 7", "from big"]
        assert [headers["x-pilotfish-reason"] for _, headers, _ in said_live] == ["kept", "asked-further"]
