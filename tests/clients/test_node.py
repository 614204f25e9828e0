"""OpenAI's client for Node against the gateway; what it does is in node/check.cjs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from clients.conftest import Serve
from clients.replies import answer
from tools.gateway import gateway
from tools.served_home import INSTRUCTIONS
from tools.upstream import Reply

PACKAGES = Path(os.environ.get("PILOTFISH_NODE_CLIENTS", ""))
NODE = shutil.which("node")

pytestmark = [
    pytest.mark.skipif(NODE is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (PACKAGES / "node_modules" / "openai").is_dir(),
        reason="PILOTFISH_NODE_CLIENTS names no folder with the openai package; make test-clients makes one",
    ),
]


def check(port: int, *arguments: str) -> dict[str, Any]:
    script = Path(__file__).parent / "node" / "check.cjs"
    command = [str(NODE), str(script), f"http://127.0.0.1:{port}/v1", str(PACKAGES.absolute()), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_answers_streams_tools_schemas_and_errors(home: Path) -> None:
    with gateway(home, answer) as place:
        assert check(place.port) == {
            "whole": "hello",
            "reason": "observing",
            "streamed": "hello",
            "call": {"city": "Bern"},
            "parsed": {"colour": "red"},
            "responses": "hello",
            "responses_streamed": "hello",
            "models": ["big", "auto"],
            "embedding": 1,
            "error": ["RateLimitError", 429, "1"],
        }


def test_a_task_is_answered_locally(serve: Serve) -> None:
    with serve() as place:
        assert check(place.port, INSTRUCTIONS) == {"whole": "red", "streamed": "red"}
        assert place.server.asked == []


def test_a_client_that_leaves_a_stream_cancels_the_model(home: Path) -> None:
    with gateway(home, [Reply(text="x" * 400, pace_s=0.05)]) as place:
        check(place.port, "--leave")
        place.server.wait_for_hang_up()
        assert place.rows(1)[0].status == 499
