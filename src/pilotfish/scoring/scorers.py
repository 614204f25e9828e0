"""The scorers by name: how good an answer is, from 0 to 1, and the failures that make it worth nothing.

A scorer is a function of an item and an answer. What each compares stands beside it (`selection.py`, `numbers.py`,
`json_fields.py`, `spans.py`, `text_overlap.py`, `unit_tests.py`, `judging.py`); here are the table, the two that need
no file of their own, and the user's own function, which is named as `module:function`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pilotfish.core.errors import MissingExtraError, UserError
from pilotfish.core.item import Item
from pilotfish.scoring import json_fields, judging, numbers, selection, spans, text_overlap, unit_tests
from pilotfish.scoring.closed_sets import folded
from pilotfish.scoring.score import Score, expected, expected_texts, with_finish, with_refusal

__all__ = ["SCORERS", "Score", "Scorer", "corpus_figures", "default_scorer", "scorer", "with_finish"]

Scorer = Callable[[Item, str], Score]

_NEEDS = {"rouge": "rouge_score", "bleu": "sacrebleu", "chrf": "sacrebleu", "regex": "regex"}
"""The library behind a scorer, missed when the scorer is chosen and not when it meets its first answer."""

LONG_TEXT_WORDS = 12
"""Expected answers longer than this in the median are texts, which no two writers write alike."""

_LETTER = re.compile(r"\(?[A-Z]\)?\.?")
_PLAIN_NUMBER = re.compile(r"[-+]?[$\u20ac\u00a3]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?")


def scorer(name: str, **options: Any) -> Scorer:  # noqa: ANN401 - options of any scorer
    """The scorer of that name with its options.

    Raises `UserError` for an unknown name, option or function, `MissingExtraError` where its library is missing. The
    scorer itself raises `DataError` for an item that it cannot judge (nothing expected, no tests, no choices).
    """
    if name in SCORERS:
        if name in _NEEDS and importlib.util.find_spec(_NEEDS[name]) is None:
            raise MissingExtraError("compare", _NEEDS[name])
        function = SCORERS[name]
        _check_options(name, function, options)
        return functools.partial(_guarded, functools.partial(function, **options))
    if ":" in name:
        function = _own(name)
        _check_options(name, function, options)
        return functools.partial(_judged_by, name, functools.partial(function, **options))
    raise UserError(
        f"There is no scorer {name!r}.",
        hint=f"Expected one of {', '.join(SCORERS)}, or a function of your own as module:function.",
    )


def default_scorer(items: Iterable[Item]) -> str:
    """The scorer that suits what the items expect; "auto", which chooses for each item, where they differ in kind."""
    few = list(items)
    kinds = {_kind(item) for item in few}
    if kinds <= {"exact", "rouge"}:
        words = sorted(_n_words(item) for item in few)
        return "rouge" if words and words[len(words) // 2] > LONG_TEXT_WORDS else "exact"
    return kinds.pop() if len(kinds) == 1 else "auto"


def corpus_figures(name: str, pairs: Sequence[tuple[Item, str]], **options: Any) -> dict[str, float | str]:  # noqa: ANN401
    """What is defined for a corpus only: entity precision, recall, micro and macro F1; BLEU and chrF with signature;
    ROUGE-1, -2, -L; SQuAD's exact match and F1. Empty for every other scorer, and for no items.
    """
    if not pairs:
        return {}
    if name == "entity_f1":
        return dict(spans.entity_corpus(pairs, **options))
    if name in ("rouge", "bleu", "chrf"):
        options.pop("kind", None)
        return dict(text_overlap.overlap_corpus(name, pairs, **options))
    if name == "squad_f1":
        exact = [spans.score_squad(item, answer, exact=True).value for item, answer in pairs]
        f1 = [spans.score_squad(item, answer).value for item, answer in pairs]
        return {"exact_match": sum(exact) / len(exact), "f1": sum(f1) / len(f1)}
    return {}


def score_exact(item: Item, answer: str, *, fold: bool = True) -> Score:
    """1 where the answer is one of the expected texts.

    With `fold` case, surplus spaces, quotes and a final full stop around the text make no difference; without, only
    spaces around it do not.
    """
    value = expected(item, "exact")
    golds = [str(value)] if isinstance(value, int | float) else expected_texts(item, "exact")
    plain = folded if fold else str.strip
    return Score(float(any(plain(answer) == plain(gold) for gold in golds)))


def score_regex(item: Item, answer: str, *, pattern: str = "", whole: bool = False, timeout_s: float = 1.0) -> Score:
    """1 where `pattern`, else the expected text as one, is found in the answer (with `whole`: matches all of it).

    The library is `regex`, since a pattern with nested repeats can take for ever on a text that a model chose, and its
    matching can be interrupted. Raises `UserError` for what is no pattern.
    """
    import regex  # noqa: PLC0415 - an extra

    source = pattern or str(expected(item, "regex"))
    try:
        compiled = regex.compile(source)
        match = compiled.fullmatch if whole else compiled.search
        return Score(float(match(answer, timeout=timeout_s) is not None))
    except regex.error as error:
        raise UserError(f"Item {item.id!r}: {source!r} is no regular expression: {error}.") from error
    except TimeoutError:
        return Score(0.0, "timeout", f"the pattern took longer than {timeout_s:g} s")


def score_judge(item: Item, answer: str, *, ask: Callable[[str], str] | None = None) -> Score:
    """What a judge says of the answer beside the expected one, in both orders: 1 better, 0.5 undecided, 0 worse.

    `ask` puts a prompt to the judge and returns its reply. Raises `UserError` without one.
    """
    if ask is None:
        raise UserError("The scorer 'judge' needs a model that judges.", hint="Name one; see evals/judge.py.")
    gold = expected_texts(item, "judge")[0]
    request = "\n\n".join(message.text or "" for message in item.messages)
    forward = ask(judging.pair_prompt(request, answer, gold))
    return judging.PairVerdict.of_replies(forward, ask(judging.pair_prompt(request, gold, answer))).score


def score_auto(item: Item, answer: str) -> Score:
    """The score by the scorer that suits this item."""
    return SCORERS[_kind(item)](item, answer)


SCORERS: dict[str, Callable[..., Score]] = {
    "exact": score_exact,
    "label": selection.score_label,
    "choice": selection.score_choice,
    "number": numbers.score_number,
    "json": json_fields.score_json,
    "squad_f1": spans.score_squad,
    "entity_f1": spans.score_entities,
    "rouge": text_overlap.score_rouge,
    "bleu": text_overlap.score_bleu,
    "chrf": text_overlap.score_chrf,
    "regex": score_regex,
    "unit_tests": unit_tests.score_code,
    "judge": score_judge,
    "auto": score_auto,
}
"""Every scorer by name."""


def _guarded(function: Scorer, item: Item, answer: str) -> Score:
    return with_refusal(function(item, answer), item, answer)


def _check_options(name: str, function: Callable[..., Any], options: dict[str, Any]) -> None:
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise UserError(
            f"The scorer {name!r} has no option {unknown[0]!r}.",
            hint=f"It has {', '.join(known)}." if known else "It has none.",
        )


def _own(name: str) -> Callable[..., Any]:
    """The user's function. The working folder counts, as it does for `python -m`."""
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"The scorer {name!r} cannot be loaded: {error}.",
            hint="Name an importable module and a function in it: module:function, called with an item and an answer.",
        ) from error
    if not callable(function):
        raise UserError(f"The scorer {name!r} is no function but {type(function).__name__}.")
    return function  # type: ignore[no-any-return]


