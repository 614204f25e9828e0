"""Recorded outcomes from files: our own rows, RouterBench, RouteLLM and LLMRouter.

Each layout is known by its columns. RouterBench and RouteLLM write one column of scores a model, with what else is
known of its answer beside it (`MODEL|total_cost`, `MODEL_response`); LLMRouter writes one row a request and model.
Parquet, CSV, JSON and JSON lines are read, pickle never: it runs code. A row that cannot be read stops it with file,
line and reason, since figures from the rest would be biased. Prices turn into costs only where tokens, or the
characters of the answer, are known.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pilotfish.core.errors import DataError
from pilotfish.core.ids import fingerprint, sha256
from pilotfish.core.messages import Price, Usage
from pilotfish.core.outcome import Outcome, Tried
from pilotfish.evals.files import Row, file_rows
from pilotfish.evals.outcome_fields import ANSWER_FIELDS, amount, count, is_score, score_of, string, text_of, written
from pilotfish.store.traffic_formats import RowError

Content = dict[str, Any]

CHARACTERS_A_TOKEN = 4
"""Where a file knows an answer's length in characters alone, its tokens, and so its cost, are estimated by this."""

_PER_MODEL = ("|model_response", "|total_cost", "_response", "_responses", "|tokens")
_IDS = ("request_id", "id", "sample_id", "task_id", "question_id", "prompt_id")
_TASKS = ("task", "eval_name", "task_name", "source")
_ABOUT = frozenset(
    (
        "",
        "Unnamed: 0",
        "index",
        *_IDS,
        *_TASKS,
        "prompt",
        "query",
        "split",
        "oracle_model_to_route_to",
        "subject",
        "category",
    )
)
_TAGS = ("subject", "category", "subset", "metric")


def read_outcomes(sources: Sequence[str | Path], *, split: str = "") -> list[Outcome]:
    """The outcomes of files or folders, in their order; of one split where it is named ("train", "dev", "test").

    Requests that files share are joined by id; of a model that answered one twice, the last answer counts. Rows that a
    benchmark marks as contaminated are left out. Raises `DataError`, with up to three rows where they cannot be read.
    """
    rows = [row for source in sources for row in _rows(Path(source))]
    found: dict[str, Outcome] = {}
    wrong: list[str] = []
    tables: defaultdict[str, list[tuple[Row, Outcome]]] = defaultdict(list)
    for row in rows:
        try:
            outcome = _read(row)
            if outcome is not None:
                found[outcome.request_id] = _joined(found.get(outcome.request_id), outcome)
        except RowError as error:
            wrong.append(f"{row.place}: {error}")
            continue
        if outcome is not None and _layout(row.content) is _wide:
            tables[row.file].append((row, outcome))
    wrong += [line for table in tables.values() for line in _no_scores(table)]
    if wrong:
        raise DataError(f"{len(wrong):,} of {len(rows):,} rows cannot be read. {'; '.join(wrong[:3])}.", hint=_EXPECTED)
    kept = [outcome for outcome in found.values() if not split or outcome.split == split]
    if not kept:
        splits = sorted({outcome.split for outcome in found.values() if outcome.split})
        raise DataError(
            f"There is no outcome of the split {split!r}." if found else "There is no outcome.",
            hint=_split_hint(splits) if found else _EXPECTED,
        )
    return kept


def priced(outcomes: Iterable[Outcome], prices: Mapping[str, Price]) -> list[Outcome]:
    """The same with the cost of each answer whose model has a price and whose tokens, or text, are known; others stay
    as they are.

    Raises `DataError` where nobody has a model that is named.
    """
    outcomes = list(outcomes)
    known = {name for outcome in outcomes for name in outcome.tried}
    for name in prices:
        if name not in known:
            raise DataError(f"No outcome has the model {name!r}.", hint=f"Known models: {', '.join(sorted(known))}.")
    return [
        replace(
            outcome,
            tried={
                name: replace(tried, cost_usd=_cost(tried, prices[name], outcome)) if name in prices else tried
                for name, tried in outcome.tried.items()
            },
        )
        for outcome in outcomes
    ]


def to_row(outcome: Outcome) -> Content:
    """An outcome as a row of our own layout, which `read_outcomes` reads back."""
    answers = {
        name: {key: value for key, value in asdict(tried).items() if value not in (None, "", ())}
        for name, tried in outcome.tried.items()
    }
    return {
        "request_id": outcome.request_id,
        "prompt": outcome.prompt,
        "task": outcome.task,
        "split": outcome.split,
        "probability": outcome.probability,
        "tags": dict(outcome.tags),
        "code": outcome.code,
        "tests": outcome.tests,
        "answers": answers,
    }


