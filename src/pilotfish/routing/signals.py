"""What an answer of a small model shows about being wrong: one small object a signal, each with the class of its cost.

A signal reads one answer and says how much it speaks for asking a larger model (higher: more), or None where the answer
does not carry what it reads. None is used because it sounds right: `learn.py` admits a signal for a model and workload
only after it has ordered that workload's own outcomes better than chance.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pilotfish.core.item import Item
from pilotfish.core.outcome import Outcome, Tried
from pilotfish.scoring.answers import reads_as_refusal
from pilotfish.scoring.closed_sets import folded
from pilotfish.scoring.numbers import read_number
from pilotfish.scoring.unit_tests import program_of, score_code

CostClass = Literal["free", "text", "process", "model"]
"""What reading it takes: nothing beyond the reply; a look at the text (under a millisecond); a process that runs
code; or further calls of a model."""

MAX_CHARACTERS = 20_000
_CODE_ASKED = re.compile(r"```|\b(?:python|function|code|script|program)\b", re.IGNORECASE)
_JSON_ASKED = re.compile(r"\bjson\b", re.IGNORECASE)
_FENCED = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)
_CONCLUDED = re.compile(r"\\boxed|\b(?:final )?answer\b|\btherefore\b|\bin total\b", re.IGNORECASE)
_HEDGES = re.compile(
    r"\b(?:maybe|perhaps|possibly|probably|might|i think|i believe|i'm not sure|i am not sure|not certain|unclear"
    r"|it seems|appears to|assum(?:e|ing)|however|cannot determine|can't determine|not enough information"
    r"|approximately)\b"
)
_HEDGE_STEMS = (
    *("mayb", "perh", "possibl", "probab", "might", "i thi", "i bel", " not ", "not sure", "uncl", "it seem"),
    *("appears", "assum", "however", "cannot d", "can't d", "approx"),
)
_QUANTITY = r"\$?\d[\d,]*(?:\.\d+)?%?"
_SUM = re.compile(
    rf"(?<![\w.)/])(-?{_QUANTITY}(?:\s*[-+*/x\u00d7\u00f7]\s*{_QUANTITY})+)\s*=\s*(-?\s*{_QUANTITY})"
    r"(?!\s*[-+*/x\u00d7\u00f7\d])"
)
_RESULT = re.compile(r"=\s*\$?(-?\d[\d,]*(?:\.\d+)?)")
_WHOLE_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_PART = re.compile(rf"{_QUANTITY}|[-+*/x\u00d7\u00f7]")
_END, _LAST, _TAIL = 60, 16, 80
_ENDS = (".", "!", "?", ")", "]", "}", "`", '"', "\u201d", ":", "|", "*", "$", "%")


@dataclass(frozen=True, slots=True)
class Signal:
    """`read` says how much an answer to a request speaks for asking a larger model; None where it cannot tell."""

    name: str
    cost: CostClass
    read: Callable[[Outcome, Tried], float | None]


def mean_logprob(_: Outcome, tried: Tried) -> float | None:
    """The mean of the tokens' negative log-probabilities."""
    return -math.fsum(tried.logprobs) / len(tried.logprobs) if tried.logprobs else None


def least_logprob(_: Outcome, tried: Tried) -> float | None:
    """That of the least likely token."""
    return -min(tried.logprobs) if tried.logprobs else None


def deciding_logprob(_: Outcome, tried: Tried) -> float | None:
    """That of the least likely token in the last line that says anything: where most answers are decided."""
    places = _deciding(tried)
    return -min(tried.logprobs[i] for i in places) if places and len(tried.logprobs) == len(tried.tokens) else None


def deciding_margin(_: Outcome, tried: Tried) -> float | None:
    """By how little the deciding token was ahead of the next best one, negated."""
    places = _deciding(tried) if tried.tokens else range(len(tried.margins))
    return -min(tried.margins[i] for i in places) if places and len(tried.margins) > max(places) else None


def disagreement(_: Outcome, tried: Tried) -> float | None:
    """The share of further samples that conclude otherwise than the answer."""
    if tried.text is None or not tried.samples:
        return None
    own = conclusion(tried.text)
    return sum(conclusion(sample) != own for sample in tried.samples) / len(tried.samples)


