"""What a prompt shows before any model has answered: cheap features, counted in one pass over its words.

They hold no vocabulary: what is measured is shape (lengths, choices, numbers, code) and a few closed classes of
words, so that what is learnt on some topics can hold on others. A long prompt is cut in its middle, which bounds the
time.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise

MAX_CHARACTERS = 4000
_PER_KIND = 400
"""No class of words is counted beyond this; it bounds the work on strange texts."""

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_CHOICE = re.compile(r"^[ \t]*\(?([A-J1-9])[.):][ \t]+(.*)$", re.MULTILINE)
_SENTENCE = re.compile(r"[.!?]+(?:\s|$)")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+")
_YEAR = re.compile(r"\b(?:1[0-9]|20)\d\d\b")

_CLASSES: dict[str, frozenset[str]] = {
    "negations": frozenset(["not", "except", "never", "no", "none", "nor", "without", "false", "least", "cannot"]),
    "quantifiers": frozenset(["all", "each", "every", "any", "some", "most", "both", "only", "always"]),
    "quantities": frozenset(
        [
            *("many", "much", "total", "per", "percent", "rate", "average", "sum", "cost", "costs", "ratio", "profit"),
            *("times", "calculate", "compute", "probability", "equal", "remaining", "left", "rest", "altogether"),
        ]
    ),
    "numerals": frozenset(
        [
            *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "twenty"),
            *("half", "third", "quarter", "twice", "double", "triple", "dozen", "once", "hundred", "thousand"),
        ]
    ),
    "comparisons": frozenset(
        [
            *("more", "less", "than", "fewer", "higher", "lower", "greater", "larger", "smaller", "increase"),
            *("increases", "decrease", "decreases", "rise", "rises", "fall", "falls", "raise", "reduce", "as"),
        ]
    ),
    "durations": frozenset(
        [
            *("second", "seconds", "minute", "minutes", "hour", "hours", "day", "days", "week", "weeks", "month"),
            *("months", "year", "years", "daily", "weekly", "ago", "age", "older", "younger"),
        ]
    ),
    "causes": frozenset(["if", "because", "why", "how", "when", "then", "would", "therefore", "suppose", "given"]),
    "askings": frozenset(["which", "what", "who", "whom", "whose", "where"]),
    "hedged": frozenset(["may", "might", "could", "likely", "probably", "best", "should", "can", "following"]),
    "persons": frozenset(["i", "you", "my", "your", "me", "we", "he", "she", "his", "her", "they", "their"]),
    "orders": frozenset(["write", "give", "list", "explain", "describe", "create", "make", "complete", "answer"]),
    "glue": frozenset(["the", "a", "an", "of", "in", "to", "and", "is", "are", "was", "by", "for", "on", "that"]),
}
_CLASS_OF = {word: i for i, words in enumerate(_CLASSES.values()) for word in words}

NAMES: tuple[str, ...] = (
    "characters",
    "words",
    "lines",
    "sentences",
    "last sentence",
    "word length",
    "long words",
    "distinct words",
    "capitalised",
    "names",
    "numbers",
    "distinct numbers",
    "largest number",
    "digits",
    "years",
    "arithmetic signs",
    "code signs",
    "quotes",
    "question marks",
    "blanks",
    "foreign letters",
    "choices",
    "choice length",
    "choice spread",
    "numeric choices",
    "one-word choices",
    "shared words of choices",
    "stem length",
    *_CLASSES,
)
"""What `features` counts, in its order."""


def features(prompt: str) -> list[float]:
    """One number for each of `NAMES`; shares and logarithms, so that none is unbounded."""
    text = prompt
    if len(text) > MAX_CHARACTERS:
        text = text[: MAX_CHARACTERS // 2] + text[-MAX_CHARACTERS // 2 :]
    words = _WORD.findall(text)
    n_words, n_characters = max(1, len(words)), max(1, len(text))
    numbers = _NUMBER.findall(text)
    ends = [match.end() for match in _SENTENCE.finditer(text.rstrip())]
    last = text[ends[-2] :] if len(ends) > 1 else text
    return [
        math.log1p(len(prompt)),
        math.log1p(len(words)),
        math.log1p(text.count("\n")),
        math.log1p(len(ends)),
        math.log1p(len(last)),
        sum(map(len, words)) / n_words,
        sum(len(word) > 8 for word in words) / n_words,
        len(set(words)) / n_words,
        sum(word[0].isupper() for word in words) / n_words,
        math.log1p(len(set(_NAME.findall(text)))),
        math.log1p(len(numbers)),
        math.log1p(len(set(numbers))),
        _largest(numbers),
        sum(map(len, numbers)) / n_characters,
        math.log1p(len(_YEAR.findall(text))),
        _count(text, "+-*/=<>^%$") / n_characters,
        _count(text, "{}[]();_\\#") / n_characters,
        math.log1p(_count(text, "\"\u201c\u201d'\u2018\u2019")),
        math.log1p(text.count("?")),
        math.log1p(text.count("__")),
        1.0 - len(text.encode("ascii", "ignore")) / n_characters,
        *_choices(text),
        *_classes(words),
    ]


def _count(text: str, characters: str) -> int:
    return sum(text.count(character) for character in characters)


def _largest(numbers: list[str]) -> float:
    """The decimal digits of the longest whole part: the size of the largest number, roughly."""
    return float(max((len(number.split(".")[0].replace(",", "")) for number in numbers), default=0))


def _choices(text: str) -> list[float]:
    found = list(_CHOICE.finditer(text)) if "\n" in text else []
    if len(found) < 2:
        return [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, math.log1p(len(text))]
    lengths = [math.log1p(len(match[2])) for match in found]
    mean = sum(lengths) / len(lengths)
    spread = math.sqrt(sum((length - mean) ** 2 for length in lengths) / len(lengths))
    numeric = sum(bool(_NUMBER.search(match[2])) for match in found) / len(found)
    words = [set(match[2].split()) for match in found]
    single = sum(len(one) < 2 for one in words) / len(found)
    return [math.log1p(len(found)), mean, spread, numeric, single, _shared(words), math.log1p(found[0].start())]


def _shared(choices: list[set[str]]) -> float:
    """The mean share of a choice's words that the one before it has too: near 1 where they differ in a detail."""
    pairs = pairwise(choices)
    return sum(len(one & other) / max(1, len(one | other)) for one, other in pairs) / (len(choices) - 1)


def _classes(words: list[str]) -> list[float]:
    counts = [0] * len(_CLASSES)
    for word in words:
        place = _CLASS_OF.get(word.lower())
        if place is not None:
            counts[place] += 1
    return [min(_PER_KIND, count) / max(1, len(words)) for count in counts]
