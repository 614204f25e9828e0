"""The command line as a user meets it: in this process, which is quick, or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pilotfish.cli.main import run

PILOTFISH = [sys.executable, "-m", "pilotfish"]


@dataclass(frozen=True)
class Said:
    """Exit code, standard output and standard error of one command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one strict JSON document."""
        return json.loads(self.out, parse_constant=pytest.fail)


class CommandLine:
    """`pilotfish` in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: object) -> Said:
        self._capture.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = self._capture.readouterr()
        return Said(code, captured.out, captured.err)


def shell(*arguments: object, stdin: bytes = b"", **environment: object) -> Said:
    """`pilotfish` in a process of its own."""
    done = subprocess.run(
        [*PILOTFISH, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=120,
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        check=False,
    )
    return Said(done.returncode, done.stdout.decode(), done.stderr.decode())


def files(folder: Path) -> list[str]:
    """What is in a folder, by name."""
    return sorted(path.name for path in folder.iterdir())