def outcomes_sha256(outcomes: Iterable[Outcome]) -> str:
    """The SHA-256 of outcomes in their order, with everything in them."""
    lines = (json.dumps(to_row(outcome), sort_keys=True, ensure_ascii=True) for outcome in outcomes)
    return sha256("\n".join(lines).encode())


def _rows(path: Path) -> list[Row]:
    if path.suffix in (".pkl", ".pickle"):
        raise DataError(
            f"{str(path)!r} is a pickle, which may run any code when it is opened.",
            hint="Convert it where you trust it: pandas.read_pickle(...).to_json(..., orient='records', lines=True).",
        )
    return file_rows(path)


def _read(row: Row) -> Outcome | None:
    content = row.content
    if isinstance(content, RowError):
        raise content
    if not isinstance(content, dict):
        raise RowError(f"expected an object, got {str(content)[:60]!r}")
    if str(content.get("contaminated", "")).lower() == "true":
        return None
    read = _layout(content)
    if read is None:
        raise RowError(f"no layout has the columns {', '.join(map(repr, list(content)[:8])) or '(none)'}")
    outcome = read(content)
    return outcome if outcome.split else replace(outcome, split=row.split)


def _layout(content: Any) -> Callable[[Content], Outcome] | None:  # noqa: ANN401 - a row as it was read
    return next((read for columns, read in _LAYOUTS if columns <= content.keys()), None)


def _own(row: Content) -> Outcome:
    answers = row["answers"]
    if not isinstance(answers, dict) or not all(isinstance(answer, dict) for answer in answers.values()):
        raise RowError("'answers' must be an object of one object a model")
    probability = row.get("probability", 1.0)
    if not isinstance(probability, int | float) or not 0.0 < probability <= 1.0:
        raise RowError(f"'probability' must lie in (0, 1], but is {probability!r}")
    tried = {}
    for name, answer in answers.items():
        unknown = answer.keys() - {"score", *ANSWER_FIELDS}
        if unknown:
            raise RowError(f"{name!r} has the unknown field {min(unknown)!r}")
        known = {
            key: ANSWER_FIELDS[key](value, f"{key!r} of {name!r}") for key, value in answer.items() if key != "score"
        }
        stated = {key: value for key, value in known.items() if value is not None}
        tried[name] = Tried(score=score_of(answer.get("score"), name), **stated)
    return replace(_made(row, text_of(row, "prompt"), tried), probability=float(probability))


def _recorded(row: Content) -> Outcome:
    """One object of scores a row, with texts and lengths beside it: the rows of ../shared/data."""
    scores = row["scores"]
    if not isinstance(scores, dict):
        raise RowError(f"'scores' must be an object of one score a model, but is {str(scores)[:60]!r}")
    texts, lengths = row.get("responses") or {}, row.get("out_chars") or {}
    if not isinstance(texts, dict) or not isinstance(lengths, dict):
        raise RowError("'responses' and 'out_chars' must be objects of one text, or number, a model")
    tried = {}
    for name, score in scores.items():
        length = amount(lengths.get(name), f"'out_chars' of {name!r}")
        tried[name] = Tried(
            score=score_of(score, name),
            text=string(texts.get(name), f"the response of {name!r}"),
            output_tokens=None if length is None else round(length / CHARACTERS_A_TOKEN),
        )
    return _made(row, str(row.get("prompt", "")), tried)


def _long(row: Content) -> Outcome:
    """LLMRouter: one row a request and model."""
    name, query = text_of(row, "model_name"), text_of(row, "query")
    tried = Tried(
        score=score_of(row["performance"], name),
        text=written(row.get("response")),
        input_tokens=count(row.get("input_tokens"), "'input_tokens'"),
        output_tokens=count(row.get("output_tokens"), "'output_tokens'"),
        latency_s=amount(row.get("response_time"), "'response_time'"),
    )
    return _made(row, query, {name: tried})


