"""A specialist that extracts: learnt on a tiny encoder, loaded from its folder, asked about new texts."""

import itertools
import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save

from pilotfish.core.errors import SpecialistError, UserError
from pilotfish.core.grounding import Words, canonical
from pilotfish.scoring.answers import parse, render
from pilotfish.specialists.card import read_folder, write_folder
from pilotfish.specialists.extractor import Extractor
from pilotfish.specialists.load import load
from pilotfish.specialists.specialist import TENSORS
from pilotfish.specialists.tagging import allowed, best_path, spans
from pilotfish.students.encoder_cache import open_encoder
from pilotfish.students.teach import teach
from tools.tiny_models import open_tiny_encoder, write_tiny_bert
from tools.tiny_tasks import booking_examples, booking_task, bookings

PAIRS = bookings(120)
TASK = booking_task(PAIRS)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, encoder):
    return teach(booking_examples(PAIRS, TASK), TASK, encoder, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def specialist(fitted, encoder):
    return load(fitted.folder, encoder)


def test_it_answers_texts_it_has_not_seen_as_the_reference_writes(specialist):
    assert isinstance(specialist, Extractor)
    later = bookings(60, seed=1)
    found = specialist.predict([text for text, _ in later])
    written = [render(TASK.shape, values, text) for values, (text, _) in zip(found.answers, later, strict=True)]
    assert sum(said == answer for said, (_, answer) in zip(written, later, strict=True)) >= 54
    assert ((found.certainty > 0) & (found.certainty <= 1)).all()


def test_out_of_fold_scores_speak_of_whole_answers(fitted):
    scores = fitted.out_of_fold
    assert len(scores.certainty) == len(scores.scope) == len(scores.disagreement) == 120
    assert scores.disagreement.mean() < 0.2
    assert scores.first is None
    certain = scores.certainty >= np.median(scores.certainty)
    assert scores.disagreement[certain].mean() <= scores.disagreement[~certain].mean()


def test_what_does_not_stand_in_the_input_teaches_nothing_and_counts_as_a_disagreement(tmp_path, encoder):
    given = [*PAIRS[:60], *((text, json.dumps({"kind": "hotel", "city": "Atlantis"})) for text, _ in PAIRS[60:70])]
    found = teach(booking_examples(given, TASK), TASK, encoder, tmp_path)
    assert (found.out_of_fold.disagreement[60:] == 1).all()


def test_alone_or_together_the_scores_are_the_same_bits(specialist):
    texts = [text for text, _ in bookings(12, seed=3)] + [
        "",
        "   ",
        "fly",
        "fly in Rome " * 60,
        "\ud83d \x00",
        "x" * 9000,
    ]
    together = specialist.predict(texts)
    for row, text in enumerate(texts):
        alone = specialist.predict([text])
        assert alone.answers[0] == together.answers[row]
        assert (alone.certainty[0], alone.scope[0]) == (together.certainty[row], together.scope[row])
    assert specialist.predict([]).answers == []


def test_what_is_tagged_but_no_number_is_never_certain(specialist):
    found = specialist.predict(["fly in Rome with 1,2345 guests now"])
    assert found.certainty[0] < 1
    assert parse(TASK.shape, render(TASK.shape, found.answers[0], "fly in Rome with 1,2345 guests now"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    words=st.lists(st.sampled_from(["fly", "in", "Rome", "ÅÖ", "with", "1,234", "guests", "9", "\u0130", "-", "\n"]))
)
def test_every_extracted_value_stands_in_the_input(specialist, words):
    text = " ".join(words)
    (values,) = specialist.predict([text]).answers
    own = Words.of(text)
    runs = [own.between(*run) for run in itertools.combinations(range(len(own) + 1), 2)]
    for item, value in zip(TASK.shape.fields, values, strict=True):
        assert not item.is_extracted or value == item.empty or value in {canonical(item.source, run) for run in runs}
    render(TASK.shape, values, text)


def test_equal_input_gives_an_equal_folder(fitted, encoder, tmp_path):
    assert teach(booking_examples(PAIRS, TASK), TASK, encoder, tmp_path).sha256 == fitted.sha256


def test_a_folder_that_was_tampered_with_is_refused(fitted, encoder, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(fitted.folder, folder)
    content = bytearray((folder / TENSORS).read_bytes())
    content[-1] ^= 1
    (folder / TENSORS).write_bytes(content)
    with pytest.raises(SpecialistError, match="differs from its hash"):
        load(folder, encoder)


def test_a_folder_without_its_tags_is_incomplete(fitted, encoder, tmp_path):
    checked = read_folder(fitted.folder)
    tensors = load_tensors(checked.contents[TENSORS])
    del tensors["tag.transitions"]
    write_folder(tmp_path, checked.card, {TENSORS: save(tensors)})
    with pytest.raises(SpecialistError, match="incomplete"):
        load(tmp_path, encoder)


def test_an_encoder_that_reads_no_words_is_a_reason_to_learn_nothing(tmp_path):
    encoder = open_tiny_encoder(tmp_path)
    next((tmp_path / "cache" / "encoders").glob("*/words.json")).unlink()
    with pytest.raises(UserError, match="no graph for words"):
        teach(booking_examples(PAIRS, TASK), TASK, encoder, tmp_path / "home")


def test_it_is_bound_to_the_graph_that_reads_words(fitted, tmp_path):
    source = str(write_tiny_bert(tmp_path / "other", seed=1))
    with pytest.raises(SpecialistError, match="another encoder"):
        load(fitted.folder, open_encoder(tmp_path / "cache", source))


@pytest.mark.parametrize("seed", range(5))
def test_the_best_path_is_the_likeliest_of_all(seed):
    rng = np.random.default_rng(seed)
    evidence, transitions = rng.normal(size=(4, 5)), rng.normal(size=(5, 5))
    pairs, first = allowed(2)
    scores = {
        path: sum(evidence[word, tag] for word, tag in enumerate(path))
        + first[path[0]]
        + sum((transitions + pairs)[one] for one in itertools.pairwise(path))
        for path in itertools.product(range(5), repeat=4)
    }
    tags, probability = best_path(evidence, transitions)
    best = max(scores, key=scores.__getitem__)
    assert tuple(tags) == best
    assert probability == pytest.approx(np.exp(scores[best]) / np.exp(list(scores.values())).sum())


def test_spans_begin_where_a_field_begins():
    assert spans([0, 1, 2, 2, 1, 0, 3, 4, 3]) == [(0, 1, 4), (0, 4, 5), (1, 6, 8), (1, 8, 9)]
