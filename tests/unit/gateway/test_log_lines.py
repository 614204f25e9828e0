"""One line an event, for people or as JSON; of an unexpected exception no word that could be a request's."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from pilotfish.gateway.log_lines import LogFormat, to_standard_error

_log = logging.getLogger("pilotfish.test")


def said(capsys: pytest.CaptureFixture[str], kind: LogFormat, *, fails: bool = False) -> str:
    with to_standard_error(kind):
        if fails:
            try:
                raise ValueError("a text of a request")
            except ValueError:
                _log.exception("A request failed.")
        else:
            _log.info("Task a: gone\nnow", extra={"fields": {"event": "withdrawn", "task": "a"}})
        logging.getLogger("library").info("not shown")
    _log.warning("after the end")
    return capsys.readouterr().err


def as_json(text: str) -> dict[str, Any]:
    line, rest = text.split("\n", 1)
    assert "{" not in rest
    found: dict[str, Any] = json.loads(line)
    return found


def test_an_event_is_one_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    line = said(capsys, "text").splitlines()[0]
    assert line.endswith("Z info withdrawn: Task a: gone now")


def test_an_event_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(said(capsys, "json"))
    assert (found["level"], found["event"], found["task"]) == ("info", "withdrawn", "a")
    assert found["message"] == "Task a: gone\nnow"


@pytest.mark.parametrize("kind", ["text", "json"])
def test_an_exception_tells_its_type_and_place_but_not_its_words(
    capsys: pytest.CaptureFixture[str], kind: LogFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = said(capsys, kind, fails=True)
    assert "ValueError" in text
    assert "test_log_lines.py:" in text
    assert "a text of a request" not in text
    monkeypatch.setenv("PILOTFISH_DEBUG", "1")
    assert "a text of a request" in said(capsys, kind, fails=True)


def test_what_steers_a_terminal_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    with to_standard_error("text"):
        _log.warning("name \x1b[2J")
    assert "\x1b" not in capsys.readouterr().err
