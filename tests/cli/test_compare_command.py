from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pilotfish.cli.main import EXIT_MODEL, EXIT_NO, EXIT_USER
from tools.command_line import PILOTFISH, files
from tools.compared import items, write_items, write_scores
from tools.served_home import TASK_ID, sentences
from tools.tiny_gguf import write_gguf
from tools.upstream import Reply, upstream


@pytest.fixture
def doors(tmp_path: Path) -> Path:
    return write_items(tmp_path / "doors.jsonl", 60)


RIGHT, UNSURE, SLOW = "tools.compared:right", "tools.compared:unsure", "tools.compared:slow"


def test_two_models_get_a_verdict_a_page_and_a_document(pilotfish, doors, tmp_path):
    flags = ["--on", doors, "--scorer", "exact", "--html", tmp_path / "p.html", "--markdown", tmp_path / "p.md"]
    said = pilotfish("compare", RIGHT, UNSURE, *flags)
    assert said.code == 0, said.err
    assert "unsure is worse than right: -66.7 points on 60 items" in said.out
    assert "60 items show a difference of" in said.err
    assert "not measured" in said.out or "rapl" in said.out
    assert "unsure is worse" in (tmp_path / "p.html").read_text()
    assert "unsure is worse" in (tmp_path / "p.md").read_text()


def test_goodput_and_repeats_stand_in_the_tables(pilotfish, doors):
    flags = ["--on", doors, "--scorer", "exact", "--limit", "5", "--repeats", "2", "--slo", "end_to_end=5000"]
    said = pilotfish("compare", RIGHT, *flags).out
    assert "the share of all requests that kept within end_to_end 5000 ms" in said
    assert "all of 2" in said


def test_json_has_the_five_axes(pilotfish, doors):
    found = pilotfish(
        "compare", RIGHT, f"b={UNSURE}", "--on", doors, "--scorer", "exact", "--rent", "b=1.5", "--json"
    ).json
    assert [model["name"] for model in found["models"]] == ["right", "b"]
    for model in found["models"]:
        assert model["quality"]["n"] == 60
        assert model["latency_s"]["end_to_end"]["p50"]["value"] > 0
        assert model["memory_bytes"]["value"] > 0
        assert {"j_per_request", "j_per_correct"} <= model["energy_j"][0].keys()
        assert model["money"]["usd_per_task"]["value"] is None
    assert found["comparisons"][0]["verdict"] == "worse"
    assert found["comparisons"][0]["mcnemar"]["exact"] < 0.001
    assert Path(found["run"]).is_file()


def test_the_same_command_again_asks_nobody(pilotfish, doors, tmp_path):
    flags = ["--on", doors, "--scorer", "exact", "--json", "--run", tmp_path / "run.jsonl"]
    first = pilotfish("compare", RIGHT, UNSURE, *flags)
    again = pilotfish("compare", RIGHT, UNSURE, *flags)
    assert "120 answers are in" in again.err
    assert again.json["models"] == first.json["models"]
    assert "not asked again" not in pilotfish("compare", RIGHT, UNSURE, *flags, "--fresh").err


def test_fresh_forgets_runs_and_nothing_else(pilotfish, doors, tmp_path):
    (tmp_path / "diary.txt").write_text("dear diary\n")
    said = pilotfish("compare", RIGHT, "--on", doors, "--run", tmp_path / "diary.txt", "--fresh")
    assert said.code == EXIT_USER
    assert "is no run file" in said.err
    assert (tmp_path / "diary.txt").read_text() == "dear diary\n"


def test_data_that_does_not_suffice_is_the_honest_no(pilotfish, tmp_path):
    scores = write_scores(tmp_path / "s.jsonl", {"a": [1.0, 0.0] * 25, "b": [0.0, 1.0] * 2 + [1.0, 0.0] * 23})
    said = pilotfish("compare", f"{scores}#a", f"{scores}#b", "--on", "recorded", "--margin", "0.05")
    assert said.code == EXIT_NO
    assert "Not enough data to tell b from a" in said.out
    assert "more items would decide" in said.out


def test_a_plan_asks_nobody(pilotfish, doors):
    with upstream([Reply(closes=True)]) as server:
        models = [f"{server.url}#a", f"{server.url}#b"]
        said = pilotfish(
            "compare", *models, "--on", doors, "--plan", "--discordance", "0.2", "--margin", "0.05", "--json"
        )
        assert not server.asked
    assert (said.code, said.json["rows"][0]["items_for_margin"]) == (EXIT_NO, 495)
    table = pilotfish("compare", *models, "--on", doors, "--plan", "--margin", "0.5")
    assert table.code == 0
    assert "What 60 items can show" in table.out


