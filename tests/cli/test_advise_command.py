from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from pilotfish.cli import main
from pilotfish.cli.main import EXIT_NO, EXIT_USER
from tools.command_line import PILOTFISH
from tools.compared import write_scores
from tools.served_home import TASK_ID

PRICES = ["--price", "large=2/10@list 2026-11-22", "--price", "near=0.1/0.5@list 2026-11-22"]
FIXED = ["--bandwidth", "20", "--memory", "8", "--tokens", "400/20"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of compare on recordings: `near` loses one item of 400, `far` every fourth."""
    folder = tmp_path_factory.mktemp("compared")
    scores = {
        "large": [1.0] * 400,
        "near": [0.0] + [1.0] * 399,
        "far": [float(i % 4 > 0) for i in range(400)],
    }
    path = write_scores(folder / "s.jsonl", scores)
    models = [f"{path}#{name}" for name in scores]
    assert main.run(["compare", *models, "--on", "recorded", "--run", str(folder / "run.jsonl")]) == 0
    return folder / "run.jsonl"


def test_the_cheaper_model_that_is_good_enough_is_taken(pilotfish, run, tmp_path):
    flags = ["--run", run, "--volume", "1000/h", *PRICES, *FIXED]
    said = pilotfish("advise", *flags, "--html", tmp_path / "page.html")
    assert said.code == 0, said.err
    assert "Take near (small only): $36.50 (estimate) a month at 1,000 requests an hour." in said.out
    assert "Runner-up: large" in said.out
    assert "far is worse than large" in said.out
    assert "always large" in said.out
    page = (tmp_path / "page.html").read_text()
    assert "<svg" in page
    assert "Take near" in page
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    found = pilotfish("advise", *flags, "--json").json
    assert (found["answer"], found["runner_up"]) == ("near", "large")
    verdicts = {row["name"]: row["verdict"] for row in found["options"]}
    assert verdicts == {"large": "reference", "near": "non-inferior", "far": "worse"}


def test_without_prices_there_is_no_answer_and_what_is_missing_is_said(pilotfish, run):
    said = pilotfish("advise", "--run", run, "--volume", "10/h", *FIXED)
    assert said.code == EXIT_NO
    assert "No answer" in said.out
    assert "Find out about large, near: no price (--price NAME=IN/OUT@SOURCE, or" in said.out


def test_a_file_says_what_a_model_on_ones_own_machine_costs(pilotfish, run, tmp_path):
    (tmp_path / "needs.toml").write_text(
        'volume = "100/h"\nlocal = true\nlanguages = ["de"]\n[candidates.near]\nrent = "0.8@6000"\nlanguages = ["de"]\n'
    )
    flags = ["--run", run, "--needs", tmp_path / "needs.toml", *PRICES, *FIXED, "--json"]
    found = pilotfish("advise", *flags).json
    assert found["answer"] == "near"
    excluded = {row["name"]: list(row["excluded_by"]) for row in found["options"] if row["excluded_by"]}
    assert excluded == {"large": ["local"], "far": ["local"]}
    assert found["options"][1]["usd_per_month"] == pytest.approx(0.8 * 730)
    assert pilotfish("advise", *flags, "--not-local").json["answer"] == "large"


def test_the_specialist_of_a_home_with_its_large_model(pilotfish, certified, tiny):
    flags = ["--home", certified, "--volume", "1000/h", "--margin", "5%", "--machine", "0.01", *FIXED, "--json"]
    found = pilotfish("advise", *flags)
    assert found.code == 0, found.err
    options = {row["shape"]: row for row in found.json["options"]}
    assert found.json["answer"] == options["specialist + large"]["name"]
    assert options["specialist + large"]["verdict"] == "certified"
    assert options["specialist + large"]["usd_per_month"] < options["large only"]["usd_per_month"]
    assert found.json["builds"] == []
    strict = pilotfish("advise", *flags, "--margin", "1%", "--task", TASK_ID).json
    assert strict["answer"] == options["large only"]["name"]
    assert strict["builds"][0]["command"].startswith("pilotfish certify ")


def test_asking_for_advice_makes_no_home(pilotfish, run, tmp_path):
    pilotfish("advise", "--run", run, "--volume", "10/h", "--home", tmp_path / "none", *PRICES, *FIXED)
    assert not (tmp_path / "none").exists()
    said = pilotfish("advise", "--task", "x", "--volume", "10/h", "--home", tmp_path / "none", *FIXED)
    assert said.code == EXIT_USER
    assert "there is no home yet" in said.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--volume", "many"], "A volume such as 120/h"),
        (["--volume", "10/h", "--rent", "near=much"], "The rent of 'near'"),
        (["--volume", "10/h", "--price", "near"], "expected NAME=VALUE"),
        (["--volume", "10/h", "--reference", "nobody"], "holds no model 'nobody'"),
        (["--volume", "10/h", "--model", "no-such-model"], "no model 'no-such-model'"),
        (["--volume", "10/h", "--upkeep-hours", "3"], "both its hours a month"),
        ([], "State it: --volume"),
    ],
)
def test_what_cannot_be_used_is_named(pilotfish, run, tmp_path, arguments, named):
    said = pilotfish("advise", "--run", run, "--home", tmp_path / "none", *FIXED, *arguments)
    assert said.code == EXIT_USER
    assert named in said.err
    assert "Traceback" not in said.err


def test_several_runs_in_a_home_are_not_mixed(pilotfish, certified, tiny, run):
    (certified / "runs").mkdir(exist_ok=True)
    for name in ("a.jsonl", "b.jsonl"):
        (certified / "runs" / name).write_bytes(run.read_bytes())
    found = pilotfish("advise", "--home", certified, "--volume", "10/h", "--machine", "0", *FIXED, "--json").json
    assert found["run"] is None
    assert "The home holds 2 runs" in found["notes"][0]


def test_on_a_terminal_it_asks_for_what_is_missing_and_again_after_a_wrong_answer(run, tmp_path):
    ours, theirs = pty.openpty()
    command = [*PILOTFISH, "advise", "--run", str(run), "--home", str(tmp_path / "none"), "--offline", *PRICES, *FIXED]
    process = subprocess.Popen(
        [*command, "--rent", "near=0.8@6000"], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    # Volume (wrong, then right), latency, budget, local, context, margin, languages, machine, upkeep and its price.
    os.write(ours, b"lots\n100/h\n\n\n\n\n3%\n\n\n2\n50\n")
    out, err = process.communicate(timeout=120)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 0, err
    assert "A volume such as 120/h, 3000/day or 90000/month expected, got 'lots'." in err
    assert "Must it work without a network?" not in err
    assert f"Take near (small only): ${0.8 * 730 + 100:,.2f} a month at 100 requests an hour." in out
    assert "Looking after what runs" not in out


def test_help_needs_no_numbers():
    code = (
        "import sys\nfrom pilotfish.cli.main import run\nrun(['advise', '--help'])\n"
        "assert not {'numpy', 'onnxruntime', 'asyncio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