def spread(_: Outcome, tried: Tried) -> float | None:
    """One less the share of the commonest conclusion among the answer and its samples."""
    if tried.text is None or not tried.samples:
        return None
    counts = Counter(conclusion(text) for text in (tried.text, *tried.samples))
    return 1.0 - max(counts.values()) / counts.total()


def other_conclusion(_: Outcome, tried: Tried) -> float | None:
    """1 where the last number of the answer is not what it has computed last; 0 where it computes nothing."""
    if tried.text is None:
        return None
    computed, said = _RESULT.findall(tried.text[-MAX_CHARACTERS:]), _WHOLE_NUMBER.findall(tried.text[-_TAIL:])
    return float(bool(computed) and bool(said) and _plain(computed[-1]) != _plain(said[-1]))


def broken_number(_: Outcome, tried: Tried) -> float | None:
    """1 where the last number of the answer is not a whole one, as the number of things or people is."""
    if tried.text is None:
        return None
    said = _WHOLE_NUMBER.findall(tried.text[-_TAIL:])
    return float(bool(said) and not _plain(said[-1]).is_integer())


def broken_format(outcome: Outcome, tried: Tried) -> float | None:
    """1 where JSON was asked for and the answer holds none that can be read."""
    if tried.text is None:
        return None
    if not _JSON_ASKED.search(outcome.prompt[:MAX_CHARACTERS]):
        return 0.0
    fenced = _FENCED.search(tried.text)
    try:
        json.loads(fenced[1] if fenced else tried.text)
    except (ValueError, RecursionError):
        return 1.0
    return 0.0


def wrong_arithmetic(_: Outcome, tried: Tried) -> float | None:
    """How many of the sums that the answer writes down do not come out, as a logarithm."""
    if tried.text is None:
        return None
    return math.log1p(sum(not holds(left, right) for left, right in _SUM.findall(tried.text[:MAX_CHARACTERS])))


def does_not_compile(outcome: Outcome, tried: Tried) -> float | None:
    """1 where code was asked for and the answer holds none that is a Python program."""
    if tried.text is None:
        return None
    if "```" not in tried.text or not _CODE_ASKED.search(outcome.prompt[:MAX_CHARACTERS]):
        return 0.0
    return 0.0 if program_of("", tried.text[:MAX_CHARACTERS]) is not None else 1.0


def fails_tests(outcome: Outcome, tried: Tried) -> float | None:
    """1 where the answer's code does not pass the tests that came with the request; None where none came."""
    if tried.text is None or not outcome.tests:
        return None
    item = Item(id="", messages=[], expected=None, tags={}, context=outcome.code, tests=outcome.tests)
    return 1.0 - score_code(item, tried.text).value


def refusal(_: Outcome, tried: Tried) -> float | None:
    """1 where the answer opens as refusals do."""
    return None if tried.text is None else float(reads_as_refusal(folded(tried.text[:600])))


def truncated(_: Outcome, tried: Tried) -> float | None:
    """1 where the answer was cut off: as the server says, or by an open fence or sentence."""
    if tried.text is None:
        return None
    end = tried.text.rstrip()
    is_open = end.count("```") % 2 == 1 or (len(end) > 200 and not end.endswith(_ENDS) and not end[-1:].isdigit())
    return float(tried.finish_reason in ("length", "max_tokens") or is_open)


def no_conclusion(_: Outcome, tried: Tried) -> float | None:
    """1 where nothing near the end says that this is the answer."""
    if tried.text is None:
        return None
    end = tried.text[-160:]
    return float("####" not in end and not _CONCLUDED.search(end))


def unused_numbers(outcome: Outcome, tried: Tried) -> float | None:
    """The share of the request's numbers that the answer never takes up."""
    if tried.text is None:
        return None
    asked = set(_NUMBER.findall(outcome.prompt[:MAX_CHARACTERS].replace(",", "")))
    used = set(_NUMBER.findall(tried.text[:MAX_CHARACTERS].replace(",", "")))
    return len(asked - used) / max(1, len(asked))


def hedging(_: Outcome, tried: Tried) -> float | None:
    """Words of doubt, per word."""
    if tried.text is None:
        return None
    text = tried.text[:MAX_CHARACTERS].lower()
    # Most answers have none, and looking for parts of words is ten times as fast as looking for words.
    n_hedges = len(_HEDGES.findall(text)) if any(stem in text for stem in _HEDGE_STEMS) else 0
    return n_hedges / max(20, text.count(" "))