def test_a_key_goes_only_where_it_was_named(pilotfish, doors, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-the-large-model")
    monkeypatch.setenv("OTHER_KEY", "secret-of-the-other")
    with upstream([Reply(text="red")]) as server:
        flags = ["--on", doors, "--scorer", "exact", "--limit", "3"]
        assert pilotfish("compare", f"{server.url}#a", *flags).code == 0
        assert "authorization" not in server.asked[0].headers
        pilotfish("compare", f"{server.url}#a", *flags, "--key-env", "OTHER_KEY", "--fresh")
        assert server.asked[-1].headers["authorization"] == "Bearer secret-of-the-other"


def test_a_server_that_is_not_there_is_a_model_error_and_leaves_no_answers(pilotfish, doors):
    said = pilotfish("compare", "http://127.0.0.1:9/v1#gone", "--on", doors)
    assert said.code == EXIT_MODEL
    assert len(said.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nonsense"], "is nothing that answers"),
        ([RIGHT, RIGHT], "Two models are called 'right'"),
        ([RIGHT, "--price", "right=cheap"], "USD per million|US dollars per million"),
        ([RIGHT, "--rent", "right=much"], "--rent expects"),
        ([RIGHT, "--slo", "ttft=soon"], "is no time"),
        ([RIGHT, "--slo", "itl=5"], "Known: ttft, tpot, end_to_end"),
        ([RIGHT, "--price", "cheap"], "expected NAME=VALUE"),
        ([RIGHT, "--perturb", "rain"], "'rain' is not one of"),
    ],
)
def test_what_cannot_be_used_is_named(pilotfish, doors, arguments, named):
    said = pilotfish("compare", *arguments, "--on", doors, "--scorer", "exact")
    assert said.code == EXIT_USER
    assert any(part in said.err for part in named.split("|"))
    assert "Traceback" not in said.err


def test_a_recording_that_holds_other_items_is_refused(pilotfish, doors, tmp_path):
    (tmp_path / "r.jsonl").write_text('{"id": "elsewhere", "answer": "red"}\n')
    said = pilotfish("compare", tmp_path / "r.jsonl", "--on", doors)
    assert said.code == EXIT_USER
    assert "is answered by every model" in said.err


def test_items_that_a_recording_lacks_are_left_out_and_counted(pilotfish, doors, tmp_path):
    rows = [{"id": i.id, "answer": i.expected} for i in items(40)]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = pilotfish("compare", tmp_path / "r.jsonl", UNSURE, "--on", doors, "--scorer", "exact", "--json").json
    assert (found["items"], found["left_out"]) == (40, 20)


def test_a_cascade_with_a_stated_certainty(pilotfish, doors):
    found = pilotfish("compare", f"both={UNSURE}>{RIGHT}@0.5", "--on", doors, "--scorer", "exact", "--json").json
    assert found["models"][0]["escalated"]["value"] == 0.5


def test_a_specialist_of_the_home_and_the_cascade_of_its_certificate(pilotfish, certified, tiny, tmp_path):
    rows = [{"id": str(i), "input": text, "output": colour} for i, (text, colour) in enumerate(sentences(30))]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    flags = ["--on", tmp_path / "data.jsonl", "--scorer", "exact", "--home", certified, "--json"]
    found = pilotfish("compare", f"small={TASK_ID}", f"both={TASK_ID}>{RIGHT}", *flags)
    assert found.code in (0, EXIT_NO), found.err
    small, both = found.json["models"]
    assert small["kind"] == "specialist"
    assert small["quality"]["value"] > 0.8
    assert small["trust"]["n"] == 30
    assert both["escalated"]["value"] < 0.5


