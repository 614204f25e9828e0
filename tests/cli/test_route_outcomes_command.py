"""`pilotfish route outcomes --judge`: several pairs before the judge at once, and nothing is paid twice."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from pilotfish.evals.outcomes import read_outcomes
from pilotfish.store.build import open_log, open_writer
from tools.command_line import PILOTFISH
from tools.log_rows import request_row, tried_row
from tools.upstream import Asked, Reply, Upstream, upstream

N = 10
"""Pairs in the log; each is two questions."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    open_log(home)
    writer = open_writer(home)
    for number in range(N):
        name, time_s = f"r{number}", float(number)
        writer.append(request_row(name, time_s=time_s, reference_answer="from big"))
        said = json.dumps({"text": "from small"})
        writer.append(tried_row(name, time_s=time_s, prompt=f"request-{number}", tried=said))
    writer.close()
    return home


def asked(home: Path, server: Upstream, *further: object) -> list[str]:
    config = home.parent / "pilotfish.toml"
    config.write_text(
        f'home = "{home}"\n[large]\nurl = "{server.url}"\nmodel = "big"\n'
        f'[routing]\nmodels = ["small"]\njudge = "big"\n[models.small]\nurl = "{server.url}"\n'
    )
    command = ["route", "outcomes", "--judge", "--json", "--config", config, "--out", home.parent / "o.jsonl"]
    return [str(part) for part in (*command, *further)]


def number(asked: Asked) -> int:
    """Which pair a question is about."""
    text: str = asked.json["messages"][0]["content"]
    return int(text.split("request-")[1].split(maxsplit=1)[0])


def verdict(asked: Asked, **fields: object) -> Reply:
    """Every third answer of the smaller model is the better one, the others are as good."""
    text: str = asked.json["messages"][0]["content"]
    word = "tie"
    if number(asked) % 3 == 0:
        word = "1" if text.index("from small") < text.index("from big") else "2"
    return Reply(text=f"Verdict: {word}", **fields)  # type: ignore[arg-type]


def test_eight_pairs_are_judged_at_once_and_written_in_the_order_of_time(pilotfish, home):
    with upstream(lambda it: verdict(it, delay_s=0.05 * (N - number(it)))) as server:
        said = pilotfish(*asked(home, server))
        assert said.code == 0, said.err
        assert said.json["outcomes"] == N
        assert 2 * 4 < server.n_connections <= 2 * 8
    found = read_outcomes([home.parent / "o.jsonl"])
    assert [one.prompt for one in found] == [f"request-{i}" for i in range(N)]
    assert [one.tried["small"].score for one in found] == [0.5 if i % 3 else 1.0 for i in range(N)]


def test_as_few_at_a_time_as_a_judge_can_bear(pilotfish, home):
    with upstream(verdict) as server:
        assert pilotfish(*asked(home, server, "--clients", 1)).json["outcomes"] == N
        assert server.n_connections <= 2


def test_what_a_judge_is_saying_when_it_fails_is_kept(pilotfish, home):
    def fails(it: Asked) -> Reply:
        return Reply(status=400, text="no") if number(it) == 2 else verdict(it, delay_s=0.3)

    with upstream(fails) as server:
        assert pilotfish(*asked(home, server)).code == 3
        assert len(server.asked) == 2 * 8, "nobody is asked after a failure"
    graded = {grade.request_id for grade in open_log(home).grades()}
    assert graded == {f"r{i}" for i in range(8) if i != 2}
    with upstream(verdict) as server:
        assert pilotfish(*asked(home, server)).json["outcomes"] == N
        assert {number(it) for it in server.asked} == {2, 8, 9}


def test_an_interrupted_judging_keeps_what_is_graded_and_leaves_no_mess(pilotfish, home):
    def hangs(it: Asked) -> Reply:
        return Reply(hangs=True) if number(it) >= 2 else verdict(it)

    with upstream(hangs) as server:
        command = [*PILOTFISH, *asked(home, server)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                server.wait_for_request(2 * N, timeout_s=20)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=120)
            finally:
                process.kill()
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert b"never retrieved" not in err
    assert not (home.parent / "o.jsonl").exists()
    assert {grade.request_id for grade in open_log(home).grades()} == {"r0", "r1"}
    with upstream(verdict) as server:
        assert pilotfish(*asked(home, server)).json["outcomes"] == N
        assert {number(it) for it in server.asked} == set(range(2, N))