def long_answer(_: Outcome, tried: Tried) -> float | None:
    """The logarithm of the answer's length in characters, or of its tokens where the text is unknown."""
    if tried.text is not None:
        return math.log1p(len(tried.text))
    return None if tried.output_tokens is None else math.log1p(tried.output_tokens)


def short_answer(outcome: Outcome, tried: Tried) -> float | None:
    """The same, negated: which of the two tells anything depends on the workload."""
    length = long_answer(outcome, tried)
    return None if length is None else -length


def verifier(_: Outcome, tried: Tried) -> float | None:
    """The verifier model's probability that the answer is wrong."""
    return None if tried.verifier is None else 1.0 - tried.verifier


VERIFIER = "verifier"
"""The signal that reads what a verifier says: that depends on which model it is."""

SIGNALS: tuple[Signal, ...] = (
    Signal("mean logprob", "free", mean_logprob),
    Signal("least logprob", "free", least_logprob),
    Signal("deciding logprob", "free", deciding_logprob),
    Signal("deciding margin", "free", deciding_margin),
    Signal("truncated", "free", truncated),
    Signal("long answer", "free", long_answer),
    Signal("short answer", "free", short_answer),
    Signal("refusal", "text", refusal),
    Signal("hedging", "text", hedging),
    Signal("no conclusion", "text", no_conclusion),
    Signal("unused numbers", "text", unused_numbers),
    Signal("wrong arithmetic", "text", wrong_arithmetic),
    Signal("other conclusion", "text", other_conclusion),
    Signal("broken number", "text", broken_number),
    Signal("broken format", "text", broken_format),
    Signal("does not compile", "text", does_not_compile),
    Signal("fails tests", "process", fails_tests),
    Signal("samples disagree", "model", disagreement),
    Signal("samples spread", "model", spread),
    Signal(VERIFIER, "model", verifier),
)
"""Every signal, the cheapest first."""

BY_NAME = {signal.name: signal for signal in SIGNALS}
SAMPLED = frozenset(("samples disagree", "samples spread"))
"""The signals that read further samples: what they say depends on how many there are."""


def ending(text: str) -> str:
    """The shape of an answer's end: words and numbers are blotted out, so that answers written alike end alike."""
    last = text[-_END:].rstrip().rpartition("\n")[2][-_LAST:]
    shape = re.sub(r"\d[\d,]*", "0", re.sub(r"[^\W\d_]+", "a", last))
    return shape + "\n" * text.endswith("\n")


def conclusion(text: str) -> str:
    """What a text concludes, for telling whether two conclude the same: its number, else its last line, folded."""
    number = read_number(text)
    if number is not None:
        return str(number)
    lines = [line for line in text.splitlines() if line.strip()]
    return folded(lines[-1]) if lines else ""


def holds(left: str, right: str) -> bool:
    """Whether a written sum comes out, to the digits of its result. What cannot be read is not held against it."""
    try:
        value, result = _evaluated(_PART.findall(left)), _quantity(right)
    except (ValueError, ZeroDivisionError, OverflowError):
        return True
    digits = len(right.partition(".")[2].rstrip("%"))
    allowed = 10.0**-digits if digits else 0.51
    return abs(value - result) <= allowed + 1e-9 * abs(result)


def _evaluated(parts: Sequence[str]) -> float:
    """Products and quotients first, from the left."""
    sign = -1.0 if parts[0] == "-" else 1.0
    parts = parts[1:] if parts[0] == "-" else parts
    total, term = 0.0, sign * _quantity(parts[0])
    for operator, quantity in zip(parts[1::2], parts[2::2], strict=True):
        value = _quantity(quantity)
        if operator in "+-":
            total, term = total + term, -value if operator == "-" else value
        else:
            term = term / value if operator in "/\u00f7" else term * value
    return total + term


def _quantity(text: str) -> float:
    plain = text.replace("$", "").replace(",", "").replace(" ", "")
    return float(plain[:-1]) / 100.0 if plain.endswith("%") else float(plain)


def _plain(text: str) -> float:
    return float(text.replace(",", ""))


def _deciding(tried: Tried) -> Sequence[int]:
    """The places of the tokens of the last line that holds a letter or a digit."""
    found: list[int] = []
    for i in range(len(tried.tokens) - 1, -1, -1):
        if found and "\n" in tried.tokens[i]:
            break
        if any(character.isalnum() for character in tried.tokens[i]):
            found.append(i)
    return found
