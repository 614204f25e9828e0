"""A route that reads prompts with an encoder of its own, in the home: there, missing, broken, and there again."""

from __future__ import annotations

import json
import logging
import shutil
import time
from pathlib import Path

import pytest

from pilotfish.config.settings import NO_ENCODER
from pilotfish.gateway import live_route
from pilotfish.guarantees.route_file import RouteFile
from pilotfish.routing.gain import Gain, Heads
from pilotfish.routing.route import Route, Step
from pilotfish.specialists.encoder import Encoder
from pilotfish.store.build import encoder
from pilotfish.students.encoder_cache import built_encoder
from tools.command_line import CommandLine
from tools.forms import get
from tools.gateway import Place
from tools.routed import SURE, ask, content, routed, status
from tools.routes import THRESHOLD, adopt, promise
from tools.tiny_models import write_tiny_bert

HARD = [{"role": "user", "content": "0 1 2 zebra"}]
NO_SHARED: dict[str, object] = {"encoder": NO_ENCODER}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder that no setting names."""
    folder = tmp_path_factory.mktemp("own")
    return built_encoder(folder / "cache", str(write_tiny_bert(folder / "tiny-bert")))


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_route, "LOOK_AGAIN_S", 0.0)


def reading(own: Encoder, *, reads_answer: bool = False) -> Route:
    """`small` is enough for "hi", and not for what is `HARD`."""
    easy, hard = own.encode(["hi", "0 1 2 zebra"]).astype(float)
    axis = 40.0 * (easy - hard) / ((easy - hard) ** 2).sum()
    heads = Heads(
        encoder_sha256=own.sha256,
        larger=(0.0,) * len(axis),
        smaller=tuple(axis.tolist()),
        biases=(9.0, -float(axis @ (easy + hard)) / 2),
    )
    step = Step(model="small", gain=Gain(heads=heads), reads_answer=reads_answer)
    return Route(steps=(step,), reference="big", threshold=THRESHOLD)


def wait_for(place: Place, why_none: str | None) -> str:
    """What the status says once it names this, or once a route decides (None)."""
    deadline = time.monotonic() + 120
    while True:
        said: str | None = status(place)["why_none"]
        if said is None if why_none is None else why_none in (said or ""):
            return said or ""
        assert time.monotonic() < deadline, said
        time.sleep(0.01)


def alarms(place: Place) -> list[str]:
    return [row["alarm"] for row in json.loads(get(place.port, "/overview/alarms.json").data)]


@pytest.mark.parametrize("reads_answer", [False, True])
def test_a_missing_encoder_is_named_and_the_route_decides_once_it_is_there(
    home: Path, built: Path, caplog: pytest.LogCaptureFixture, reads_answer: bool
) -> None:
    own = Encoder.load(built)
    adopt(home, reading(own, reads_answer=reads_answer))
    caplog.set_level(logging.INFO, "pilotfish")
    with routed(home, [SURE], learning=NO_SHARED) as (place, server):
        said = wait_for(place, f"the encoder {own.sha256[:12]}, with which the route reads prompts, cannot be loaded")
        assert "The home does not hold it, and the shared encoder cannot be loaded (There is no encoder here)" in said
        assert "pilotfish route adopt ROUTE puts it back" in said
        assert status(place)["route"]
        _, headers, data = ask(place)
        # Nobody pays for an answer that could not be decided on.
        assert (content(data), headers["x-pilotfish-reason"], server.asked) == ("from big", "asked-at-once", [])
        assert "why=unknown" in headers["x-pilotfish-route"]
        assert alarms(place) == [f"Open requests: the large model answers them all, since {said}"]
        assert f"Open requests go to the large model: {said}." in get(place.port, "/").data.decode()
        shutil.copytree(built, encoder(home, own.sha256))
        wait_for(place, None)
        assert alarms(place) == []
        _, headers, data = ask(place)
        assert (content(data), headers["x-pilotfish-reason"]) == ("from small", "kept")
        _, headers, data = ask(place, HARD)
        assert (content(data), headers["x-pilotfish-model"]) == ("from big", "big")
    told = [record.getMessage() for record in caplog.records if "oute small > big" in record.getMessage()]
    assert told == [
        f"Route small > big decides nothing, the large model answers: {said}.",
        "Route small > big: its encoder is loaded; it decides again.",
    ]


@pytest.mark.parametrize(
    ("change", "why", "what"),
    [
        ({}, "tokenizer.json differs from its hash", "pilotfish route adopt ROUTE puts it back"),
        ({"format": 1}, "of an earlier version, whose results differ between processors", "pilotfish route train"),
        ({"format": 99}, "has a newer format", "Update pilotfish"),
    ],
    ids=["damaged", "earlier", "newer"],
)
def test_an_encoder_that_cannot_be_used_is_named_with_what_to_do(
    home: Path, built: Path, change: dict[str, int], why: str, what: str
) -> None:
    own = Encoder.load(built)
    adopt(home, reading(own))
    kept = encoder(home, own.sha256)
    shutil.copytree(built, kept)
    if change:
        card = json.loads((kept / "encoder.json").read_text())
        (kept / "encoder.json").write_text(json.dumps(card | change))
    else:
        (kept / "tokenizer.json").write_text("{}")
    with routed(home, [SURE], learning=NO_SHARED) as (place, _):
        assert what in wait_for(place, why)
        assert content(ask(place)[2]) == "from big"


def test_an_encoder_of_another_hash_in_its_place_is_named(home: Path, built: Path, tmp_path: Path) -> None:
    own = Encoder.load(built)
    other = built_encoder(tmp_path / "cache", str(write_tiny_bert(tmp_path / "other-bert", seed=1)))
    adopt(home, reading(own))
    shutil.copytree(other, encoder(home, own.sha256))
    with routed(home, [SURE], learning=NO_SHARED) as (place, _):
        wait_for(place, f"In its place the home holds the encoder {Encoder.load(other).sha256[:12]}.")


def test_a_loaded_encoder_may_leave_the_home(home: Path, built: Path) -> None:
    own = Encoder.load(built)
    adopt(home, reading(own))
    kept = encoder(home, own.sha256)
    shutil.copytree(built, kept)
    with routed(home, [SURE], learning=NO_SHARED) as (place, _):
        assert content(ask(place)[2]) == "from small"
        shutil.rmtree(kept)
        assert content(ask(place)[2]) == "from small"
        assert content(ask(place, HARD)[2]) == "from big"
        assert status(place)["why_none"] is None


def test_adopting_another_route_deletes_the_encoder_of_the_earlier_and_costs_no_running_gateway_a_reply(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files: list[tuple[Path, Route, Path]] = []
    for seed in range(3):
        folder = tmp_path / str(seed)
        source = built_encoder(folder / "cache", str(write_tiny_bert(folder / "tiny-bert", seed=seed)))
        found = reading(Encoder.load(source))
        file = folder / "my-route.json"
        RouteFile(route=found, verdict=promise(found, attempt=seed + 1)).save(file)
        shutil.copytree(source, folder / "my-route.encoder")
        files.append((file, found, encoder(home, found.encoder_sha256)))
    run = CommandLine(capsys)
    (home / "encoders" / "mine").mkdir(parents=True)
    assert run("route", "adopt", files[0][0], "--home", home, "--json").json["encoders_deleted"] == 0
    with routed(home, [SURE], learning=NO_SHARED) as (place, _):
        wait_for(place, None)
        assert content(ask(place)[2]) == "from small"
        for file, found, kept in files[1:]:
            said = run("route", "adopt", file, "--home", home)
            assert (said.code, "The encoder of the earlier route is deleted" in said.out) == (0, True)
            assert sorted(one.name for one in (home / "encoders").iterdir()) == sorted(("mine", kept.name))
            deadline = time.monotonic() + 120
            while status(place)["route"] != found.id:
                assert ask(place)[0] == 200
                assert time.monotonic() < deadline
            wait_for(place, None)
            assert content(ask(place)[2]) == "from small"
            assert content(ask(place, HARD)[2]) == "from big"
    # The same once more changes nothing; one that is refused leaves what the route in force needs, and nothing else.
    assert run("route", "adopt", files[2][0], "--home", home, "--json").json["encoders_deleted"] == 0
    assert run("route", "adopt", files[0][0], "--home", home).code != 0
    assert sorted(one.name for one in (home / "encoders").iterdir()) == sorted(("mine", files[2][2].name))
