"""An encoder of a few kilobytes that learns from outcomes whom a prompt suits, which frozen features cannot tell."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from pilotfish.specialists.encoder import FILES, Encoder
from pilotfish.students.outcome_reader import OutcomeReader
from tools.tuning import RECIPE, in_order, tuning

N = 480
TAUGHT = np.arange(400)
BRIEF = dataclasses.replace(RECIPE, n_layers=1, n_epochs=2, batch=20)


@pytest.fixture(scope="module")
def prompts():
    """Prompts, and the scores of a small model that fails where z comes first, and of a large one that never does."""
    rows = in_order(N)
    return [row.text for row in rows], [[float(row.answer == ("q",)), 1.0] for row in rows]


@pytest.fixture(scope="module")
def reader(prompts, encoder, encoder_folder, tmp_path_factory):
    return OutcomeReader(*prompts, encoder, tuning(encoder_folder), tmp_path_factory.mktemp("reader"))


def told(read, rows):
    return read.embeddings[rows] @ read.heads.T + read.biases


def test_heads_learn_whom_a_prompt_suits_from_the_rows_that_teach(prompts, reader):
    read = reader.read(TAUGHT)
    others = np.arange(len(TAUGHT), N)
    small = np.array(prompts[1])[others, 0]
    logits = told(read, others)
    assert ((logits[:, 0] > 0) == small).mean() > 0.7
    assert (logits[:, 1] > 2).all()
    assert read.encoder_sha256 == ""


def test_what_all_rows_teach_is_an_int8_encoder_that_needs_no_torch(prompts, encoder, encoder_folder, tmp_path):
    reader = OutcomeReader(*prompts, encoder, tuning(encoder_folder, BRIEF), tmp_path / "reader")
    whole = reader.whole
    for name in FILES:
        (tmp_path / name).write_bytes(reader.files[name])
    own = Encoder.load(tmp_path)
    assert own.sha256 == whole.encoder_sha256 == reader.encoder.sha256
    assert np.array_equal(own.encode(prompts[0][:5]), whole.embeddings[:5])
    code = (
        "import sys; from pathlib import Path; from pilotfish.specialists.encoder import Encoder; "
        f"Encoder.load(Path({str(tmp_path)!r})).encode(['a q z']); assert not {{'torch', 'onnx'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_interrupted_run_goes_on_and_what_is_known_is_not_learnt_again(prompts, encoder, encoder_folder, tmp_path):
    def report(stage, done, total):
        steps.append(done)
        if stage.startswith("fine-tune") and done == stops:
            raise KeyboardInterrupt

    steps: list[int] = []
    made = [encoder, tuning(encoder_folder, BRIEF), tmp_path / "one"]
    stops = 30  # of 40 steps: within the second epoch
    with pytest.raises(KeyboardInterrupt):
        OutcomeReader(*prompts, *made, report).read(TAUGHT)
    stops = 0
    steps.clear()
    again = OutcomeReader(*prompts, *made, report)
    resumed = again.read(TAUGHT)
    assert min(done for done in steps if done < N) == 21
    steps.clear()
    assert again.read(TAUGHT[::-1]) is resumed
    assert steps == []
    through = OutcomeReader(*prompts, *made[:2], tmp_path / "other").read(TAUGHT)
    assert np.array_equal(through.heads, resumed.heads)
    assert np.array_equal(through.embeddings, resumed.embeddings)
