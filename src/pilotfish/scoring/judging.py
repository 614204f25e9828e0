"""A model as judge: the question put to it, the reading of its verdict, and how far to trust it.

Judges prefer the answer that stands first (Zheng et al., arXiv 2306.05685), so every pair is judged in both orders
and only a verdict that survives the swap counts as one; the rest is a tie. A verdict that cannot be read is counted,
never dropped. Agreement with human labels is given as Cohen's kappa. Nothing here knows a model: texts in, verdicts
out (`evals/judge.py` asks).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pilotfish.scoring.score import Score, unread

PROMPT = """\
You compare two answers to the same request. Judge which answer serves the request better: correctness first, then \
whether it does what was asked, then clarity. Length is no merit, and neither is the order in which the answers stand.

[Request]
{request}

[Answer 1]
{first}

[Answer 2]
{second}

Explain in one or two sentences, then write on a line of its own one of: Verdict: 1, Verdict: 2, Verdict: tie."""

_VERDICT = re.compile(r"verdict\W{0,6}\s*(?:is\s+)?(?:answer\s+)?(1|2|tie|draw|equal)\b", re.IGNORECASE)
_BARE = re.compile(r"\W*(?:answer\s+)?(1|2|tie|draw|equal)\W*", re.IGNORECASE)
_SWAPPED = {"1": "2", "2": "1"}
_WORTH = {"1": 1.0, "tie": 0.5, "2": 0.0}


def pair_prompt(request: str, first: str, second: str) -> str:
    """What the judge is asked about two answers."""
    return PROMPT.format(request=request, first=first, second=second)


def read_verdict(reply: str) -> str:
    """The verdict in a judge's reply: "1", "2" or "tie"; empty where it gives none, or two different ones."""
    bare = _BARE.fullmatch(reply)
    said = {bare[1].lower()} if bare else {word.lower() for word in _VERDICT.findall(reply)}
    said = {"tie" if word in ("draw", "equal") else word for word in said}
    return said.pop() if len(said) == 1 else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairVerdict:
    """A judge's verdicts on one pair in the order given, and in the swapped order mapped back. Empty: unreadable."""

    forward: str
    backward: str

    @classmethod
    def of_replies(cls, forward: str, swapped: str) -> PairVerdict:
        """From the judge's two replies, the second given with the answers swapped."""
        back = read_verdict(swapped)
        return cls(forward=read_verdict(forward), backward=_SWAPPED.get(back, back))

    @property
    def is_readable(self) -> bool:
        """Whether both replies hold a verdict."""
        return bool(self.forward and self.backward)

    @property
    def outcome(self) -> str:
        """The verdict that both orders give, "tie" where they differ, empty where one cannot be read."""
        if not self.is_readable:
            return ""
        return self.forward if self.forward == self.backward else "tie"

    @property
    def value(self) -> float:
        """What the first answer earns: the mean over both orders of 1 for better, 0.5 for a tie, 0 otherwise."""
        return sum(_WORTH.get(verdict, 0.0) for verdict in (self.forward, self.backward)) / 2

    @property
    def score(self) -> Score:
        """The same as a score; a parse failure where the judge cannot be read."""
        if not self.is_readable:
            return unread("the judge's verdict cannot be read")
        return Score(self.value, "", f"judged {self.forward} and, swapped, {self.backward}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReport:
    """How a judge does. Shares are over all pairs (`agreement`: over both orders of each); None where undefined.

    `kappa` compares the judge's outcomes, "tie" and "unreadable" being categories of their own, with the human ones on
    the `n_human` pairs that have such a label; so does `agreement`.
    """

    n: int
    n_unreadable: int
    same_in_both_orders: float | None
    prefers_first: float | None
    n_human: int = 0
    agreement: float | None = None
    kappa: float | None = None


def report(verdicts: Sequence[PairVerdict], human: Sequence[str] = ()) -> JudgeReport:
    """The report on a judge, with agreement where `human` has the better answer ("1", "2", "tie"; "" where unknown)."""
    n = len(verdicts)
    if human and len(human) != n:
        raise ValueError(f"{n} verdicts, but {len(human)} human labels")
    shown = [verdict for verdict in verdicts if verdict.is_readable]
    # The answer that stood first is "1" in the order given and "2" in the swapped one.
    n_first = sum((verdict.forward == "1") + (verdict.backward == "2") for verdict in shown)
    labelled = [(verdict, label) for verdict, label in zip(verdicts, human, strict=False) if label]
    right = sum((verdict.forward == label) + (verdict.backward == label) for verdict, label in labelled)
    return JudgeReport(
        n=n,
        n_unreadable=n - len(shown),
        same_in_both_orders=sum(v.forward == v.backward for v in shown) / n if n else None,
        prefers_first=n_first / (2 * len(shown)) if shown else None,
        n_human=len(labelled),
        agreement=right / (2 * len(labelled)) if labelled else None,
        kappa=kappa([v.outcome or "unreadable" for v, _ in labelled], [label for _, label in labelled])
        if labelled
        else None,
    )


def kappa(a: Sequence[str], b: Sequence[str]) -> float | None:
    """Cohen's kappa of two raters (Cohen 1960): agreement beyond chance; None where chance alone agrees wholly."""
    if len(a) != len(b) or not a:
        raise ValueError(f"kappa needs two equally long lists of ratings, got {len(a)} and {len(b)}")
    n, left, right = len(a), Counter(a), Counter(b)
    observed = sum(x == y for x, y in zip(a, b, strict=True)) / n
    chance = sum(left[name] * right[name] for name in left) / n**2
    return None if chance == 1 else (observed - chance) / (1 - chance)
