"""From a name to a model: files before the catalogue, the catalogue before the hub, and the hub only once."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from typing import ClassVar

import pytest

from pilotfish.core.errors import UserError
from pilotfish.sizing import families, hub
from pilotfish.sizing.catalogue import catalogue
from pilotfish.sizing.reading import Config
from pilotfish.sizing.sources import find
from tools.weight_files import llama_gguf, write_safetensors

GPT2 = {"model_type": "gpt2", "n_layer": 2, "n_embd": 8, "n_head": 2, "n_positions": 16, "vocab_size": 10}


def write_config(folder, **values):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(GPT2 | values))
    return folder


def test_a_folder_gives_shape_weights_and_tokenizer(tmp_path):
    folder = write_config(tmp_path / "small")
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "Unigram"}}))
    write_safetensors(folder / "model.safetensors", {"wte.weight": ("F32", (10, 8))})
    found = find(str(folder), tmp_path)
    assert (found.name, found.architecture.tokenizer) == ("small", "unigram")
    assert found.stored.parameters == 80
    layer = 12 * 64 + 13 * 8
    assert found.architecture.parameters == 10 * 8 + 16 * 8 + 2 * layer + 2 * 8


def test_each_kind_of_file_is_recognised(tmp_path):
    (tmp_path / "m.gguf").write_bytes(llama_gguf())
    write_safetensors(tmp_path / "m.safetensors", {"a": ("F16", (3,))})
    config = write_config(tmp_path / "c") / "config.json"
    assert find(str(tmp_path / "m.gguf"), tmp_path).name == "Tiny"
    assert find(str(config), tmp_path).architecture.family == "GPT-2"
    bare = find(str(tmp_path / "m.safetensors"), tmp_path)
    assert (bare.architecture, bare.stored.parameters) == (None, 3)
    assert "config.json" in bare.why_none


def test_an_unknown_family_has_no_shape_and_its_weights_are_counted(tmp_path):
    folder = write_config(tmp_path / "odd", model_type="odd")
    write_safetensors(folder / "model.safetensors", {"mixer.weight": ("BF16", (5, 5))})
    found = find(str(folder), tmp_path)
    assert found.architecture is None
    assert "unknown architecture 'odd'" in found.why_none
    assert found.stored.parameters == 25


@pytest.mark.parametrize("name", ["Llama 3 8B", "llama-3-8b", "meta-llama/Meta-Llama-3-8B", "LLAMA_3_8B"])
def test_a_name_of_the_catalogue_in_any_spelling(name, tmp_path):
    assert find(name, tmp_path).entry.name == "llama-3-8b"


def test_no_two_entries_share_a_name():
    seen: dict[str, str] = {}
    for entry in catalogue().entries.values():
        for name in (entry.name, entry.title, *entry.aliases):
            assert catalogue().find(name) is entry, name
            assert seen.setdefault(name, entry.name) == entry.name


def test_every_entry_has_sources_and_dates_and_no_number_where_undisclosed():
    for entry in catalogue().entries.values():
        assert entry.source
        assert len(entry.entered) == len(entry.released) == 10
        assert (entry.config is None) == bool(entry.undisclosed)
        assert all(fact.source and len(fact.date) == 10 for fact in entry.facts)
        if entry.undisclosed:
            assert {fact.fact for fact in entry.facts} <= {"context"}
    assert len(catalogue().entries) >= 40


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lama-3-8b", "llama-3-8b"),
        ("./nowhere.json", "Expected: a config.json"),
        ("qqqq", "Expected: a config.json"),
    ],
)
def test_an_unknown_name_gets_the_nearest_or_what_was_expected(name, says, tmp_path):
    with pytest.raises(UserError) as caught:
        find(name, tmp_path)
    assert says in caught.value.hint


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("nonsense", "no JSON"),
        ("[1]", "a JSON object was expected"),
        ("{}", "no model_type"),
        ('{"model_type": "gpt2"}', "does not say"),
        (json.dumps(GPT2 | {"n_layer": 10**30}), "whole number"),
        (json.dumps(GPT2 | {"n_layer": -1}), "whole number"),
        (json.dumps(GPT2 | {"n_layer": True}), "whole number"),
        (json.dumps(GPT2 | {"n_layer": 20_000}), "no model has more"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_a_config_that_cannot_be_used_says_why(tmp_path, content, says):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=says):
        find(str(tmp_path / "config.json"), tmp_path)


def test_the_text_part_of_a_model_of_several_modalities_is_named_as_such():
    inner = dict(catalogue().entries["gemma-3-1b"].config)
    found = families.architecture(Config({"model_type": "gemma3", "text_config": inner}, "x"))
    assert found.parameters == 999885952
    assert "text part" in found.notes[0]


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub with one repository of one file; it counts what it is asked."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self):
        self._answer(b"")

    def do_GET(self):
        self._answer(json.dumps(GPT2).encode())

    def _answer(self, body):
        type(self).asked.append(self.path)
        is_there = self.path == "/some/model/resolve/main/config.json"
        self.send_response(200 if is_there else 404)
        self.send_header("Content-Length", str(len(json.dumps(GPT2))) if is_there else "0")
        self.send_header("ETag", '"abc"')
        self.send_header("X-Repo-Commit", "0" * 40)
        if not is_there:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        self.wfile.write(body if is_there else b"")

    def log_message(self, *_):
        pass


def test_a_hub_id_is_fetched_once_and_then_there_offline(tmp_path):
    pytest.importorskip("huggingface_hub")
    Hub.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    script = (
        "import sys\nfrom pathlib import Path\nfrom pilotfish.sizing.sources import find\n"
        "print(find('some/model', Path(sys.argv[1])).architecture.parameters)"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    environment["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_address[1]}"
    command = [sys.executable, "-c", script, str(tmp_path / "cache")]
    try:
        first = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert first.returncode == 0, first.stderr
    assert any(path.endswith("config.json") for path in Hub.asked)
    assert int(first.stdout) == find("some/model", tmp_path / "cache").architecture.parameters
    assert sorted(p.name for p in hub.folder(tmp_path / "cache", "some/model").iterdir()) == ["config.json"]


@pytest.mark.parametrize("name", ["a/../b", "../b", "a/b/c", "/etc/passwd", "a b/c", ""])
def test_what_is_no_hub_id_is_never_asked_of_the_hub(name):
    assert not hub.is_id(name)
