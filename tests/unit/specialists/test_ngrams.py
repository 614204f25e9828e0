import numpy as np

from pilotfish.specialists.ngrams import MAX_CHARACTERS, N_COLUMNS, WORD_COLUMNS, Vocabulary, count
from tools.clock import least_cpu_s

TEXTS = ["where is my card", "my card is lost", "refund please", "", "where is my refund?"]


def rows_of(rows):
    parts = zip(rows.starts, rows.starts[1:], strict=False)
    return [dict(zip(rows.columns[a:b].tolist(), rows.values[a:b].tolist(), strict=True)) for a, b in parts]


def test_hashes_are_the_same_for_ever():
    counts = count(["ab"])
    assert counts.columns.tolist() == sorted(counts.columns.tolist())
    assert counts.columns.tolist() == [18541, 53736, 83296, 96472]
    assert counts.counts.tolist() == [1, 1, 1, 1]


def test_case_is_folded_and_repeats_are_counted():
    assert count(["Card"]).columns.tolist() == count(["cARD"]).columns.tolist()
    assert count(["card card"]).counts.max() == 2


def test_columns_stay_in_their_halves():
    counts = count(TEXTS)
    assert counts.columns.min() >= 0
    assert counts.columns.max() < N_COLUMNS
    assert (counts.columns < WORD_COLUMNS).any()


def test_only_recurring_columns_are_kept_and_rows_have_length_one():
    vocabulary = Vocabulary.learn(count(TEXTS))
    assert len(vocabulary.columns) == len(set(vocabulary.columns.tolist())) < len(set(count(TEXTS).columns.tolist()))
    rows = rows_of(vocabulary.weigh(count(TEXTS)))
    assert rows[3] == {}
    np.testing.assert_allclose([sum(v * v for v in row.values()) for row in rows if row], 1, atol=1e-6)


def test_a_text_has_the_same_features_alone_and_in_bulk():
    vocabulary = Vocabulary.learn(count(TEXTS))
    alone = [rows_of(vocabulary.weigh(count([text])))[0] for text in TEXTS]
    assert rows_of(vocabulary.weigh(count(TEXTS))) == alone


def test_nothing_known_gives_no_features():
    rows = Vocabulary.learn(count(TEXTS)).weigh(count(["zzz qqq"]))
    assert rows.starts.tolist() == [0, 0]
    empty = Vocabulary.learn(count([])).weigh(count(TEXTS))
    assert len(empty.values) == 0


def test_long_texts_and_odd_characters_are_bounded():
    texts = ["x" * 1_000_000, "a b " * 1_000_000, "\ud800 \x00", "你好" * 9]
    assert least_cpu_s(lambda: count(texts), 1.0) < 1
    counts = count(texts)
    assert np.diff(counts.starts).max() < 6 * MAX_CHARACTERS
