"""Simon Willison's `llm`, as its user configures it: an entry in extra-openai-models.yaml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clients.conftest import Serve
from clients.replies import BUSY, answer
from tools.gateway import gateway
from tools.served_home import INSTRUCTIONS

Run = Callable[..., subprocess.CompletedProcess[str]]
SCHEMA = '{"type": "object", "properties": {"colour": {"type": "string"}}}'
TOOL = 'def weather(city: str) -> str:\n    "The weather."\n    return "sun in " + city\n'


@pytest.fixture
def llm(tmp_path: Path) -> Run:
    pytest.importorskip("llm", reason="make test-clients installs llm")
    folder = tmp_path / "llm"
    folder.mkdir()

    def run(port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        entry = f"- model_id: pilotfish\n  model_name: auto\n  api_base: http://127.0.0.1:{port}/v1\n"
        entry += "  supports_tools: true\n  supports_schema: true\n"
        (folder / "extra-openai-models.yaml").write_text(entry)
        return subprocess.run(
            [sys.executable, "-m", "llm", "-m", "pilotfish", *arguments],
            env={**os.environ, "LLM_USER_PATH": str(folder), "OPENAI_API_KEY": "none"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    return run


def test_answers_streams_tools_and_schemas(home: Path, llm: Run) -> None:
    with gateway(home, answer) as place:
        assert llm(place.port, "hi").stdout == "hello\n"
        assert llm(place.port, "hi", "--no-stream").stdout == "hello\n"
        called = llm(place.port, "weather?", "--functions", TOOL, "--td")
        assert "sun in Bern" in called.stderr
        assert called.stdout.endswith("hello\n")
        bound = llm(place.port, "car?", "--schema", SCHEMA)
        assert json.loads(bound.stdout) == {"colour": "red"}
        streams = [asked.json.get("stream", False) for asked in place.server.asked]
        assert streams[:2] == [True, False]


def test_a_models_error_is_told(home: Path, llm: Run) -> None:
    with gateway(home, answer) as place:
        failed = llm(place.port, BUSY)
        assert failed.returncode != 0
        assert "slow down" in failed.stderr


def test_a_task_is_answered_locally(serve: Serve, llm: Run) -> None:
    with serve() as place:
        for option in ([], ["--no-stream"]):
            assert llm(place.port, "my car 1 is red", "-s", INSTRUCTIONS, *option).stdout == "red\n"
        assert place.server.asked == []
