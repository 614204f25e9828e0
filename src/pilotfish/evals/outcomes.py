"""Recorded outcomes from files: our own rows, RouterBench, RouteLLM and LLMRouter.

Each layout is known by its columns. RouterBench and RouteLLM write one column of scores a model, with what else is
known of its answer beside it (`MODEL|total_cost`, `MODEL_response`); LLMRouter writes one row a request and model.
Parquet, CSV, JSON and JSON lines are read, pickle never: it runs code. A row that cannot be read stops it with file,
line and reason, since figures from the rest would be biased. Prices turn into costs only where tokens, or the
characters of the answer, are known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pilotfish.core.errors import DataError
from pilotfish.core.ids import fingerprint, sha256
from pilotfish.core.messages import Price, Usage
from pilotfish.core.outcome import Outcome, Tried
from pilotfish.evals.files import Row, file_rows
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

    Requests that files share are joined by id. Rows that a benchmark marks as contaminated are left out. Raises
    `DataError`, with up to three rows where they cannot be read.
    """
    rows = [row for source in sources for row in _rows(Path(source))]
    found: dict[str, Outcome] = {}
    wrong: list[str] = []
    for row in rows:
        try:
            outcome = _read(row)
        except RowError as error:
            wrong.append(f"{row.place}: {error}")
            continue
        if outcome is not None:
            found[outcome.request_id] = _joined(found.get(outcome.request_id), outcome)
    if wrong:
        raise DataError(f"{len(wrong):,} of {len(rows):,} rows cannot be read. {'; '.join(wrong[:3])}.", hint=_EXPECTED)
    kept = [outcome for outcome in found.values() if not split or outcome.split == split]
    if not kept:
        splits = sorted({outcome.split for outcome in found.values() if outcome.split})
        raise DataError(
            f"There is no outcome of the split {split!r}." if found else "There is no outcome.",
            hint=f"Known splits: {', '.join(splits)}." if splits else _EXPECTED,
        )
    return kept


def priced(outcomes: Iterable[Outcome], prices: Mapping[str, Price]) -> list[Outcome]:
    """The same with the cost of each answer whose model has a price and whose tokens are known; others stay as they
    are."""
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
    for columns, read in _LAYOUTS:
        if columns <= content.keys():
            outcome = read(content)
            return outcome if outcome.split else replace(outcome, split=row.split)
    raise RowError(f"no layout has the columns {', '.join(map(repr, list(content)[:8])) or '(none)'}")


def _own(row: Content) -> Outcome:
    answers = row["answers"]
    if not isinstance(answers, dict) or not all(isinstance(answer, dict) for answer in answers.values()):
        raise RowError("'answers' must be an object of one object a model")
    probability = row.get("probability", 1.0)
    if not isinstance(probability, int | float) or not 0.0 < probability <= 1.0:
        raise RowError(f"'probability' must lie in (0, 1], but is {probability!r}")
    tried = {}
    for name, answer in answers.items():
        unknown = answer.keys() - Tried.__dataclass_fields__.keys()
        if unknown:
            raise RowError(f"{name!r} has the unknown field {min(unknown)!r}")
        listed = {key: tuple(answer[key]) for key in _LISTS if isinstance(answer.get(key), list)}
        tried[name] = Tried(**{**answer, **listed, "score": _score(answer.get("score"), name)})
    return replace(_made(row, _text(row, "prompt"), tried), probability=float(probability))


def _recorded(row: Content) -> Outcome:
    """One object of scores a row, with texts and lengths beside it: the rows of ../shared/data."""
    scores = row["scores"]
    if not isinstance(scores, dict):
        raise RowError(f"'scores' must be an object of one score a model, but is {str(scores)[:60]!r}")
    texts, lengths = row.get("responses") or {}, row.get("out_chars") or {}
    tried = {
        name: Tried(
            score=_score(score, name),
            text=texts.get(name),
            output_tokens=round(lengths[name] / CHARACTERS_A_TOKEN) if name in lengths else None,
        )
        for name, score in scores.items()
    }
    return _made(row, str(row.get("prompt", "")), tried)


def _long(row: Content) -> Outcome:
    """LLMRouter: one row a request and model."""
    name, query = _text(row, "model_name"), _text(row, "query")
    tried = Tried(
        score=_score(row["performance"], name),
        text=_optional(row.get("response"), str),
        input_tokens=_optional(row.get("input_tokens"), int),
        output_tokens=_optional(row.get("output_tokens"), int),
        latency_s=_optional(row.get("response_time"), float),
    )
    return _made(row, query, {name: tried})


def _wide(row: Content) -> Outcome:
    """RouterBench and RouteLLM: one column of scores a model."""
    names = [key for key in row if key not in _ABOUT and not key.endswith(_PER_MODEL) and _is_score(row[key])]
    if len(names) < 2:
        raise RowError("a table needs a column of scores (0..1, or True and False) for each of two models or more")
    tried = {}
    for name in names:
        texts = [row[name + end] for end in ("|model_response", "_response", "_responses") if name + end in row]
        cost = row.get(f"{name}|total_cost")
        tried[name] = Tried(
            score=_score(row[name], name),
            text=_optional(texts[0], str) if texts else None,
            cost_usd=_optional(cost, float),
        )
    return _made(row, _text(row, "prompt"), tried)


_LISTS = ("logprobs", "margins", "samples", "tokens")
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
    return replace(
        known,
        prompt=known.prompt or outcome.prompt,
        task=known.task or outcome.task,
        split=known.split or outcome.split,
        tried={**known.tried, **outcome.tried},
    )


def _cost(tried: Tried, price: Price, outcome: Outcome) -> float | None:
    if tried.output_tokens is None:
        return tried.cost_usd
    prompt = tried.input_tokens
    if prompt is None:
        prompt = round(len(outcome.prompt) / CHARACTERS_A_TOKEN)
    return price.cost_usd(Usage(prompt=prompt, completion=tried.output_tokens))


def _is_score(value: object) -> bool:
    try:
        _score(value, "")
    except RowError:
        return False
    return True


def _score(value: object, name: str) -> float:
    """A score in [0, 1], as a number, a truth value, or either written out."""
    words = {"true": 1.0, "false": 0.0}
    try:
        found = words.get(value.strip().lower()) if isinstance(value, str) else None
        number = float(value) if found is None else found  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if not 0.0 <= number <= 1.0:
        raise RowError(f"the score of {name!r} must lie in 0..1, but is {str(value)[:60]!r}")
    return number


def _optional(value: object, kind: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - the kind's own type
    if value is None or value == "":
        return None
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        raise RowError(f"expected {kind.__name__}, got {str(value)[:60]!r}") from error


def _text(row: Content, key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise RowError(f"{key!r} must be text, but is {str(value)[:60]!r}")
    return value
