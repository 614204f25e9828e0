"""The layouts of a row to measure on: a decoded row in, an item out.

Each layout is known by its columns: multiple choice (MMLU, ARC), GSM8K, HumanEval, MBPP, SQuAD, tagged tokens, typed
spans, labelled texts, pairs for a judge, prompts with recorded scores, and plain pairs of input and expected answer.
A benchmark's row becomes one user message without examples ("zero-shot"), which ends by saying how to answer. A
column that is neither asked nor expected, and short, is a tag. A row of no layout raises a `RowError` that says what
is missing.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import string
from collections.abc import Callable
from typing import Any

from pilotfish.core.item import Item
from pilotfish.core.messages import Message
from pilotfish.store.traffic_formats import (
    ANSWER_KEYS,
    INPUT_KEYS,
    INSTRUCTION_KEYS,
    TIME_KEYS,
    RowError,
    is_conversation,
)

Content = dict[str, Any]

EXPECTED_KEYS = ("expected", "expected_output", "target", "gold", "ideal", "reference", *ANSWER_KEYS)
ID_KEYS = ("id", "task_id", "item_id", "question_id")
MAX_TAG_CHARACTERS = 80
_NO_TAGS = (*ID_KEYS, *TIME_KEYS, "latency_s", "latency_ms", "split")

LETTER_HINT = "Answer with the letter of the right choice only."
NUMBER_HINT = "Reason step by step, then write the answer as a number on the last line, after ####."
SPAN_HINT = "Answer with the shortest span of the text that answers the question, and nothing else."
CODE_HINT = "Complete this Python function. Answer with the whole function in one code block."

_DEFINED = re.compile(r"^(?:async )?def (\w+)", re.MULTILINE)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")


def read_item(content: object, *, subject: str = "") -> tuple[str, Item]:
    """The name of a row's layout and its item, whose id is empty where the row has none.

    `subject` becomes a tag where the layout is known to keep it in the file's name. Raises `RowError`.
    """
    if isinstance(content, RowError):
        raise content
    if not isinstance(content, dict):
        raise RowError(f"expected an object, got {str(content)[:60]!r}")
    row = {key: value for key, value in content.items() if value is not None}
    for name, columns, read in _LAYOUTS:
        if all(any(key in row for key in column.split("|")) for column in columns):
            item = read(row)
            if name == "MMLU" and subject and "subject" not in item.tags:
                item.tags["subject"] = subject
            return name, item
    raise RowError(
        f"no layout has the columns {', '.join(map(repr, list(row)[:8])) or '(none)'}; the plainest is "
        '{"input": ..., "expected": ...}'
    )


def _made(row: Content, asked: str | list[Message], used: tuple[str, ...], **parts: Any) -> Item:  # noqa: ANN401
    """The item of a row; every other short column is a tag."""
    messages = [Message(role="user", content=asked)] if isinstance(asked, str) else asked
    tags = {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in row.items()
        if key not in (*used, *_NO_TAGS)
        and isinstance(value, str | int | float)
        and len(str(value)) <= MAX_TAG_CHARACTERS
    }
    own_id = next((row[key] for key in ID_KEYS if isinstance(row.get(key), str | int)), "")
    cluster = parts.pop("cluster", "") or str(row.get("cluster", ""))
    return Item(id=str(own_id), messages=messages, tags=tags, cluster=cluster, **parts)


def _text(row: Content, *keys: str) -> str:
    """The text of the first of the columns that is there. Raises `RowError` where it is none, or empty."""
    key = next((key for key in keys if key in row), keys[0])
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise RowError(f"{key!r} must be text, but is {str(value)[:60]!r}")
    return value


def _tagged(row: Content) -> Item:
    key = "tags" if "tags" in row else "ner_tags"
    tokens, tags = row["tokens"], row[key]
    if not (isinstance(tokens, list) and isinstance(tags, list) and len(tokens) == len(tags)):
        raise RowError(f"'tokens' and {key!r} must be lists of one length")
    if not all(isinstance(tag, str) and re.fullmatch(r"O|[BI]-\S+", tag) for tag in tags):
        raise RowError(f"{key!r} must be IOB2 tags (O, B-type, I-type), but has {str(tags)[:60]}")
    words = [str(token) for token in tokens]
    asked = json.dumps(words, ensure_ascii=False)
    return _made(row, asked, ("tokens", key), expected=tags, context=" ".join(words))


def _typed_spans(row: Content) -> Item:
    text, spans = _text(row, "text"), row["spans"]
    if not isinstance(spans, list) or not all(
        isinstance(s, dict) and {"type", "start", "end"} <= s.keys() for s in spans
    ):
        raise RowError("'spans' must be a list of objects with type, start and end")
    expected = [{key: span[key] for key in ("type", "start", "end")} for span in spans]
    return _made(row, text, ("text", "spans"), expected=expected, context=text)


def _judged(row: Content) -> Item:
    asked = (
        f"Which answer serves the request better?\n\n[Request]\n{_text(row, 'instruction')}\n\n[Answer 1]\n"
        f"{_text(row, 'output_1')}\n\n[Answer 2]\n{_text(row, 'output_2')}\n\nReply with 1 or 2 only."
    )
    if str(row["preferred"]) not in ("1", "2"):
        raise RowError(f"'preferred' must be 1 or 2, but is {row['preferred']!r}")
    used = ("instruction", "output_1", "output_2", "preferred")
    return _made(row, asked, used, expected=str(row["preferred"]), choices=("1", "2"))


def _multiple_choice(row: Content) -> Item:
    asked, choices = row.get("question", row.get("prompt")), row.get("choices")
    key = _expected_key(row, "answerKey")
    if isinstance(asked, dict):  # ARC as its authors publish it
        choices = asked.get("choices")
        asked = asked.get("stem")
    if all(letter in row for letter in "ABCD"):
        choices = [str(row[letter]) for letter in "ABCD"]
    names, texts = _choices(choices)
    if not isinstance(asked, str):
        raise RowError(f"the question must be text, but is {str(asked)[:60]!r}")
    index = _right_choice(row[key], names, texts)
    listed = "\n".join(f"{letter}. {text}" for letter, text in zip(string.ascii_uppercase, texts, strict=False))
    used = ("question", "prompt", "choices", "A", "B", "C", "D", key)
    letter = string.ascii_uppercase[index]
    return _made(row, f"{asked}\n{listed}\n\n{LETTER_HINT}", used, expected=letter, choices=tuple(texts))


def _choices(value: object) -> tuple[list[str], list[str]]:
    """The names (A, B, ... or 1, 2, ...) and the texts of the choices."""
    if isinstance(value, dict):
        names, texts = value.get("label", value.get("labels")), value.get("text")
    elif (
        isinstance(value, list)
        and value
        and all(isinstance(one, dict) and {"label", "text"} <= one.keys() for one in value)
    ):
        names, texts = [one["label"] for one in value], [one["text"] for one in value]
    else:
        names, texts = None, value
    if not isinstance(texts, list) or not 2 <= len(texts) <= 26:
        raise RowError(f"'choices' must be 2 to 26 texts, but is {str(value)[:60]!r}")
    letters = list(string.ascii_uppercase[: len(texts)])
    return [str(name) for name in names] if isinstance(names, list) else letters, [str(text) for text in texts]


def _right_choice(value: object, names: list[str], texts: list[str]) -> int:
    if isinstance(value, str) and value.strip() in names:
        return names.index(value.strip())
    if isinstance(value, str) and value in texts:
        return texts.index(value)
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(texts):
        return value
    raise RowError(f"the answer must be one of {', '.join(names)} or an index from 0, but is {str(value)[:60]!r}")


def _squad(row: Content) -> Item:
    context, question, answers = _text(row, "context"), _text(row, "question"), row["answers"]
    texts = answers.get("text") if isinstance(answers, dict) else answers
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise RowError(f"'answers' must be a list of texts, but is {str(answers)[:60]!r}")
    asked = f"{context}\n\nQuestion: {question}\n\n{SPAN_HINT}"
    passage = hashlib.sha256(context.encode()).hexdigest()[:12]
    golds = list(dict.fromkeys(texts)) or [""]
    return _made(row, asked, ("context", "question", "answers"), expected=golds, context=context, cluster=passage)


def _humaneval(row: Content) -> Item:
    prompt, test, name = _text(row, "prompt"), _text(row, "test"), _text(row, "entry_point")
    used = ("prompt", "test", "canonical_solution")
    return _code(row, prompt, f"{test}\n\ncheck({name})\n", used, row.get("canonical_solution"))


def _code(row: Content, prompt: str, tests: str, used: tuple[str, ...], solution: object = None) -> Item:
    asked = f"{CODE_HINT}\n\n```python\n{prompt.rstrip()}\n```"
    return _made(row, asked, used, expected=solution, context=prompt, tests=tests)


def _mbpp(row: Content) -> Item:
    tests = row["test_list"]
    if not isinstance(tests, list) or not tests or not all(isinstance(test, str) for test in tests):
        raise RowError("'test_list' must be a list of assertions")
    return _task_with_tests(row, _text(row, "text", "prompt"), [row.get("test_setup_code", ""), *tests])


def _task_with_tests(row: Content, text: str, tests: list[str]) -> Item:
    shown = next(test for test in tests if test)
    asked = f"{text}\n\nAnswer with Python code in one code block. It must pass tests such as:\n{shown}"
    return _made(row, asked, ("text", "prompt", "gold", "code"), expected=row.get("code"), tests="\n".join(tests))


def _labelled(row: Content) -> Item:
    label = row["label"]
    if not isinstance(label, str | int):
        raise RowError(f"'label' must be text, but is {str(label)[:60]!r}")
    return _made(row, _text(row, "text"), ("text",), expected=str(label))


def _gsm8k(row: Content) -> Item:
    answer = _text(row, "answer")
    if "####" not in answer:
        return _pair(row)
    asked = f"{_text(row, 'question')}\n\n{NUMBER_HINT}"
    return _made(row, asked, ("question", "answer"), expected=answer.rpartition("####")[2].strip())


def _recorded(row: Content) -> Item:
    """A prompt with recorded scores; `metric` (of LLMRouter's data) says how its gold answer is meant."""
    prompt, gold, metric = _text(row, "prompt"), row.get("gold"), row.get("metric", "")
    used = ("prompt", "gold", "scores")
    if metric == "em_mc":
        choices = row.get("choices")
        choices = _literal(choices) if isinstance(choices, str) else choices
        return _multiple_choice({**{key: row[key] for key in row if key != "scores"}, "choices": choices})
    if metric == "code_eval" and isinstance(gold, str):
        named = _DEFINED.findall(prompt)
        if "def check(" in gold and named:
            return _code(row, prompt, f"{gold}\n\ncheck({named[-1]})\n", used)
        return _task_with_tests(row, prompt, [str(test) for test in _as_list(_literal(gold))])
    if metric == "f1_score":
        gold = [gold]
    elif metric in ("GSM8K", "MATH") and isinstance(gold, str):
        boxes = _BOXED.findall(gold)
        gold = boxes[-1] if boxes else gold.rpartition("####")[2].strip()
    elif metric == "commongen_coverage":
        gold = None  # the share of the given words that are used: no scorer here measures that
    return _made(row, prompt, used, expected=gold)


def _literal(text: str) -> object:
    """The value of a Python literal, which is how some sets keep a list in a text column."""
    try:
        value: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise RowError(f"expected the literal of a list, got {text[:60]!r}") from error
    return value


def _as_list(value: object) -> list[object]:
    if not isinstance(value, list) or not value:
        raise RowError(f"expected a list that is not empty, got {str(value)[:60]!r}")
    return value


def _pair(row: Content) -> Item:
    source = next((key for key in ("messages", *INPUT_KEYS) if key in row), "")
    key = _expected_key(row)
    value = row[source]
    if isinstance(value, list) and is_conversation(value):
        messages = [Message(role=str(turn.get("role")), content=turn.get("content")) for turn in value]
    else:
        messages = [Message(role="user", content=_text(row, source))]
    system = next((row[name] for name in INSTRUCTION_KEYS if isinstance(row.get(name), str)), "")
    if system and messages[0].role not in ("system", "developer"):
        messages = [Message(role="system", content=system), *messages]
    choices = row.get("choices", [])
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise RowError("'choices' must be a list of texts")
    parts = {name: row[name] for name in ("context", "tests") if isinstance(row.get(name), str)}
    used = (source, key, *INSTRUCTION_KEYS, "choices", *parts)
    return _made(row, messages, used, expected=row.get(key), choices=tuple(choices), **parts)


def _expected_key(row: Content, *more: str) -> str:
    return next((key for key in (*more, *EXPECTED_KEYS) if key in row), "")


_LAYOUTS: tuple[tuple[str, tuple[str, ...], Callable[[Content], Item]], ...] = (
    ("tagged tokens", ("tokens", "tags|ner_tags"), _tagged),
    ("typed spans", ("text", "spans"), _typed_spans),
    ("pairs for a judge", ("instruction", "output_1", "output_2", "preferred"), _judged),
    ("recorded scores", ("prompt", "scores"), _recorded),
    ("MMLU", ("question", "A", "B", "C", "D", "answer"), _multiple_choice),
    ("multiple choice", ("question|prompt", "choices", "answer|answerKey|gold"), _multiple_choice),
    ("ARC", ("question", "answerKey"), _multiple_choice),
    ("SQuAD", ("context", "question", "answers"), _squad),
    ("HumanEval", ("prompt", "test", "entry_point"), _humaneval),
    ("MBPP", ("text|prompt", "test_list"), _mbpp),
    ("labelled texts", ("text", "label"), _labelled),
    ("GSM8K", ("question", "answer"), lambda row: _gsm8k(row) if isinstance(row["answer"], str) else _pair(row)),
    ("pairs", ("messages|" + "|".join(INPUT_KEYS), "|".join(EXPECTED_KEYS)), _pair),
    ("prompts", ("messages|" + "|".join(INPUT_KEYS),), _pair),
)
"""Name, columns (alternatives between bars) and reader of each layout; the first whose columns are there is taken."""
