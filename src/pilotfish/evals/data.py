"""Data to measure models on: a source in, items with ids, a scorer that suits them and their hash out.

A source is a path (a file or a folder, of any layout in `layouts.py`, or traffic as `backtest` reads it), a data set
of the Hugging Face hub (`owner/name`, `owner/name:config`, `hub:...`) or a task of lm-evaluation-harness
(`lm-eval:arc_easy`). A row that cannot be read stops it with file, line and reason: figures from the rest would be
biased. Without a split the test rows are taken where there are such, else all. A limit takes the rows whose hash with
the seed is smallest, so that a larger limit, or a file that has grown, keeps those drawn before but for the few that
newcomers push out.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pilotfish.core.errors import DataError
from pilotfish.core.item import Item
from pilotfish.core.messages import Message
from pilotfish.evals.files import Row, data_files, file_rows, split_name
from pilotfish.evals.layouts import read_item
from pilotfish.scoring.answers import settle
from pilotfish.scoring.numbers import read_number
from pilotfish.scoring.scorers import default_scorer
from pilotfish.store.traffic import read_traffic
from pilotfish.store.traffic_formats import Exchange, RowError, is_conversation, read_row

HARNESS = "lm-eval:"
HUB = "hub:"
_MAX_SHOWN = 3
_TRAFFIC_KEYS = ("request", "conversation", "conversations", "custom_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """Items to measure on. `sha256` is of all of them; `notes` tell what was left out and why."""

    name: str
    items: tuple[Item, ...]
    default_scorer: str
    sha256: str
    source: str
    notes: tuple[str, ...] = ()


def load(source: str, *, limit: int | None = None, split: str = "", seed: int = 0) -> DataSet:
    """The items of a source. `split` is train, test, dev, any that the source names, or "all".

    Raises `DataError` for what cannot be read, `MissingExtraError` where the hub or the harness needs what is missing.
    """
    if limit is not None and limit < 1:
        raise DataError(f"A limit of {limit} items leaves nothing to measure on; expected at least 1.")
    name, rows = _rows(source)
    notes: list[str] = []
    rows = _of_split(rows, split, source)
    if any(_is_traffic(row.content) for row in rows):
        kinds, items = _of_traffic(source, rows, notes)
    else:
        kinds, items = _of_layouts(rows, notes)
    items = _with_ids(items)
    items = _with_instructions(kinds, _with_choices(items))
    scorer = default_scorer(items)
    if limit is not None and limit < len(items):
        items = heapq.nsmallest(limit, items, key=lambda item: _rank(item, seed))
    digest = items_sha256(items)
    return DataSet(
        name=name, items=tuple(items), default_scorer=scorer, sha256=digest, source=source, notes=tuple(notes)
    )


def items_sha256(items: Iterable[Item]) -> str:
    """The SHA-256 of items in their order, with everything in them."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(asdict(item), sort_keys=True, ensure_ascii=False, default=str).encode() + b"\n")
    return digest.hexdigest()


def _rows(source: str) -> tuple[str, list[Row]]:
    """The name of a source and its rows."""
    path = Path(source)
    if path.exists():
        rows = _joined(path, file_rows(path))
        return data_files(path)[0].name.partition(".")[0] if path.is_file() else path.resolve().name, rows
    if source.startswith(HARNESS):
        from pilotfish.evals.harness import task_rows  # noqa: PLC0415 - heavy

        return source, task_rows(source.removeprefix(HARNESS))
    is_id = source.count("/") == 1 and not source.startswith((".", "/")) and not path.suffix
    if source.startswith(HUB) or is_id:
        from pilotfish.evals.hub import hub_rows  # noqa: PLC0415 - heavy

        return source.removeprefix(HUB), hub_rows(source.removeprefix(HUB))
    raise DataError(
        f"There is no file or folder {source!r}.",
        hint=f"Expected a path, a data set of the hub as owner/name, or a harness task as {HARNESS}NAME.",
    )


