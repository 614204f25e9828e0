"""What an exported specialist weighs and costs: disk, memory, time to its first answer, and the same bits as Pilotfish.

    OPENBLAS_NUM_THREADS=1 python benchmarks/students/export.py [--web]

banking77 (77 classes, the largest of our tasks), learnt on its official training split and exported. The runner is then
measured in a fresh virtual environment with numpy, onnxruntime and tokenizers alone, on one core, with 256 MB of
address space (`ulimit -v`) and, where `unshare` is permitted, without a network. "First answer" is wall time from the
start of the process to its first line, the files in the page cache; CPU seconds depend less on what else the machine
does. With --web the page is compared instead: Chromium answers the same texts, all by the encoder, with the
onnxruntime-web of PILOTFISH_NODE_CLIENTS (`make test-clients` installs it) or of a node_modules above. Needs
../shared/data, a package index or a full cache. Writes benchmarks/results/export-DATE.json or export_web-DATE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from pilotfish.core.certificate import SCORERS, Certificate, Claim, FirstTier
from pilotfish.core.example import Example
from pilotfish.core.task import Task
from pilotfish.routing.policy import policy_of
from pilotfish.scoring.answers import parse, render, settle
from pilotfish.specialists.export import export, find_web_runtime
from pilotfish.specialists.specialist import Specialist
from pilotfish.students.distil import distil
from pilotfish.students.encoder_cache import built_encoder, open_encoder

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]

from record import labelled, save, show  # noqa: E402

N_TEXTS = 1000
N_STARTS = 15
LIMIT_BYTES = 256 << 20
TARGETS = {"disk_mb": 30.0, "rss_mib": 120.0, "first_answer_s": 0.5}


def learn(cache: Path, home: Path) -> tuple[Specialist, Path]:
    rows = [row for row in labelled("banking77") if row["split"] == "train"]
    shape = settle(row["label"] for row in rows)
    task = Task(id="0" * 16, name="banking", instructions_id="", instructions="", shape=shape)
    encoder = open_encoder(cache)
    examples = [Example(text=row["text"], answer=parse(shape, row["label"]), time_s=0) for row in rows]
    folder = distil(examples, task, encoder, home).folder
    return Specialist.load(folder, encoder), folder


def gates_for_this(specialist: Specialist) -> Certificate:
    """Thresholds that make every kind of decision occur; nothing is promised here, nothing was certified."""
    return Certificate(
        task_id="0" * 16, task_name="banking", claim=Claim(max_risk=0.05), bound=1.0, min_certainty=0.8, min_scope=0.6,
        coverage=0.0, n=0, n_served=0, errors=0.0, attempt=0, delta_spent=0.0, schedule="", start_certainty=0.0,
        procedure="none: a benchmark of the runner", split_rule="", scorer=SCORERS[1], data_sha256="",
        artefact_sha256=specialist.sha256, created_at="",
        first=FirstTier(min_certainty=0.9, min_scope=0.7, n_served=0, errors=0.0, max_share=0.0),
    )  # fmt: skip


def empty_environment(folder: Path) -> str:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "-c", ROOT / "constraints.txt"]
    # Without what they name as dependencies: the three alone must do.
    subprocess.run([*pip, "--no-deps", "numpy", "onnxruntime", "tokenizers"], check=True)
    return python


def isolated() -> list[str]:
    command = ["unshare", "-rn"]
    can = shutil.which("unshare") and subprocess.call([*command, "true"], stderr=subprocess.DEVNULL) == 0
    return command if can else []


# In a small process of its own: what is forked begins with the peak memory of its parent.
DRIVER = """
import json, os, resource, subprocess, sys, time

def limit():
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)

