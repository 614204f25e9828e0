import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pilotfish.core.errors import SpecialistError, UserError
from pilotfish.specialists.encoder import CARD, FORMAT, GRAPH, WORDS, WORDS_CARD
from pilotfish.students import weights
from pilotfish.students.encoder_cache import open_encoder
from tools.tiny_models import write_tiny_bert


def folders(cache):
    return sorted((cache / "encoders").iterdir())


def test_an_encoder_is_built_once(tmp_path):
    source = write_tiny_bert(tmp_path / "tiny")
    first = open_encoder(tmp_path / "cache", str(source))
    written = (folders(tmp_path / "cache")[0] / GRAPH).stat().st_mtime_ns
    assert open_encoder(tmp_path / "cache", str(source)).sha256 == first.sha256
    assert [folder.name for folder in folders(tmp_path / "cache")] == [f"tiny-{weights.find(str(source)).sha256[:12]}"]
    assert (folders(tmp_path / "cache")[0] / GRAPH).stat().st_mtime_ns == written


def test_a_built_encoder_opens_where_only_the_local_extra_is_installed(tmp_path):
    source = str(write_tiny_bert(tmp_path / "tiny"))
    sha256 = open_encoder(tmp_path / "cache", source).sha256
    script = (
        "import sys; sys.modules.update(onnx=None, sklearn=None)\n"
        "from pathlib import Path; from pilotfish.students.encoder_cache import open_encoder\n"
        "print(open_encoder(Path(sys.argv[1]), sys.argv[2]).sha256)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "cache"), source]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == sha256


@pytest.mark.parametrize("name", [GRAPH, CARD])
def test_a_changed_artefact_is_built_anew(tmp_path, name):
    source = str(write_tiny_bert(tmp_path / "tiny"))
    before = open_encoder(tmp_path / "cache", source)
    path = folders(tmp_path / "cache")[0] / name
    path.write_bytes(path.read_bytes()[:-9] + b"x" * 9)
    after = open_encoder(tmp_path / "cache", source)
    assert after.sha256 == before.sha256
    assert len(folders(tmp_path / "cache")) == 1


def test_an_artefact_of_an_earlier_format_is_built_anew(tmp_path):
    source = str(write_tiny_bert(tmp_path / "tiny"))
    now = open_encoder(tmp_path / "cache", source).sha256
    path = folders(tmp_path / "cache")[0] / CARD
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 1}))
    assert open_encoder(tmp_path / "cache", source).sha256 == now
    assert json.loads(path.read_text())["format"] == FORMAT


def test_other_weights_are_another_encoder(tmp_path):
    one = open_encoder(tmp_path / "cache", str(write_tiny_bert(tmp_path / "a" / "tiny")))
    two = open_encoder(tmp_path / "cache", str(write_tiny_bert(tmp_path / "b" / "tiny", seed=1)))
    assert one.sha256 != two.sha256
    assert len(folders(tmp_path / "cache")) == 2


def test_a_built_default_encoder_needs_no_weights(tmp_path, monkeypatch):
    source = write_tiny_bert(tmp_path / "tiny")
    monkeypatch.setattr(weights, "KNOWN_SHA256", {str(source): weights.find(str(source)).sha256})
    with pytest.raises(UserError):
        open_encoder(tmp_path / "cache", "absent")


def _open(cache: Path, source: str, queue) -> None:
    queue.put(open_encoder(cache, source).encode(["hello"]))


def test_two_processes_may_build_at_once(tmp_path):
    source = str(write_tiny_bert(tmp_path / "tiny"))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_open, args=(tmp_path / "cache", source, queue)) for _ in range(3)]
    for worker in workers:
        worker.start()
    vectors = [queue.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    assert np.ptp(np.stack(vectors), axis=0).max() == 0
    assert len(folders(tmp_path / "cache")) == 1


def test_an_encoder_of_an_earlier_version_gets_its_graph_for_words(tmp_path):
    source = str(write_tiny_bert(tmp_path / "tiny"))
    before = open_encoder(tmp_path / "cache", source)
    (folder,) = folders(tmp_path / "cache")
    for name in (WORDS, WORDS_CARD):
        (folder / name).unlink()
    with pytest.raises(SpecialistError, match="no graph for words"):
        before.words()
    after = open_encoder(tmp_path / "cache", source)
    assert after.sha256 == before.sha256
    assert after.words().dimension == after.dimension
    assert not list(folder.glob(".building-*"))
