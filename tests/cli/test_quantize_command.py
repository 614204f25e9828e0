"""`pilotfish quantize` for the specialist of a task."""

from __future__ import annotations

import json

import pytest

from tools.command_line import files
from tools.served_home import TASK_ID, sentences

KINDS = ["onnx-dynamic-int8", "onnx-static-int8", "onnx-int4"]

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def data(tmp_path):
    rows = [{"text": text, "label": colour} for text, colour in sentences(480)[320:]]
    path = tmp_path / "held-out.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_kind_is_measured_against_fp32_and_kept(pilotfish, certified, data, tmp_path):
    said = pilotfish(
        "quantize", TASK_ID, "--on", data, "--to", tmp_path / "kept", "--margin", 0.05, "--home", certified, "--json"
    )
    assert (said.code, said.err) == (0, "")
    before, after = said.json["before"], {row["kind"]: row for row in said.json["after"]}
    assert (before["kind"], list(after)) == ("fp32", KINDS)
    assert before["score"] > 0.9
    for row in after.values():
        assert row["n_answers"] == 144
        assert row["n_confident"] == 122
        assert row["n_flipped"] >= row["n_confident_flipped"]
        assert row["size_bytes"] < before["size_bytes"]
    assert after["onnx-dynamic-int8"]["verdict"] == "non-inferior"
    assert files(tmp_path / "kept") == sorted([*KINDS, "fp32"])
    again = pilotfish("quantize", TASK_ID, "--on", data, "--to", tmp_path / "kept", "--home", certified)
    assert again.code == 2
    assert "is there already" in again.err


def test_without_right_answers_nothing_is_called_harmless(pilotfish, certified, tmp_path):
    path = tmp_path / "texts.jsonl"
    rows = [{"messages": [{"role": "user", "content": text}]} for text, _ in sentences(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = pilotfish("quantize", TASK_ID, "--on", path, "--kind", "onnx-int4", "--home", certified)
    assert said.code == 1
    assert "Whether onnx-int4 is harmless is unknown" in said.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kind", "int3"], "There is no kind 'int3'"),
        (["--limit", "5"], "5 items show nothing"),
    ],
)
def test_what_cannot_be_done_is_said(pilotfish, certified, data, arguments, message):
    said = pilotfish("quantize", TASK_ID, "--on", data, "--home", certified, *arguments)
    assert said.code == 2
    assert message in said.err
