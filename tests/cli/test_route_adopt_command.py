"""`pilotfish route adopt` of a route that reads prompts: never one whose encoder the gateway would not find."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pilotfish.cli.main import EXIT_USER
from pilotfish.guarantees.route_file import RouteFile
from pilotfish.routing.gain import Gain, Heads
from pilotfish.routing.route import Route, Step
from pilotfish.specialists.encoder import Encoder
from pilotfish.store.build import encoder, open_routes
from pilotfish.students.encoder_cache import built_encoder
from tools.routes import THRESHOLD, promise
from tools.tiny_models import write_tiny_bert


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder that the route reads."""
    folder = tmp_path_factory.mktemp("own")
    return built_encoder(folder / "cache", str(write_tiny_bert(folder / "own-bert", seed=1)))


@pytest.fixture
def file(built: Path, tmp_path: Path) -> Path:
    found = Encoder.load(built)
    none = (0.0,) * found.dimension
    gain = Gain(heads=Heads(encoder_sha256=found.sha256, larger=none, smaller=none, biases=(0.0, 0.0)))
    route = Route(steps=(Step(model="small", gain=gain, reads_answer=False),), reference="big", threshold=THRESHOLD)
    file = tmp_path / "my-route.json"
    RouteFile(route=route, verdict=promise(route)).save(file)
    return file


def is_adopted(home: Path) -> bool:
    routes = open_routes(home)
    try:
        return routes.newest() is not None
    finally:
        routes.close()


@pytest.mark.parametrize("beside", ["none", "another", "broken"])
def test_a_route_whose_encoder_would_not_be_found_is_not_adopted(pilotfish, tiny, workshop, built, file, beside):
    other = built_encoder(workshop / "cache", str(workshop / "tiny-bert"))
    source, home = file.with_name("my-route.encoder"), file.with_name("home")
    if beside != "none":
        shutil.copytree(other if beside == "another" else built, source)
    if beside == "broken":
        (source / "tokenizer.json").write_text("{}")
    said = pilotfish("route", "adopt", file, "--home", home)
    assert (said.code, said.out) == (EXIT_USER, "")
    found = Encoder.load(other).sha256[:12]
    assert f"the encoder {Encoder.load(built).sha256[:12]}, which the gateway would not find" in said.err
    assert f"my-route.encoder/ beside the route: {found if beside == 'another' else beside};" in said.err
    assert f"the shared encoder: {found}." in said.err
    assert "copy the folder my-route.encoder/" in said.err
    assert not is_adopted(home)
    assert not (home / "encoders").exists()


@pytest.mark.parametrize(("shared", "why"), [("none", "none."), ("missing-bert", "cannot be loaded (")])
def test_why_there_is_no_shared_encoder_is_told(pilotfish, file, monkeypatch, shared, why):
    monkeypatch.setenv("PILOTFISH_LEARNING_ENCODER", shared)
    said = pilotfish("route", "adopt", file, "--home", file.with_name("home"))
    assert said.code == EXIT_USER
    assert f"the shared encoder: {why}" in said.err


def test_what_the_home_holds_already_need_not_lie_beside_the_route(pilotfish, tiny, built, file, tmp_path):
    home, source = tmp_path / "home", tmp_path / "my-route.encoder"
    kept = encoder(home, Encoder.load(built).sha256)
    shutil.copytree(built, kept)
    assert pilotfish("route", "adopt", file, "--home", home).code == 0
    # One that broke there is replaced by the one beside the route, and by nothing else.
    (kept / "tokenizer.json").write_text("{}")
    said = pilotfish("route", "adopt", file, "--home", home)
    assert (said.code, "broken" in said.err) == (EXIT_USER, True)
    shutil.copytree(built, source)
    pilotfish("route", "adopt", file, "--home", home)
    assert Encoder.load(kept).sha256 == Encoder.load(built).sha256


def test_the_shared_encoder_is_built_where_the_route_reads_that(pilotfish, built, file, tmp_path, monkeypatch):
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PILOTFISH_LEARNING_ENCODER", str(built.parents[2] / "own-bert"))
    home = tmp_path / "home"
    said = pilotfish("route", "adopt", file, "--home", home)
    assert said.code == 0, said.err
    assert is_adopted(home)
    assert not (home / "encoders").exists(), "the gateway opens the shared one itself"