def _wide(row: Content) -> Outcome:
    """RouterBench and RouteLLM: one column of scores a model."""
    names = [key for key in _columns(row) if is_score(row[key])]
    if len(names) < 2:
        others = ", ".join(f"{key!r}: {str(row[key])[:20]!r}" for key in _columns(row) if key not in names)
        raise RowError(
            "a table needs a column of scores (0..1, or True and False) for each of two models or more; here "
            + (f"{', '.join(map(repr, names))} alone has one" if names else "none has one")
            + (f", and {others[:200]} is none" if others else "")
        )
    tried = {}
    for name in names:
        texts = [row[name + end] for end in ("|model_response", "_response", "_responses") if name + end in row]
        tried[name] = Tried(
            score=score_of(row[name], name),
            text=written(texts[0]) if texts else None,
            cost_usd=amount(row.get(f"{name}|total_cost"), f"the cost of {name!r}"),
        )
    return _made(row, text_of(row, "prompt"), tried)


def _columns(row: Content) -> list[str]:
    """The columns of a table that may hold a model's scores."""
    return [key for key in row if key not in _ABOUT and not key.endswith(_PER_MODEL)]


def _no_scores(table: Sequence[tuple[Row, Outcome]]) -> list[str]:
    """Where a number stands that is no score, in a column that holds scores elsewhere: either a model's answer would be
    missed, or a column of something else be taken for a model."""
    names = {name for _, outcome in table for name in outcome.tried}
    wrong = []
    for row, outcome in table:
        content: Any = row.content
        for name in sorted(names - outcome.tried.keys()):
            try:
                number = float(content.get(name) or "nan")
            except (TypeError, ValueError):
                continue
            if not math.isnan(number):
                wrong.append(
                    f"{row.place}: the score of {name!r} must lie in 0..1, as in other rows, but is {content[name]!r}; "
                    "leave out a column that is no model's"
                )
    return wrong


_LAYOUTS: tuple[tuple[set[str], Callable[[Content], Outcome]], ...] = (
    ({"prompt", "answers"}, _own),
    ({"scores"}, _recorded),
    ({"query", "model_name", "performance"}, _long),
    ({"prompt"}, _wide),
)
_EXPECTED = (
    'Expected rows such as {"request_id": ..., "prompt": ..., "answers": {MODEL: {"score": 0..1, "text": ...}}}, '
    "or the tables of RouterBench, RouteLLM (CSV) or LLMRouter (JSON lines)."
)


def _split_hint(splits: Sequence[str]) -> str:
    return f"Known splits: {', '.join(splits)}." if splits else "No row names its split: leave out --split."


def _made(row: Content, prompt: str, tried: Mapping[str, Tried]) -> Outcome:
    own_id = next((str(row[key]) for key in _IDS if isinstance(row.get(key), str | int)), "")
    return Outcome(
        request_id=own_id or fingerprint(prompt),
        prompt=prompt,
        tried=tried,
        task=next((str(row[key]) for key in _TASKS if isinstance(row.get(key), str)), ""),
        split=row["split"] if isinstance(row.get("split"), str) else "",
        tags={key: row[key] for key in _TAGS if isinstance(row.get(key), str)} | _own_tags(row),
        code=row["code"] if isinstance(row.get("code"), str) else "",
        tests=row["tests"] if isinstance(row.get("tests"), str) else "",
    )


def _own_tags(row: Content) -> dict[str, str]:
    tags = row.get("tags")
    return {str(key): str(value) for key, value in tags.items()} if isinstance(tags, dict) else {}


def _joined(known: Outcome | None, outcome: Outcome) -> Outcome:
    if known is None:
        return outcome
    if known.prompt and outcome.prompt and known.prompt != outcome.prompt:
        raise RowError(
            f"the id {outcome.request_id!r} also stands for another prompt ({known.prompt[:40]!r}); "
            "give each request an id of its own, or none"
        )
    return replace(
        known,
        prompt=known.prompt or outcome.prompt,
        task=known.task or outcome.task,
        split=known.split or outcome.split,
        tried={**known.tried, **outcome.tried},
    )


def _cost(tried: Tried, price: Price, outcome: Outcome) -> float | None:
    prompt, completion = tried.input_tokens, tried.output_tokens
    if completion is None:
        if tried.text is None or tried.cost_usd is not None:
            return tried.cost_usd
        completion = round(len(tried.text) / CHARACTERS_A_TOKEN)
    if prompt is None:
        prompt = round(len(outcome.prompt) / CHARACTERS_A_TOKEN)
    return price.cost_usd(Usage(prompt=prompt, completion=completion))
