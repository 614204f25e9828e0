"""Paths, methods and who may ask."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from pilotfish.config.settings import LargeSettings, ServerSettings, Settings
from pilotfish.core.errors import ConfigError
from pilotfish.gateway.serve import serving
from pilotfish.models.scripted import ScriptedModel
from tools.gateway import body, gateway


def ask(port: int, method: str, path: str, data: bytes | None = None, **headers: str) -> tuple[int, dict[str, object]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(method, path, data, headers)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    is_json = response.headers["content-type"] == "application/json"
    return response.status, json.loads(text) if is_json else {}


def test_what_there_is_to_see(home: Path) -> None:
    with gateway(home, quality={"max_risk": 0.02}) as place:
        for path in ("/healthz", "/health/live"):
            assert ask(place.port, "GET", path) == (200, {"status": "ok"})
        assert ask(place.port, "GET", "/health/ready") == (200, {"status": "ready", "not_ready": {}})
        assert [model.id for model in place.client.models.list()] == ["big", "auto", "all-MiniLM-L6-v2"]
        status = ask(place.port, "GET", "/pilotfish/status")[1]
        assert status["promise"] == {"max_risk": 0.02, "confidence": 0.95, "per": "answer"}
        assert (status["requests"], status["log_gaps"], status["tasks"]) == (0, 0, [])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/v1/images/generations", 404),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
    ],
)
def test_other_paths_and_methods_are_refused_in_openais_shape(home: Path, method: str, path: str, status: int) -> None:
    with gateway(home) as place:
        got, reply = ask(place.port, method, path)
        assert got == status
        assert isinstance(reply["error"], dict)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example:8710"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:8710"}, 200),
        ({"Host": "127.0.0.2"}, 200),
        ({"Origin": "http://localhost:3000"}, 200),
    ],
)
def test_a_gateway_on_loopback_answers_only_this_machine(home: Path, headers: dict[str, str], status: int) -> None:
    with gateway(home) as place:
        assert ask(place.port, "POST", "/v1/chat/completions", body(), **headers)[0] == status
        assert len(place.server.asked) == (status == 200)


def test_the_interface_describes_every_path_that_answers(home: Path) -> None:
    with gateway(home) as place:
        document: Any = ask(place.port, "GET", "/openapi.json")[1]
        for path, methods in document["paths"].items():
            method = next(iter(methods)).upper()
            assert (
                ask(place.port, method, path.replace("{model}", "auto"), b"{}" if method == "POST" else None)[0] < 404
            )
            assert ask(place.port, "PATCH", path)[0] == 405


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_refusals_are_told_in_the_words_of_the_paths_family(home: Path, path: str) -> None:
    with gateway(home) as place:
        for method, data, status in (("GET", None, 405), ("POST", b"{", 400)):
            got, reply = ask(place.port, method, path, data)
            assert (got, reply["type"]) == (status, "error")
            assert reply["error"]["type"] == "invalid_request_error"  # type: ignore[index]


def test_a_taken_port_is_a_configuration_error(home: Path) -> None:
    with gateway(home) as place:
        settings = Settings(home=str(home / "other"), server=ServerSettings(port=place.port))
        with pytest.raises(ConfigError, match="cannot listen"), serving(settings, reference=ScriptedModel(["x"])):
            pass


def test_a_gateway_without_a_large_model_does_not_start(home: Path) -> None:
    settings = Settings(home=str(home), server=ServerSettings(port=0), large=LargeSettings())
    with pytest.raises(ConfigError, match="large model"), serving(settings):
        pass
