"""A command line, a tiny encoder that it learns with, and a home that was filled and certified for real."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pilotfish.cli.main import run
from pilotfish.store.build import open_writer
from tools.command_line import CommandLine
from tools.log_rows import audit_row, instructions_row, local_row, request_row
from tools.served_home import INSTRUCTIONS, TASK_ID, sentences
from tools.tiny_models import write_tiny_bert


@pytest.fixture
def pilotfish(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of a tiny encoder, and room for its artefact."""
    folder = tmp_path_factory.mktemp("workshop")
    write_tiny_bert(folder / "tiny-bert")
    return folder


@pytest.fixture
def tiny(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All commands use the tiny encoder."""
    monkeypatch.setenv("PILOTFISH_CACHE", str(workshop / "cache"))
    monkeypatch.setenv("PILOTFISH_LEARNING_ENCODER", str(workshop / "tiny-bert"))


def fill(home: Path, n: int = 320) -> None:
    """A log of n observed requests of one task."""
    home.mkdir(parents=True)
    (home / "spool").mkdir()
    writer = open_writer(home)
    writer.append(instructions_row(TASK_ID, text=INSTRUCTIONS))
    for number, (text, colour) in enumerate(sentences(n)):
        fields = {"time_s": float(number), "instructions_id": TASK_ID, "task_id": TASK_ID, "mode": "observe"}
        fields |= {"input": text, "answer": colour, "reference_answer": colour}
        writer.append(request_row(f"pf-{number:04}", **fields))
    writer.close()


@pytest.fixture
def observed(tmp_path: Path) -> Path:
    """The home of a user whose gateway has only observed."""
    fill(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, workshop: Path) -> Path:
    """A home whose task serves, with a local, an audited and a failed request after its certificate."""
    home = tmp_path_factory.mktemp("made") / "home"
    fill(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PILOTFISH_CACHE", str(workshop / "cache"))
        patch.setenv("PILOTFISH_LEARNING_ENCODER", str(workshop / "tiny-bert"))
        assert run(["distil", TASK_ID, "--max-risk", "0.05", "--home", str(home)]) == 0
    writer = open_writer(home)
    fields = {"task_id": TASK_ID, "instructions_id": TASK_ID, "local_answer": "red", "answer": "red"}
    writer.append(local_row("pf-local", time_s=1000.0, input="my car 1 is red", **fields))
    writer.append(local_row("pf-audit", time_s=1001.0, input="my cup 1 is red", probability=0.02, **fields))
    writer.append(audit_row("pf-audit", time_s=1002.0, reference_answer="green"))
    writer.append(
        request_row("pf-failed", time_s=1003.0, task_id=TASK_ID, instructions_id=TASK_ID, status=502, error="down")
    )
    writer.close()
    return home


@pytest.fixture
def certified(made: Path, tmp_path: Path) -> Path:
    """A copy of that home, which a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "home"))