def test_ctrl_c_leaves_a_run_that_goes_on(doors, tmp_path):
    tests = Path(__file__).parents[1]
    command = [
        *PILOTFISH,
        "compare",
        SLOW,
        "--on",
        str(doors),
        "--scorer",
        "exact",
        "--run",
        str(tmp_path / "run.jsonl"),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        [*command, "--repeats", "20"], env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    run = tmp_path / "run.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not run.exists() or run.read_bytes().count(b'"row":"answer"') < 10):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "are not asked again" in done.stderr
    assert files(tmp_path) == ["doors.jsonl", "home", "run.jsonl"]  # which keeps the report


def test_help_needs_no_numbers():
    code = (
        "import sys\nfrom pilotfish.cli.main import run\nrun(['compare', '--help'])\n"
        "assert not {'numpy', 'onnxruntime', 'asyncio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_an_endpoint_judges_in_both_orders(pilotfish, tmp_path):
    path = write_items(tmp_path / "doors.jsonl", 4)
    with upstream([Reply(text="no verdict at all")]) as server:
        flags = ["--on", path, "--judge", f"{server.url}#judge", "--max-tokens", "2", "--json"]
        found = pilotfish("compare", RIGHT, *flags).json
        assert len(server.asked) == 8
        assert all("max_tokens" not in asked.json for asked in server.asked)
    assert found["scorer"].startswith(f"judge {server.url}#judge, question ")
    # A judge that cannot be read is counted, not dropped.
    assert found["models"][0]["failures"]["parse"] == 4
    assert found["judge"]["right"]["n_unreadable"] == 4


def test_the_configured_model_judges_one_model_after_the_other(pilotfish, doors, monkeypatch):
    with upstream([Reply(text="Verdict: 1")]) as server:
        monkeypatch.setenv("PILOTFISH_LARGE_URL", server.url)
        monkeypatch.setenv("PILOTFISH_LARGE_MODEL", "big")
        flags = ["--on", doors, "--limit", "4", "--judge", "large", "--json"]
        found = pilotfish("compare", RIGHT, UNSURE, *flags).json
        assert len(server.asked) == 16
    assert {name: one["prefers_first"] for name, one in found["judge"].items()} == {"right": 1.0, "unsure": 1.0}


def test_how_far_a_judge_can_be_trusted_stands_in_every_form_of_the_report(pilotfish, tmp_path):
    path, labels = write_items(tmp_path / "doors.jsonl", 4), tmp_path / "labels.jsonl"
    labels.write_text("".join(f'{{"id": "i{n}", "preferred": {n % 2 + 1}}}\n' for n in range(4)))
    forms = ["--html", tmp_path / "p.html", "--markdown", tmp_path / "p.md"]
    said = pilotfish("compare", RIGHT, "--on", path, "--judge", "tools.compared:first", "--human", labels, *forms)
    for text in (said.out, (tmp_path / "p.html").read_text(), (tmp_path / "p.md").read_text()):
        assert "How far the judge can be trusted" in text
        assert "kappa" in text
    assert "0.000" in said.out, "always a tie: no better than chance"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--judge", "doors.jsonl"], "cannot judge: it is a recording"),
        (["--judge", RIGHT, "--scorer", "exact"], "Choose one of them"),
        (["--scorer", "judge"], "--judge MODEL"),
        (["--human", "doors.jsonl"], "there is none"),
    ],
)
def test_a_judge_that_cannot_judge_is_named_before_anybody_is_asked(pilotfish, tmp_path, monkeypatch, flags, named):
    monkeypatch.chdir(tmp_path)
    write_items(tmp_path / "doors.jsonl", 4)
    said = pilotfish("compare", "tools.compared:slow", "--on", "doors.jsonl", "--home", tmp_path / "home", *flags)
    assert (said.code, named in said.err) == (EXIT_USER, True), said.err


def test_a_model_file_is_measured_in_this_process(pilotfish, doors, tmp_path):
    pytest.importorskip("xllamacpp", reason="needs the llama extra")
    path = write_gguf(tmp_path / "tiny.gguf")
    flags = ["--on", doors, "--scorer", "exact", "--limit", "3", "--max-tokens", "4", "--logprobs", "--json"]
    (model,) = pilotfish("compare", f"mine={path}", *flags).json["models"]
    assert (model["name"], model["kind"]) == ("mine", "weights")
    assert model["latency_s"]["tpot"]["p50"]["value"] > 0
    assert model["completion_tokens"]["value"] == 4
    assert model["memory_bytes"]["value"] > 1e7
    assert model["trust"]["n"] == 3


def test_an_option_of_the_scorer(pilotfish, tmp_path):
    (tmp_path / "sums.jsonl").write_text('{"id": "a", "input": "7 and 3 is red", "output": "10"}\n')
    (tmp_path / "said.jsonl").write_text('{"id": "a", "answer": "10.4"}\n')
    flags = ["--on", tmp_path / "sums.jsonl", "--scorer", "number", "--json"]
    assert pilotfish("compare", tmp_path / "said.jsonl", *flags).json["models"][0]["quality"]["value"] == 0.0
    near = pilotfish("compare", tmp_path / "said.jsonl", *flags, "--scorer-option", "tolerance=0.5").json
    assert near["models"][0]["quality"]["value"] == 1.0
    assert near["scorer"] == "number tolerance=0.5"
