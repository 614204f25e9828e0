"""Every code block of the documents runs or parses: Python and most commands for real, on a small home."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
import urllib.request
from pathlib import Path

import click
import pytest

from pilotfish.cli import main
from pilotfish.config import load
from pilotfish.store.traffic import read_traffic
from tools.documented import TASK, Place
from tools.pages import EXAMPLES, PAGES, ROOT, Block, blocks

BLOCKS = [block for page in PAGES for block in blocks(page)]
# Output and pictures, which nothing can run.
SHOWN_ONLY = {"text"}
# They last, need a model, or learn (which the fixture does once): here their flags are checked.
PARSED_ONLY = {"serve", "demo", "backtest", "distil"}


def of(*languages: str) -> pytest.MarkDecorator:
    runs = [block for block in BLOCKS if not block.mark.startswith("no-run")]
    elsewhere = [] if "toml" in languages or "json" in languages else EXAMPLES
    found = [block for block in runs if block.language in languages and block.page not in elsewhere]
    assert found
    return pytest.mark.parametrize("block", found, ids=str)


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    kinds = SHOWN_ONLY | {"sh", "console", "python", "toml", "json", "jsonl"}
    assert [str(block) for block in BLOCKS if block.language not in kinds] == []


def test_a_block_that_is_not_run_says_why() -> None:
    marked = [block for block in BLOCKS if block.mark]
    assert [str(block) for block in marked if not re.fullmatch(r"no-run: \w.+", block.mark)] == []


@of("toml")
def test_toml_is_a_configuration(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "pilotfish.toml"
    file.write_text(block.text)
    settings = load.load(file, environment={})
    assert settings != load.load(environment={})


@of("json")
def test_json_parses(block: Block) -> None:
    json.loads(block.text)


@of("jsonl")
def test_traffic_is_read(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "traffic.jsonl"
    file.write_text(block.text)
    traffic = read_traffic(file)
    assert traffic.unreadable == []
    assert traffic.exchanges[0].request.messages[-1].text


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page not in EXAMPLES and any(b.language == "python" for b in blocks(page))],
    ids=lambda page: page.name,
)
def test_python_runs(page: Path, at_place: Place) -> None:
    """The blocks of a page in order, in one namespace, as a reader would type them."""
    namespace: dict[str, object] = {"__name__": "__docs__"}
    for block in blocks(page):
        if block.language == "python" and not block.mark:
            source = "\n" * (block.line - 1) + block.text.replace("127.0.0.1:8710", f"127.0.0.1:{at_place.port}")
            exec(compile(source, str(page), "exec"), namespace)


@of("sh", "console")
def test_commands_run(block: Block, at_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            words[0] = words[0].removeprefix(".venv/bin/")
            _run(words, at_place, monkeypatch)


def _run(words: list[str], place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    name, arguments = words[0], words[1:]
    if name == "pilotfish":
        _pilotfish(arguments, place)
    elif name == "export":
        variable, _, value = arguments[0].partition("=")
        monkeypatch.setenv(variable, value)
    elif name == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert arguments[0] in targets
    elif name == "curl":
        _curl(arguments, place)
    elif name in ("pip", "python", "python3"):
        _python(arguments)
    else:
        pytest.fail(f"nobody knows how to check {name!r}")


def _pilotfish(arguments: list[str], place: Place) -> None:
    given = {"TASK": TASK, "REQUEST": place.request_id, "FILE": "file.html"}
    arguments = [place.request_id if word.startswith("pf-") else given.get(word, word) for word in arguments]
    if arguments[0] in PARSED_ONLY:
        command = main.root.get_command(None, arguments[0])  # type: ignore[arg-type]
        assert command is not None
        # click keeps the help option it makes first, so it must be the root's.
        parent = click.Context(main.root, **main.root.context_settings)
        command.make_context(arguments[0], arguments[1:], parent).close()
    else:
        code = main.run(arguments)
        # Checks say no where nothing is set up, which is the case here for the large model.
        assert code == 0 or (code == 1 and (arguments[:2] == ["config", "check"] or arguments[0] == "check-claims"))


def _curl(arguments: list[str], place: Place) -> None:
    url = next(word for word in arguments if word.startswith("http"))
    body = arguments[arguments.index("-d") + 1]
    request = urllib.request.Request(url.replace("127.0.0.1:8710", f"127.0.0.1:{place.port}"), data=body.encode())
    with urllib.request.urlopen(request) as reply:
        assert reply.headers["x-pilotfish-reason"]


def _python(arguments: list[str]) -> None:
    """What is installed must be declared, what is run must be there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    if "install" in arguments:
        for word in arguments[arguments.index("install") + 1 :]:
            extras = re.fullmatch(r"(?:\.|pilotfish)\[([\w,]+)\]", word)
            if extras:
                assert set(extras[1].split(",")) <= set(project["optional-dependencies"])
            else:
                assert word == "--no-deps" or word in (ROOT / "constraints.txt").read_text("utf-8")
    elif arguments[0].endswith(".py"):
        assert (ROOT / arguments[0]).is_file()
    else:
        assert arguments == ["-m", "venv", ".venv"]