def _joined(path: Path, rows: list[Row]) -> list[Row]:
    """Rows that have scores and no prompt take the rest from the file beside theirs that knows their ids."""
    known = [row.content for row in rows if isinstance(row.content, dict)]
    if not path.is_file() or not known or "id" not in known[0] or set(known[0]) - {"id", "scores", "split"}:
        return rows
    family = "_".join(path.name.split("_")[:2])
    wanted = {content.get("id") for content in known}
    for other in sorted(path.parent.glob(f"{family}*.jsonl*")):
        others = [row.content for row in (file_rows(other) if other != path else [])]
        prompts = {
            content["id"]: {"prompt": content["prompt"], "gold": content.get("gold")}
            for content in others
            if isinstance(content, dict) and {"id", "prompt"} <= content.keys()
        }
        if wanted <= prompts.keys():
            return [replace(row, content=_with_prompt(row.content, prompts)) for row in rows]
    return rows


def _with_prompt(content: object, prompts: dict[str, dict[str, object]]) -> object:
    return {**prompts[content["id"]], **content} if isinstance(content, dict) else content


def _is_traffic(content: object) -> bool:
    """Whether a row is a recorded exchange, more than a pair of input and expected answer."""
    if isinstance(content, list):
        return is_conversation(content)
    if not isinstance(content, dict):
        return False
    messages, choices = content.get("messages"), content.get("choices")
    answered = isinstance(messages, list) and is_conversation(messages) and messages[-1].get("role") == "assistant"
    completed = isinstance(choices, list) and bool(choices) and isinstance(choices[0], dict) and "message" in choices[0]
    return answered or completed or any(key in content for key in _TRAFFIC_KEYS)


def _of_traffic(source: str, rows: Sequence[Row], notes: list[str]) -> tuple[list[str], list[Item]]:
    """Items of recorded exchanges. Those without a text answer (tool calls, errors) are told in a note."""
    items, wrong = [], []
    if any(isinstance(row.content, dict) and "custom_id" in row.content for row in rows):
        traffic = read_traffic(source)  # joins the two files of the batch API
        items, wrong = [_exchanged(exchange) for exchange in traffic.exchanges], list(map(str, traffic.unreadable))
    else:
        for row in rows:
            try:
                if isinstance(row.content, RowError):
                    raise row.content
                items.append(_exchanged(read_row(row.content)))
            except RowError as error:
                wrong.append(f"{row.place}: {error}")
    if not items:
        raise DataError(f"None of {len(rows)} rows can be read. First {'; '.join(wrong[:_MAX_SHOWN])}.")
    if wrong:
        notes.append(f"{len(wrong)} rows hold no question with a text answer. First {'; '.join(wrong[:_MAX_SHOWN])}.")
    return ["traffic"] * len(items), items


def _exchanged(exchange: Exchange) -> Item:
    messages = exchange.request.messages
    task = next((message.text or "" for message in messages if message.role in ("system", "developer")), "")
    tags = {"task": " ".join(task.split())[:80], "model": exchange.model}
    return Item(
        id="", messages=messages, expected=exchange.answer, tags={key: value for key, value in tags.items() if value}
    )


def _of_split(rows: list[Row], split: str, source: str) -> list[Row]:
    counts = Counter(row.split for row in rows)
    wanted = split_name(split) or ("test" if "test" in counts else "all")
    if wanted == "all":
        return rows
    found = [row for row in rows if row.split == wanted]
    if not found:
        there = ", ".join(f"{name or '(no split)'} {n}" for name, n in counts.items())
        raise DataError(f"{source!r} has no split {split!r}.", hint=f"It has: {there}.")
    return found


