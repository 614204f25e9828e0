"""`pilotfish inspect` and `check-claims` as a user meets them."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from pilotfish.sizing import machine
from tools.command_line import shell
from tools.weight_files import llama_gguf


@pytest.fixture(autouse=True)
def measured(tmp_path, monkeypatch):
    """A machine whose memory was measured today: 10 GB/s."""
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path / "cache"))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    kept = {
        "machine": machine._machine(),
        "bandwidth": 1e10,
        "method": "m",
        "measured": today,
        "gpus": [["H", 1 << 40]],
    }
    (tmp_path / "cache" / "machine").mkdir(parents=True)
    (tmp_path / "cache" / "machine" / "speed.json").write_text(json.dumps(kept))


def test_one_model_as_tables(pilotfish):
    said = pilotfish("inspect", "llama-3-8b")
    assert (said.code, said.err) == (0, "")
    for line in ("parameters            8,030,261,248", "16.06 GB (14.96 GiB)", "131,072 B", "15.009 GFLOP"):
        assert line in said.out
    assert re.search(r"all weights, AdamW +128.48 to 144.54 GB +estimate", said.out)
    assert re.search(r"memory bandwidth +10.0 GB/s on 20", said.out)
    assert re.search(r"fits H .*yes", said.out)


def test_several_models_share_a_context_and_say_what_is_not_applicable(pilotfish):
    said = pilotfish("inspect", "gpt2", "bert-base-uncased", "gpt-4")
    assert said.code == 0
    assert "1 x 512" in said.out
    assert "n/a for BERT-base uncased: an encoder reads the whole text at once and keeps no cache" in said.out
    assert "n/a for GPT-4: undisclosed: OpenAI has not published its size or shape" in said.out


def test_json_carries_value_unit_and_how(pilotfish):
    bert, gpt4 = pilotfish("inspect", "bert-base", "gpt-4", "--json").json
    facts = bert["facts"]
    assert facts["parameters"] == {"value": 109482240, "how": "exact"}
    assert facts["cache"]["value"] is None
    assert "keeps no cache" in facts["cache"]["why_none"]
    assert facts["weights_fp32"] == {"value": 437928960, "how": "exact", "unit": "bytes"}
    numbers = [key for key, fact in gpt4["facts"].items() if isinstance(fact["value"], int)]
    assert numbers == ["published_context"]
    assert "2023-03-14" in gpt4["facts"]["published_context"]["source"]


def test_flags_change_the_use(pilotfish):
    arguments = [
        "inspect",
        "llama-3-8b",
        "--context",
        131072,
        "--batch",
        2,
        "--dtype",
        "q4_k_m",
        "--kv-bits",
        8,
        "--json",
    ]
    (found,) = pilotfish(*arguments, "--tokens", 1e12).json
    assert (found["context"], found["batch"], found["dtype"], found["kv_bits"]) == (131072, 2, "Q4_K_M", 8)
    assert found["facts"]["cache"]["value"] == 16 * 2**30
    assert found["facts"]["training_6nd"]["value"] == 6 * 8030261248 * 10**12


def test_the_upper_bound_is_bandwidth_over_what_a_token_reads(pilotfish):
    (found,) = pilotfish("inspect", "llama-3-8b", "--json").json
    read = 2 * (8030261248 - 525336576) + 2**30
    assert found["facts"]["tokens_per_s_bound"]["value"] == f"{1e10 / read:,.1f} tokens/s"


def test_the_page_is_self_contained_and_drawn(pilotfish, tmp_path):
    page = tmp_path / "page.html"
    (tmp_path / "<b>.gguf").write_bytes(llama_gguf())
    assert pilotfish("inspect", "gemma-2-9b", "bert-base", "gpt-4", tmp_path / "<b>.gguf", "--html", page).code == 0
    text = page.read_text("utf-8")
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"<script|<link|<img|src=|@import|url\(", text)
    assert "<b>" not in text
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) == 9
    for drawing in drawings:
        ET.fromstring(drawing)
    for kind in ("this model", "window of 4,096", "Performer", "Reformer"):
        assert f">{kind}: " in text


def test_a_gguf_file(pilotfish, tmp_path):
    (tmp_path / "tiny.gguf").write_bytes(llama_gguf())
    (found,) = pilotfish("inspect", tmp_path / "tiny.gguf", "--json").json
    assert found["model"] == "Tiny"
    assert found["facts"]["parameters"]["value"] == found["facts"]["stored_parameters"]["value"]


def test_an_unknown_family(pilotfish, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "odd"}')
    said = pilotfish("inspect", tmp_path / "config.json")
    assert said.code == 0
    assert "n/a: unknown architecture 'odd'" in said.out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["lama-3-8b"], "llama-3-8b"), (["./x.gguf"], "Expected: a config.json"), ([], "Name a MODEL")],
)
def test_what_cannot_be_inspected_is_named(pilotfish, arguments, named):
    said = pilotfish("inspect", *arguments)
    assert (said.code, said.out) == (2, "")
    assert named in said.err


def test_the_catalogue_is_listed(pilotfish):
    listed = pilotfish("inspect", "--list", "--json").json
    assert len(listed) >= 40
    assert {row["name"] for row in listed if row["undisclosed"]} >= {"gpt-4", "palm-2"}


def test_inspecting_loads_no_numpy_once_the_machine_is_measured():
    code = (
        "import sys\nfrom pilotfish.cli.main import run\n"
        "assert run(['inspect', 'gpt2']) == 0\n"
        "assert not {'numpy', 'torch', 'huggingface_hub', 'sqlite3'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_wrong_claims_fail(pilotfish, tmp_path):
    (tmp_path / "text.md").write_text("Phi-2 has 270 million parameters. GPT-2 has a context window of 1024 tokens.\n")
    said = pilotfish("check-claims", tmp_path / "text.md")
    assert said.code == 1
    assert "2 judged, 1 wrong." in said.out
    found = pilotfish("check-claims", tmp_path / "text.md", "--json").json
    assert found["wrong"] == 1
    assert [claim["verdict"] for claim in found["claims"]] == ["wrong", "right"]
    assert found["claims"][0]["claimed"] == "270 million"


def test_claims_from_standard_input(tmp_path):
    said = shell("check-claims", "-", stdin=b"BERT-base has 12 layers.")
    assert (said.code, said.err) == (0, "")
    assert "right" in said.out


def test_a_text_without_claims(pilotfish, tmp_path):
    (tmp_path / "text.md").write_text("Nothing here.")
    assert pilotfish("check-claims", tmp_path / "text.md").out == "No claim about a known model that can be judged.\n"


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00\xd8"])
def test_a_text_that_cannot_be_read(pilotfish, tmp_path, content):
    if content is not None:
        (tmp_path / "text.md").write_bytes(content)
    said = pilotfish("check-claims", tmp_path / "text.md")
    assert (said.code, said.out) == (2, "")
    assert "text.md" in said.err
