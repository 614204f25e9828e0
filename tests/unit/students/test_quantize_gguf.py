"""GGUF files in fewer bits, against what llama.cpp's own server says of the same tokens."""

from __future__ import annotations

import asyncio
import json

import pytest

pytest.importorskip("xllamacpp", reason="needs the llama extra")

from pilotfish.cli.main import run
from pilotfish.core.errors import ConfigError
from pilotfish.models.local_gguf import LocalGguf
from pilotfish.models.wire.completions import COMPLETIONS
from pilotfish.sizing.gguf import read_gguf
from pilotfish.students.quantize_gguf import KINDS, Gguf, divergence, quantize
from tools.tiny_gguf import write_gguf

TEXTS = ["The ship left the harbour at nine.", "Forty sacks of rice " * 12, "The price of rice is up again."]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """On a busy machine llama.cpp's threads wait for one another."""
    monkeypatch.setattr("pilotfish.students.quantize_gguf.cores", lambda: 1)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "wide.gguf", size=256)


@pytest.fixture(scope="module")
def made(source):
    files = {kind: source.with_name(f"{kind}.gguf") for kind in KINDS}
    for kind, path in files.items():
        assert quantize(source, kind, path) == path.stat().st_size
    return files


def test_matrices_are_of_their_type_and_vectors_stay(source, made):
    types = {
        kind: {tensor.name: tensor.type for tensor in read_gguf(path).stored.tensors} for kind, path in made.items()
    }
    matrix, output = "blk.0.ffn_down.weight", "output.weight"
    assert [types[kind][matrix] for kind in KINDS] == ["Q8_0", "Q6_K", "Q5_K", "Q4_K"]
    assert [types[kind][output] for kind in KINDS] == ["Q8_0", "Q6_K", "Q6_K", "Q6_K"]
    assert {types[kind]["blk.0.attn_norm.weight"] for kind in KINDS} == {"F32"}
    assert read_gguf(made["gguf-q4_k"]).values["llama.embedding_length"] == 256
    sizes = [path.stat().st_size for path in (source, *made.values())]
    assert sizes == sorted(sizes, reverse=True)


def test_rows_that_blocks_of_256_do_not_fit_take_a_finer_type(tmp_path):
    narrow = write_gguf(tmp_path / "narrow.gguf")
    quantize(narrow, "gguf-q4_k", tmp_path / "less.gguf")
    types = {tensor.name: tensor.type for tensor in read_gguf(tmp_path / "less.gguf").stored.tensors}
    assert (types["blk.0.attn_q.weight"], types["output.weight"]) == ("Q5_0", "Q8_0")


def test_fewer_bits_part_further_from_what_it_was(source, made):
    kl = [divergence(source, made[kind], TEXTS) for kind in KINDS]
    assert 0 < kl[0] < kl[1] < kl[2] < kl[3], kl
    assert divergence(source, source, TEXTS) == 0


def test_the_scores_are_those_of_llama_cpps_server(source):
    server = LocalGguf(source, n_threads=1)
    body = {"model": "wide", "prompt": TEXTS[1], "max_tokens": 5, "temperature": 0, "logprobs": 1}
    said = json.loads(asyncio.run(server.answer(COMPLETIONS.decode_request(json.dumps(body).encode()))).body)
    asyncio.run(server.aclose())
    told = said["choices"][0]["logprobs"]["content"]
    model = Gguf(source)
    found = list(model.next_tokens(TEXTS[1] + said["choices"][0]["text"]))[-5:]
    made = [float(shares[token]) for shares, token in found]
    assert made == pytest.approx([row["logprob"] for row in told], abs=2e-3)
    heard = model.ask(TEXTS[0])
    n_tokens = len(TEXTS[0].replace(" ", "\u2581").encode())  # a token a byte, and one that begins the text
    assert len(heard.answers) == len(heard.confidence) == n_tokens
    with pytest.raises(ConfigError, match="no token to predict"):
        model.ask("")
    model.close()


def test_what_cannot_be_quantized_is_said(tmp_path, made):
    with pytest.raises(ConfigError, match="fewer than 16 bits already"):
        quantize(made["gguf-q8_0"], "gguf-q4_k", tmp_path / "twice.gguf")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF but no more")
    with pytest.raises(ConfigError, match=r"bad\.gguf is no GGUF file"):
        quantize(tmp_path / "bad.gguf", "gguf-q4_k", tmp_path / "none.gguf")
    with pytest.raises(ConfigError, match=r"cannot load bad\.gguf"):
        Gguf(tmp_path / "bad.gguf")


def test_the_command_measures_keeps_and_judges(tmp_path, source, capsys):
    data = tmp_path / "texts.jsonl"
    rows = [{"text": f"Sack {n} of rice", "label": "x"} for n in range(24)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    place = ["--on", str(data), "--kind", "gguf-q8_0", "--home", str(tmp_path / "home"), "--margin", "0.3"]
    assert run(["quantize", str(source), *place, "--to", str(tmp_path / "kept"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    before, (after,) = said["before"], said["after"]
    assert (after["kind"], after["verdict"]) == ("gguf-q8_0", "non-inferior")
    assert after["size_bytes"] < before["size_bytes"] / 3
    assert 0 < after["kl_nats"] < 0.1
    assert after["perplexity"] == pytest.approx(before["perplexity"], rel=0.2)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["wide-q8_0.gguf"]
    assert run(["quantize", str(source), *place, "--limit", "5"]) == 2
    assert "5 items show nothing" in capsys.readouterr().err