def _of_layouts(rows: Sequence[Row], notes: list[str]) -> tuple[list[str], list[Item]]:
    kinds, items, wrong, n_contaminated = [], [], [], 0
    for row in rows:
        try:
            kind, item = read_item(row.content, subject=row.subject)
        except RowError as error:
            wrong.append(f"{row.place}: {error}")
            continue
        if item.tags.get("contaminated") == "true":
            n_contaminated += 1
            continue
        if row.split:
            item.tags["split"] = row.split
        kinds.append(kind)
        items.append(item)
    if wrong:
        raise DataError(f"{len(wrong)} of {len(rows)} rows cannot be read. First {'; '.join(wrong[:_MAX_SHOWN])}.")
    if not items:
        raise DataError("No row is left to measure on.")
    if n_contaminated:
        notes.append(f"{n_contaminated} rows marked as contaminated are left out")
    if n_mute := sum(item.expected is None and not item.tests for item in items):
        notes.append(f"{n_mute} items expect no answer that a scorer could compare with")
    return kinds, items


def _with_ids(items: list[Item]) -> list[Item]:
    """Every item with an id of its own: the row's, else the hash of its content, which survives growth of the file."""
    counts = Counter(item.id for item in items if item.id)
    twice = [name for name, n in counts.items() if n > 1]
    if twice:
        raise DataError(
            f"The id {twice[0]!r} occurs {counts[twice[0]]} times.", hint="Every row needs an id of its own, or none."
        )
    seen: Counter[str] = Counter()
    made = []
    for item in items:
        name = item.id or items_sha256([item])[:16]
        seen[name] += 1
        made.append(replace(item, id=name if seen[name] == 1 else f"{name}-{seen[name]}"))
    return made


def _with_choices(items: list[Item]) -> list[Item]:
    """Items whose expected answers form a closed set of labels within their task get that set as their choices."""
    by_task: dict[str, list[str]] = {}
    for item in items:
        if isinstance(item.expected, str) and not item.tests and not item.choices:
            by_task.setdefault(item.tags.get("task", ""), []).append(item.expected)
    sets: dict[str, tuple[str, ...]] = {}
    for task, answers in by_task.items():
        distinct = sorted(set(answers))
        is_named = all(re.search("[^\\W_]{2}", answer) for answer in distinct)  # neither letters nor brackets
        is_number = all(read_number(answer) is not None for answer in distinct)
        if is_named and not is_number and settle(answers).kind == "label":
            sets[task] = tuple(distinct)
    return [
        replace(item, choices=sets[task])
        if isinstance(item.expected, str)
        and not item.tests
        and not item.choices
        and (task := item.tags.get("task", "")) in sets
        else item
        for item in items
    ]


def _with_instructions(kinds: Sequence[str], items: list[Item]) -> list[Item]:
    """Texts to label, tag or search say nothing of the labels or types; the instructions before them do."""
    types = sorted({kind for item in items if isinstance(item.expected, list) for kind in _types(item.expected)})
    made = []
    for kind, item in zip(kinds, items, strict=True):
        said = _instructions(kind, item, types)
        messages = [Message(role="system", content=said), *item.messages] if said else item.messages
        made.append(replace(item, messages=messages))
    return made


def _instructions(kind: str, item: Item, types: list[str]) -> str:
    if kind == "labelled texts" and item.choices:
        return "Classify the text. Answer with one of these labels, and nothing else:\n" + "\n".join(item.choices)
    if kind == "tagged tokens":
        return (
            "Tag the named entities in the given tokens. Answer with a JSON list of one IOB2 tag for each token: O, "
            f"B-type or I-type, where type is one of {', '.join(types)}."
        )
    if kind == "typed spans":
        return (
            'Find the personal data in the text. Answer with a JSON list of objects {"type": ..., "text": ...} '
            f"in order, where type is one of {', '.join(types)}."
        )
    return ""


def _types(expected: list[object]) -> Iterable[str]:
    for one in expected:
        if isinstance(one, dict):
            yield str(one.get("type"))
        elif isinstance(one, str) and one.startswith(("B-", "I-")):
            yield one[2:]


def _rank(item: Item, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{item.id}".encode()).digest()