def _judged_by(name: str, function: Callable[[Item, str], object], item: Item, answer: str) -> Score:
    """The user's score. What it raises is a failure of this answer; what it returns must be a score."""
    try:
        value = function(item, answer)
    except (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        return Score(0.0, "error", f"{type(error).__name__}: {error}"[:200])
    if isinstance(value, Score):
        return value
    if isinstance(value, bool | int | float) and 0 <= value <= 1:
        return Score(float(value))
    raise UserError(
        f"The scorer {name!r} returned {value!r} for item {item.id!r}.", hint="Expected a Score, or 0 to 1."
    )


def _kind(item: Item) -> str:  # noqa: PLR0911 - one line a kind
    """The scorer that suits one item; "rouge" and "exact" are told apart over all of them."""
    value = item.expected
    if item.tests:
        return "unit_tests"
    if value is None:
        return "judge"
    if item.choices:
        return "label" if isinstance(value, str) and value in item.choices else "choice"
    if isinstance(value, dict):
        return "json"
    if isinstance(value, list):
        return "squad_f1" if value and all(map(_is_answer, value)) else "entity_f1"
    if isinstance(value, str) and _LETTER.fullmatch(value.strip()):
        return "choice"
    if isinstance(value, str) and not _PLAIN_NUMBER.fullmatch(value.strip()):
        return "rouge" if len(value.split()) > LONG_TEXT_WORDS else "exact"
    return "exact" if isinstance(value, bool) else "number"


def _is_answer(value: object) -> bool:
    return isinstance(value, str) and not re.fullmatch(r"O|[BI]-\S+", value)


def _n_words(item: Item) -> int:
    return len(item.expected.split()) if isinstance(item.expected, str) else 1
