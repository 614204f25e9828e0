"""The everyday examples run: on stand-ins of a few kilobytes, or with PILOTFISH_TEST_HUB=1 on the models they name."""

from __future__ import annotations

import json
import os
import shlex
import tomllib
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the transformers extra")
pytest.importorskip("xllamacpp", reason="needs the llama extra")

from pilotfish.cli import main
from pilotfish.config.settings import LargeSettings, ModelSettings, ServerSettings, Settings
from pilotfish.gateway.serve import serving
from pilotfish.models.scripted import ScriptedModel
from tools import tiny_transformers as tiny
from tools.pages import EXAMPLES, blocks
from tools.tiny_gguf import write_gguf

STAND_INS = {
    "openai-community/gpt2": tiny.write_tiny_gpt2,
    "distilbert/distilbert-base-uncased": tiny.write_tiny_encoder,
    "distilbert/distilbert-base-cased-distilled-squad": tiny.write_tiny_reader,
    "distilbert/distilbert-base-uncased-finetuned-sst-2-english": tiny.write_tiny_classifier,
    "qwen2.5-0.5b-instruct-q4_k_m.gguf": write_gguf,
}


@dataclass(frozen=True)
class Kitchen:
    """A gateway with every model of the pages, and what stands in for the names of the hub."""

    port: int
    stand_ins: dict[str, str]

    def here(self, text: str) -> str:
        """A command or a program as it can run here; longer names first, since one begins another."""
        text = text.replace("127.0.0.1:8710", f"127.0.0.1:{self.port}")
        for name in sorted(self.stand_ins, key=len, reverse=True):
            text = text.replace(name, self.stand_ins[name])
        return text


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kitchen]:
    folder = tmp_path_factory.mktemp("kitchen")
    stand_ins = {}
    if not os.environ.get("PILOTFISH_TEST_HUB"):
        stand_ins = {name: str(write(folder / Path(name).name)) for name, write in STAND_INS.items()}
    models = {}
    for page in EXAMPLES:
        for block in blocks(page):
            if block.language == "toml":
                for name, row in tomllib.loads(block.text)["models"].items():
                    models[name] = ModelSettings(**{**row, "weights": stand_ins.get(row["weights"], row["weights"])})
    large, server = LargeSettings(model="large-model"), ServerSettings(port=0)
    settings = Settings(home=str(folder / "home"), server=server, large=large, models=models)
    with serving(settings, reference=ScriptedModel(["hello"], name="large-model")) as port:
        yield Kitchen(port, stand_ins)


def write_data(folder: Path) -> None:
    words = ("a charming journey", "a tiresome mess", "rice and salt", "the last sack")
    rows = [{"text": f"{words[i % 4]} of {i} days", "label": tiny.LABELS[i % 2]} for i in range(40)]
    (folder / "sentiment.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "story.txt").write_text("The ship left the harbour of Genoa at nine in the morning.\n" * 40)
    rewrites = [{"input": f"Rewrite: {words[i % 4]} {i}.", "output": f"{i}: {words[i % 4]}!"} for i in range(40)]
    (folder / "rewrites.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rewrites[:30]))
    (folder / "unseen.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rewrites[30:]))
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:12]))


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.name)
def test_the_example_runs(page: Path, kitchen: Kitchen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PILOTFISH_HOME", str(tmp_path / "home"))
    namespace: dict[str, object] = {"__name__": "__docs__"}
    for block in blocks(page):
        if block.language == "python":
            source = "\n" * (block.line - 1) + kitchen.here(block.text)
            exec(compile(source, str(page), "exec"), namespace)
        elif block.language == "sh":
            for line in kitchen.here(block.text).replace("\\\n", " ").splitlines():
                run(shlex.split(line))


def run(words: list[str]) -> None:
    if words[0] == "pilotfish":
        # Random weights on forty items show nothing, which exit code 1 says.
        assert main.run(words[1:]) in (0, 1)
        return
    assert words[0] == "curl"
    url, body = words[1], words[words.index("-d") + 1]
    with urllib.request.urlopen(urllib.request.Request(url, data=body.encode())) as reply:
        found = json.load(reply)
    assert found.get("choices") or found.get("data")