for _ in range(int(sys.argv[1])):
    began = time.perf_counter()
    process = subprocess.Popen(sys.argv[3:], stdout=subprocess.PIPE, preexec_fn=limit, env={"PATH": os.environ["PATH"]})
    line = process.stdout.readline()
    wall_s = time.perf_counter() - began
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0 and json.loads(line)["decision"]
    cpu_s = usage.ru_utime + usage.ru_stime
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "rss_mib": usage.ru_maxrss / 1024}))
"""


def starts(python: str, folder: Path, text: str) -> list[dict[str, float]]:
    command = [*isolated(), python, str(folder / "answer.py"), text]
    driver = [sys.executable, "-S", "-c", DRIVER, str(N_STARTS), str(LIMIT_BYTES)]
    done = subprocess.run([*driver, *command], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def agreement(python: str, folder: Path, specialist: Specialist, texts: list[str]) -> dict[str, int]:
    """In how many texts answer, scores, tier and decision are those of Pilotfish, to the last bit."""
    certificate = json.loads((folder / "certificate.json").read_text())
    policy = policy_of(Certificate.from_json(certificate))
    code = "import json, sys, answer; print(json.dumps([answer.answer(text) for text in json.load(sys.stdin)]))"
    done = subprocess.run(
        [python, "-c", code], cwd=folder, input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    alike = served = 0
    for text, said in zip(texts, json.loads(done.stdout), strict=True):
        found, tier = specialist.predict_first([text]), 1
        accepted = policy.accepts_first(found.certainty[0], found.scope[0])
        reason = "certified"
        if not accepted:
            found, tier = specialist.predict([text]), 2
            reason = policy.decide(found.certainty[0], found.scope[0])
        ours = (render(specialist.card.shape, found.answers[0]), found.certainty[0], found.scope[0], tier, reason)
        theirs = (
            said.get("answer", said.get("guess")),
            *(said[key] for key in ("certainty", "scope", "tier", "reason")),
        )
        alike += ours == theirs
        served += reason == "certified"
    return {"texts": len(texts), "alike_to_the_last_bit": alike, "served": served}


def compare_page(specialist: Specialist, folder: Path, encoder: Path, place: Path, texts: list[str]) -> None:
    """What Chromium answers the same texts by the encoder alone, against what the runner does."""
    from clients import test_browser

    packages = Path(os.environ.get("PILOTFISH_NODE_CLIENTS", ""))
    certificate = replace(gates_for_this(specialist), first=None)
    exported = export(folder, encoder, certificate, place / "web", web_runtime=find_web_runtime(None, packages))
    test_browser.TEXTS[:] = texts
    with test_browser.browsing(exported.folder, place / "profile", within_s=600) as heard:
        assert "error" not in heard, heard
    pairs = list(zip(heard["said"], test_browser.in_python(exported.folder), strict=True))
    scores = ("certainty", "scope")
    figures = {
        "texts": len(texts),
        "same_answer": sum(a.get("answer", a.get("guess")) == b.get("answer", b.get("guess")) for a, b in pairs),
        "same_decision": sum(a["decision"] == b["decision"] for a, b in pairs),
        # Scores are made of numbers that were rounded to four places; what is left is of another order of the sums.
        "same_scores": sum(all(abs(a[score] - b[score]) < 1e-6 for score in scores) for a, b in pairs),
        **{f"largest_difference_of_{score}": max(abs(a[score] - b[score]) for a, b in pairs) for score in scores},
        "disk_mb": round(sum(exported.files.values()) / 1e6, 1),
    }
    print("in Chromium:", figures)
    print(save("export_web", **figures).name)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--web", action="store_true")
    web = parser.parse_args().web
    texts = [row["text"] for row in labelled("banking77") if row["split"] == "test"][:N_TEXTS]
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        specialist, folder = learn(place / "cache", place / "home")
        certificate, encoder = gates_for_this(specialist), built_encoder(place / "cache")
        if web:
            compare_page(specialist, folder, encoder, place, texts)
            return
        exported = export(folder, encoder, certificate, place / "out")
        python = empty_environment(place / "venv")
        figures: dict[str, Any] = {"disk_mb": round(sum(exported.files.values()) / 1e6, 2)}
        rows = []
        for tier in (1, 2):
            found = starts(python, exported.folder, text_of(specialist, certificate, texts, tier))
            rows.append(
                {
                    "tier": tier,
                    "starts": len(found),
                    "first_answer_s": round(statistics.median(it["wall_s"] for it in found), 3),
                    "fastest_s": round(min(it["wall_s"] for it in found), 3),
                    "cpu_s": round(statistics.median(it["cpu_s"] for it in found), 3),
                    "rss_mib": round(max(it["rss_mib"] for it in found), 1),
                }
            )
        cells = [{**row, "rss_mib": str(row["rss_mib"])} for row in rows]
        show(f"the runner alone, {figures['disk_mb']} MB, one core, 256 MB of address space", cells)
        figures["alike"] = agreement(python, exported.folder, specialist, texts)
        print("against Pilotfish:", figures["alike"])
        has_no_network = bool(isolated())
    print(save("export", targets=TARGETS, without_network=has_no_network, starts=rows, **figures).name)


def text_of(specialist: Specialist, certificate: Certificate, texts: list[str], tier: int) -> str:
    """The first text that this tier answers."""
    policy = policy_of(certificate)
    for text in texts:
        found = specialist.predict_first([text])
        if policy.accepts_first(found.certainty[0], found.scope[0]) == (tier == 1):
            return text
    raise AssertionError(tier)


if __name__ == "__main__":
    main()
