"""How much of a small model's answer must be read before it can be told whether it is enough.

A stream whose first tokens decide need not be held back to its end. The whole answer, and a few lengths of its
beginning, each learn a gain from the same outcomes; the fewest tokens that tell nearly as much as the best of them are
read. Of a beginning only log-probabilities are looked at: outcomes that hold none (most imported ones) leave the
decision to the whole answer.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import median

from pilotfish.routing.learn import ALPHA, Learnt, Material, Progress, learn

LENGTHS = (4, 8, 16, 32)
"""Tokens; each twice as many as the one before, since every further look weakens what all of them show."""

NEARLY = 0.9
"""Of the best reading's APGR above chance, for which the first byte of a stream is worth coming earlier."""


def learn_reading(
    material: Material, prefix: int | None = None, *, seed: int = 0, progress: Progress | None = None
) -> tuple[int, Learnt]:
    """The tokens that decide (0: the whole answer), and the gain that reads them.

    `prefix` states how many where it is not None. Where several lengths were tried, so many looks are taken from what
    the chosen one shows. Outcomes without log-probabilities of every answer give a gain that reads the whole.
    """
    if prefix == 0 or not has_logprobs(material):
        return 0, learn(material, seed=seed, progress=progress)
    if prefix is not None:
        return prefix, learn(begun(material, prefix), seed=seed, progress=progress)
    usual = median(len(outcome.tried[material.smaller].logprobs) for outcome in material.outcomes)
    lengths = [*(n for n in LENGTHS if n < usual), 0]
    found = [
        (n, learn(begun(material, n) if n else material, seed=seed, progress=_part(progress, place, len(lengths))))
        for place, n in enumerate(lengths)
    ]
    worth = {n: _above_chance(learnt) for n, learnt in found}
    best = max(worth.values())
    chosen, learnt = next(one for one in found if worth[one[0]] >= NEARLY * best) if best else found[-1]
    p = min(1.0, len(found) * learnt.p)
    learnt = replace(learnt, p=p, n_tried=len(found) * learnt.n_tried)
    if learnt.gain is not None and p > ALPHA:
        why = f"the best of {len(found)} lengths of the answer is no better than chance (p = {p:.2g})"
        return chosen, replace(learnt, gain=None, why_none=why)
    return chosen, learnt


def has_logprobs(material: Material) -> bool:
    """Whether every answer of the smaller model came with log-probabilities."""
    return all(outcome.tried[material.smaller].logprobs for outcome in material.outcomes)


def begun(material: Material, n_tokens: int) -> Material:
    """The same outcomes, with the first tokens of the smaller model's answers alone."""
    name = material.smaller
    outcomes = [
        replace(outcome, tried={**outcome.tried, name: outcome.tried[name].begun(n_tokens)})
        for outcome in material.outcomes
    ]
    return replace(material, outcomes=outcomes)


def _part(progress: Progress | None, place: int, n: int) -> Progress | None:
    """The progress of one of several that are learnt after each other."""
    if progress is None:
        return None
    return lambda what, done, total: progress(what, place * total + done, n * total)


def _above_chance(learnt: Learnt) -> float:
    return max(0.0, learnt.apgr - 0.5) if learnt.gain is not None and learnt.apgr is not None else 0.0
