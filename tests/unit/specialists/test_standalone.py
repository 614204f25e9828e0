"""The exported folder answers what Pilotfish answers, to the last bit, with three packages and nothing else."""

import ast
import hashlib
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import onnxruntime
import pytest
import tokenizers

from pilotfish.core.certificate import FirstTier
from pilotfish.core.errors import SpecialistError, UserError
from pilotfish.routing.policy import policy_of
from pilotfish.scoring.answers import render
from pilotfish.specialists import export as exporting
from pilotfish.specialists.card import NAME
from pilotfish.specialists.export import export, find_web_runtime
from pilotfish.specialists.specialist import Specialist
from pilotfish.students.distil import distil
from pilotfish.students.encoder_cache import built_encoder, open_encoder
from tools.certificates import certificate
from tools.tiny_models import write_tiny_bert
from tools.tiny_tasks import examples, json_task, label_task, triage_examples

ODD = ["", "  ", "ß ÉCOLE ΣΑΣ", "日本語 " * 900, "x" * 20000, "\ud800 lone", "[SEP] refund", "hi " * 3000, "_ 9 ."]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A cache with the tiny encoder, and a specialist of one field and one of two."""
    folder = tmp_path_factory.mktemp("place")
    weights = write_tiny_bert(folder / "tiny-bert")
    encoder = open_encoder(folder / "cache", str(weights))
    label = distil(examples(300), label_task(), encoder, folder / "home")
    triage = distil(triage_examples(300), json_task(), encoder, folder / "home")
    return built_encoder(folder / "cache", str(weights)), encoder, {"label": label.folder, "json": triage.folder}


def written(place, to, kind="label", web_runtime=None, **gates):
    built, encoder, folders = place
    specialist = Specialist.load(folders[kind], encoder)
    proven = certificate(artefact_sha256=specialist.sha256, **gates)
    return export(folders[kind], built, proven, to, web_runtime=web_runtime), specialist, proven


def runner(folder):
    spec = importlib.util.spec_from_file_location("standalone_answer", folder / "answer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def expected(specialist, policy, text):
    first, found, tier = specialist.predict_first([text]), specialist.predict([text]), 2
    reason = policy.decide(found.certainty[0], found.scope[0])
    if policy.accepts_first(first.certainty[0], first.scope[0]):
        found, reason, tier = first, "certified", 1
    scores = {"certainty": float(found.certainty[0]), "scope": float(found.scope[0])}
    said = render(specialist.card.shape, found.answers[0])
    outcome = {"decision": "serve", "answer": said} if reason == "certified" else {"decision": "defer", "guess": said}
    return {**outcome, "reason": reason, **scores, "tier": tier}


@pytest.mark.parametrize("kind", ["label", "json"])
def test_answers_scores_and_decisions_are_those_of_pilotfish_to_the_last_bit(place, tmp_path, kind):
    first = FirstTier(min_certainty=0.99, min_scope=0.9, n_served=1, errors=0, max_share=0.5)
    _, specialist, proven = written(place, tmp_path / "out", kind, min_certainty=0.8, min_scope=0.999, first=first)
    alone, policy = runner(tmp_path / "out"), policy_of(proven)
    texts = [example.text for example in examples(150, seed=5)] + ODD + [f"{text} tomorrow qq" for text in ODD]
    pairs = zip(examples(50, seed=6), examples(50, seed=7), strict=True)
    texts += [f"{one.text} or {other.text} xy" for one, other in pairs]
    found = [alone.answer(text) for text in texts]
    assert found == [expected(specialist, policy, text) for text in texts]
    assert {(said["tier"], said["reason"]) for said in found} == {
        (1, "certified"), (2, "certified"), (2, "uncertain"), (2, "out-of-scope"),
    }  # fmt: skip


def test_without_a_first_tier_every_text_is_encoded(place, tmp_path):
    _, specialist, proven = written(place, tmp_path / "out", min_certainty=0.5, min_scope=0.5)
    alone = runner(tmp_path / "out")
    for text in [example.text for example in examples(20, seed=8)]:
        assert alone.answer(text) == expected(specialist, policy_of(proven), text)


def code_lines(source):
    tree = ast.parse(source)
    documented = [node.body[0] for node in ast.walk(tree) if isinstance(node, ast.Module | ast.FunctionDef)]
    texts = [node for node in documented if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    prose = {line for node in texts for line in range(node.lineno, node.end_lineno + 1)}
    return [
        line
        for number, line in enumerate(source.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#") and number not in prose
    ]


def test_the_runner_is_sixty_lines_of_code_that_fit_on_a_screen():
    source = (Path(exporting.__file__).parent / "standalone" / "answer.py").read_text("utf-8")
    assert len(code_lines(source)) <= 60
    assert max(map(len, source.splitlines())) <= 120


def test_it_runs_with_three_packages_in_256_megabytes_without_a_network(place, tmp_path):
    """In a process that sees the standard library and these three alone."""
    written(place, tmp_path / "out", min_certainty=0.5, min_scope=0.5)
    packages = tmp_path / "packages"
    packages.mkdir()
    for module in (numpy, onnxruntime, tokenizers):
        home = Path(module.__file__).parent
        for path in (home, home.with_name(f"{home.name}.libs")):
            if path.is_dir():
                (packages / path.name).symlink_to(path)
    command = [sys.executable, "-S", "-B", str(tmp_path / "out" / "answer.py"), "refund please", "zyx qqq 77"]
    if shutil.which("unshare") and not subprocess.call(["unshare", "-rn", "true"], stderr=subprocess.DEVNULL):
        command = ["unshare", "-rn", *command]
    done = subprocess.run(
        command,
        env={"PYTHONPATH": str(packages), "HOME": str(tmp_path / "nowhere"), "PATH": os.environ["PATH"]},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (256 << 20, 256 << 20)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert [(it["decision"], it.get("answer")) for it in said] == [("serve", "Refund"), ("defer", None)]
    assert not (tmp_path / "nowhere").exists()


def test_the_folder_can_be_checked_against_the_certificate_by_hashes_alone(place, tmp_path):
    exported, _, proven = written(place, tmp_path / "out")
    sums = dict(line.split("  ")[::-1] for line in (tmp_path / "out" / "SHA256SUMS").read_text().splitlines())
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {name: len(content) for name, content in found.items()} == exported.files
    del found["SHA256SUMS"]
    assert sums == {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}
    assert sums[NAME] == proven.artefact_sha256
    assert sums["model.safetensors"] == json.loads(found[NAME])["files"]["model.safetensors"]
    assert json.loads(found["certificate.json"]) == json.loads(json.dumps(proven.to_json()))


def test_a_page_takes_its_runtime_with_it(place, tmp_path):
    runtime = tmp_path / "project" / "node_modules" / "onnxruntime-web" / "dist"
    runtime.mkdir(parents=True)
    for name in exporting.WEB_RUNTIME:
        (runtime / name).write_bytes(b"runtime")
    (tmp_path / "project" / "deep").mkdir()
    for named, beside in ((None, tmp_path / "project" / "deep"), (runtime.parent, tmp_path), (runtime, tmp_path)):
        assert find_web_runtime(named, beside) == runtime
    exported, _, _ = written(place, tmp_path / "out", web_runtime=runtime)
    assert {"index.html", "specialist.js", *exporting.WEB_RUNTIME} < set(exported.files)
    setup = json.loads((tmp_path / "out" / "setup.json").read_bytes())
    assert setup["casefold"]["\u0131"] == "\u0131"
    assert "python -m http.server" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("named", [None, "empty"])
def test_a_missing_runtime_is_said_with_what_to_do(tmp_path, named):
    with pytest.raises(UserError, match=r"ort\.wasm\.min\.mjs.*npm install onnxruntime-web"):
        find_web_runtime(named and tmp_path / named, tmp_path)


def test_what_the_runner_cannot_compute_is_refused(place, tmp_path):
    built, _, folders = place
    copy = tmp_path / "other"
    shutil.copytree(folders["label"], copy)
    card = json.loads((copy / NAME).read_text())
    card["students"] = ["span heads"]
    (copy / NAME).write_text(json.dumps(card))
    proven = certificate(artefact_sha256=hashlib.sha256((copy / NAME).read_bytes()).hexdigest())
    with pytest.raises(SpecialistError, match=r"span heads.*Closed answers"):
        export(copy, built, proven, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_certificate_about_another_specialist_is_refused(place, tmp_path):
    built, _, folders = place
    with pytest.raises(SpecialistError, match="is about specialist 0000"):
        export(folders["label"], built, certificate(artefact_sha256="0" * 64), tmp_path / "out")


def test_another_encoder_is_refused(place, tmp_path):
    _, encoder, folders = place
    open_encoder(tmp_path / "cache", str(write_tiny_bert(tmp_path / "other-bert", seed=1)))
    other = built_encoder(tmp_path / "cache", str(tmp_path / "other-bert"))
    proven = certificate(artefact_sha256=Specialist.load(folders["label"], encoder).sha256)
    with pytest.raises(SpecialistError, match="learnt on another encoder"):
        export(folders["label"], other, proven, tmp_path / "out")


def test_nothing_that_is_there_is_overwritten(place, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        written(place, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
