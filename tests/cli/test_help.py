"""Help is quick and light: it answers before any numerical library is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pilotfish.cli.main import COMMANDS, EXIT_USER

HEAVY = "numpy onnxruntime sklearn scipy onnx tokenizers safetensors openai"
WHOLE = [[name] for name in COMMANDS] + [["log", verb] for verb in ("list", "show", "export", "prune")]
WHOLE += [["config", verb] for verb in ("show", "check")]
WHOLE += [["keys", verb] for verb in ("create", "list", "show", "revoke", "rotate", "admin")]


@pytest.mark.parametrize("command", WHOLE, ids=" ".join)
def test_every_command_has_help(pilotfish, command):
    said = pilotfish(*command, "--help")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"Usage: pilotfish {' '.join(command)}")
    assert len(said.out.splitlines()[2].strip()) > 15, "one line that says what it does"
    assert pilotfish(*command, "-h").out == said.out


def test_no_help_loads_a_heavy_library():
    code = f"""
import sys
from pilotfish.cli.main import run
for command in [[], *{WHOLE!r}]:
    assert run([*command, "--help"]) == 0
    heavy = set({HEAVY!r}.split()) & set(sys.modules)
    assert not heavy, (command, heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_front_page_loads_nothing_at_all():
    code = f"""
import sys
import pilotfish
from pilotfish.cli.main import run
assert run(["--help"]) == 0
found = set({HEAVY!r}.split()) | {{"msgspec", "httptools", "uvicorn", "sqlite3"}}
assert not found & set(sys.modules), found & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"  {name}" in done.stdout
    assert "Exit codes: 0 done" in done.stdout


def test_looking_at_a_home_loads_no_heavy_library(observed):
    code = f"""
import sys
from pilotfish.cli.main import run
for command in (["tasks"], ["log", "list"], ["log", "export"], ["explain", "pf-0001"], ["config", "show"]):
    assert run(command + ([] if command[0] == "config" else ["--home", {str(observed)!r}])) == 0, command
    heavy = set({HEAVY!r}.split()) & set(sys.modules)
    assert not heavy, (command, heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_command_shows_the_help_and_asks_for_one(pilotfish):
    for command in ([], ["log"], ["config"], ["keys"]):
        said = pilotfish(*command)
        assert said.code == EXIT_USER
        assert "Commands" in said.out + said.err


def test_a_misspelt_command_gets_the_nearest_one(pilotfish):
    said = pilotfish("distill", "x")
    assert said.code == EXIT_USER
    assert "Did you mean 'distil'?" in said.err
    assert "No such command 'zzz'" in pilotfish("zzz").err


def test_the_version(pilotfish):
    assert pilotfish("--version").out.startswith("pilotfish, version ")
