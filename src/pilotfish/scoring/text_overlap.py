"""ROUGE, BLEU and chrF, by the implementations that papers cite: rouge-score and sacrebleu.

Nothing is computed here: a home-made BLEU compares with nobody's. The score of one item is the sentence's; BLEU and
chrF of a corpus are computed from its counts, never averaged, and come with sacrebleu's signature. This is the only
file that imports the two libraries, the extra `compare`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from pilotfish.core.errors import UserError
from pilotfish.core.item import Item
from pilotfish.scoring.score import Score, expected_texts

ROUGES = ("rouge1", "rouge2", "rougeL")


def score_rouge(item: Item, answer: str, *, kind: str = "rougeL", stem: bool = False) -> Score:
    """The best F-measure over the references of `kind`: rouge1, rouge2 or rougeL. Raises `UserError` for another."""
    if kind not in ROUGES:
        raise UserError(f"There is no ROUGE {kind!r}; expected one of {', '.join(ROUGES)}.")
    scorer = _rouge(stem)
    found = [scorer.score(gold, answer) for gold in expected_texts(item, "rouge")]
    best = {name: max(one[name].fmeasure for one in found) for name in ROUGES}
    return Score(best[kind], "", ", ".join(f"{name} {value:.4f}" for name, value in best.items()))


def score_bleu(item: Item, answer: str) -> Score:
    """Sentence BLEU by 100, with effective order (sacrebleu's own setting for sentences)."""
    return Score(min(1.0, _sacrebleu().sentence_bleu(answer, expected_texts(item, "bleu")).score / 100))


def score_chrf(item: Item, answer: str) -> Score:
    """Sentence chrF2 by 100."""
    return Score(min(1.0, _sacrebleu().sentence_chrf(answer, expected_texts(item, "chrf")).score / 100))


def overlap_corpus(name: str, pairs: Iterable[tuple[Item, str]], *, stem: bool = False) -> dict[str, float | str]:
    """The figures of a corpus: mean ROUGE-1, -2 and -L, or BLEU or chrF by 100 with its signature."""
    items, answers = zip(*pairs, strict=True)
    golds = [expected_texts(item, name) for item in items]
    if name == "rouge":
        scorer = _rouge(stem)
        found = [[scorer.score(gold, answer) for gold in some] for some, answer in zip(golds, answers, strict=True)]
        return {kind: sum(max(one[kind].fmeasure for one in some) for some in found) / len(found) for kind in ROUGES}
    metric = _sacrebleu().BLEU() if name == "bleu" else _sacrebleu().CHRF()
    result = metric.corpus_score(list(answers), _by_position(golds))
    return {name: result.score / 100, "signature": str(metric.get_signature())}


def _by_position(golds: Sequence[Sequence[str]]) -> Any:  # noqa: ANN401 - sacrebleu takes None, which its types leave out
    """sacrebleu wants the first reference of all items, then the second, None where an item has none."""
    most = max(map(len, golds))
    return [[some[place] if place < len(some) else None for some in golds] for place in range(most)]


@lru_cache(maxsize=2)
def _rouge(stem: bool) -> Any:  # noqa: ANN401 - the library has no types
    from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415 - an extra, and slow to load

    return RougeScorer(list(ROUGES), use_stemmer=stem)


def _sacrebleu() -> Any:  # noqa: ANN401 - its types leave out what it takes
    import sacrebleu  # noqa: PLC0415 - an extra

    return sacrebleu
