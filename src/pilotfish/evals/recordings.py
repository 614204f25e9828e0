"""A recording as a model: what was answered elsewhere, read from a file, found again by item.

Read are run files of `compare`, scores by model name (`{"id": ..., "scores": {model: score}}`), samples of
lm-evaluation-harness, logs of inspect (JSON), output of promptfoo, rows of `id` and `answer`, and the traffic formats
of `backtest`. A row is found by its id, else by its messages, else by the text of its last user message. A recording
that brings its own score keeps it: nobody can score again what is not there to be read.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pilotfish.core.errors import ConfigError, NotRecordedError
from pilotfish.core.ids import fingerprint, sha256
from pilotfish.core.item import Item
from pilotfish.core.messages import Message, Price, Usage
from pilotfish.evals.answerers import Response, last_text
from pilotfish.evals.data import DataSet
from pilotfish.evals.run_file import KIND, AnswerRow, Key, ScoreRow, enter, read_rows
from pilotfish.scoring.scorers import Score
from pilotfish.store.traffic import read_traffic

JsonObject = dict[str, Any]
Entry = tuple[tuple[str, ...], Response]
"""The keys under which a response is found, the surest first, and the response."""


class Recording:
    """Answers from a file. An item recorded several times gets its answers in order, one a repeat."""

    def __init__(self, entries: Iterable[Entry], name: str, price: Price | None = None) -> None:
        self._name = name
        self._price = price
        self._found: defaultdict[str, list[Response]] = defaultdict(list)
        self.ids: list[str] = []
        for keys, response in entries:
            self.ids.append(keys[0].removeprefix("id:"))
            for key in dict.fromkeys(keys):
                self._found[key].append(response)
        self.ids = list(dict.fromkeys(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_scored(self) -> bool:
        """Whether every answer brings its score."""
        return all(response.score is not None for found in self._found.values() for response in found)

    def covers(self, item: Item) -> bool:
        """Whether it holds an answer to the item."""
        return any(key in self._found for key in _keys_of(item))

    async def ask(self, item: Item, repeat: int, sent_s: float) -> Response:
        """The recorded answer. Raises `NotRecordedError`."""
        for key in _keys_of(item):
            found = self._found.get(key)
            if found:
                response = found[min(repeat, len(found) - 1)]
                return self._priced(response)
        raise NotRecordedError(f"The recording {self._name!r} holds no answer to item {item.id}.", model=self._name)

    async def aclose(self) -> None:
        """Nothing to release."""

    def _priced(self, response: Response) -> Response:
        if self._price is None or response.usage is None or response.cost_usd is not None:
            return response
        values = {field: getattr(response, field) for field in Response.__dataclass_fields__}
        return Response(**{**values, "cost_usd": self._price.cost_usd(response.usage)})


def read_recording(path: Path, model: str = "", *, price: Price | None = None) -> Recording:
    """The answers of `model` in a file (of its only model where no name is given).

    Raises `ConfigError` where the file holds no answers, a broken line, or several models of which none was named.
    """
    objects, wrong = _objects(path)
    reader = next((read for is_it, read in _READERS if is_it(objects[0])), None) if objects else None
    if wrong and reader is not None and reader is not _own:
        raise ConfigError(f"{path.name}: {wrong}.", hint="A recording with holes would be compared on the rest only.")
    entries = _traffic(path, model) if reader is None else list(reader(objects, model, path))
    if not entries:
        raise ConfigError(f"{path.name} holds no answer" + (f" of {model!r}." if model else "."))
    return Recording(entries, model or path.name, price)


def recorded_items(recordings: Sequence[Recording]) -> DataSet:
    """The items that every recording holds, for comparing what was scored elsewhere without its data.

    Raises `ConfigError` where a recording has no scores of its own: there is nothing to judge its answers by.
    """
    if not recordings or not all(recording.is_scored for recording in recordings):
        raise ConfigError(
            "Without data only recordings that bring their own scores can be compared.",
            hint="Give the data: --on FILE.",
        )
    known = [set(other.ids) for other in recordings[1:]]
    shared = [name for name in recordings[0].ids if all(name in others for others in known)]
    items = tuple(Item(id=name, messages=[Message(role="user", content="")], expected=None, tags={}) for name in shared)
    name = "the recordings"
    return DataSet(
        name=name, items=items, default_scorer="exact", sha256=sha256("\n".join(shared).encode()), source=name
    )


def _objects(path: Path) -> tuple[list[Any], str]:
    """The objects of a JSON or JSON-lines file, and the first line that is none (empty where all are)."""
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}.") from error
    try:
        return [json.loads(text)], ""
    except ValueError:
        pass
    objects, wrong = [], ""
    # Not splitlines: JSON may hold the other line separators of Unicode.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                objects.append(json.loads(line))
            except ValueError as error:
                wrong = wrong or f"line {number} is no JSON ({error})"
    return objects, wrong


def _keys_of(item: Item) -> Iterator[str]:
    """The surest first; the later ones, which take longer to make, only where they are asked for."""
    yield f"id:{item.id}"
    yield _messages_key(item.messages)
    yield f"text:{last_text(item)}"


def _messages_key(messages: Iterable[Message]) -> str:
    return "messages:" + fingerprint(*(part for message in messages for part in (message.role, message.text or "")))


def _traffic(path: Path, model: str) -> list[Entry]:
    """Traffic in the formats of `backtest`."""
    entries: list[Entry] = []
    for exchange in read_traffic(path).exchanges:
        if model and exchange.model and exchange.model != model:
            continue
        messages = exchange.request.messages
        text = next((message.text for message in reversed(messages) if message.role == "user"), None)
        # Line numbers are no ids of items, so the messages are the key.
        found = Response(answer=exchange.answer, usage=exchange.usage, latency_s=exchange.latency_s)
        entries.append(((_messages_key(messages), f"text:{text or ''}"), found))
    return entries


def _own(_objects: list[Any], model: str, path: Path) -> Iterator[Entry]:
    answers: dict[Key, AnswerRow] = {}
    for found in read_rows(path):
        if isinstance(found, AnswerRow | ScoreRow) and not found.variant:
            enter(answers, found)
    rows = list(answers.values())
    name = _only(model, (row.model for row in rows), path)
    for row in rows:
        if row.model == name:
            has_usage = row.prompt_tokens is not None and row.completion_tokens is not None
            usage = Usage(
                prompt=row.prompt_tokens or 0, completion=row.completion_tokens or 0, cached=row.cached_tokens or 0
            )
            yield (
                (f"id:{row.item}",),
                Response(
                    answer=row.answer,
                    latency_s=row.latency_s,
                    ttft_s=row.ttft_s,
                    gaps_s=[gap / 1e3 for gap in row.gaps_ms],
                    usage=usage if has_usage else None,
                    cost_usd=row.cost_usd,
                    finish_reason=row.finish_reason,
                    score=Score(row.score, row.failure, row.note) if row.is_scored else None,
                    certainty=row.certainty,
                    is_escalated=row.is_escalated,
                ),
            )


def _scores(objects: list[Any], model: str, path: Path) -> Iterator[Entry]:
    name = _only(model, (name for row in objects for name in row.get("scores", {})), path)
    for row in objects:
        value = row.get("scores", {}).get(name)
        if value is not None:
            answer = row.get("responses", {}).get(name, "")
            yield (f"id:{row['id']}",), Response(answer=answer, score=Score(float(value), "", "recorded"))


def _identified(objects: list[Any], model: str, path: Path) -> Iterator[Entry]:
    """Rows of `id` and `answer` (or `output`, `prediction`), with `score`, `latency_s`, `usage`, `model` if known."""
    named = [row for row in objects if isinstance(row, dict) and _said(row) is not None]
    name = _only(model, (row.get("model", "") for row in named), path)
    for row in named:
        if row.get("model", "") in ("", name):
            said = _said(row)
            score, latency_s = _number(row.get("score")), _number(row.get("latency_s"))
            yield (
                (f"id:{row['id']}",),
                Response(
                    answer=said if isinstance(said, str) else json.dumps(said, ensure_ascii=False),
                    latency_s=latency_s,
                    usage=_usage(row.get("usage"), "prompt_tokens", "completion_tokens"),
                    cost_usd=_number(row.get("cost_usd")),
                    score=None if score is None else Score(score, "", "recorded"),
                    certainty=_number(row.get("certainty")),
                ),
            )


def _said(row: JsonObject) -> Any:  # noqa: ANN401 - any JSON value
    return next((row[key] for key in ("answer", "output", "prediction") if row.get(key) is not None), None)


def _harness(objects: list[Any], _model: str, _path: Path) -> Iterator[Entry]:
    """Samples of lm-evaluation-harness (`--log_samples`)."""
    for row in objects:
        doc = row.get("doc") if isinstance(row.get("doc"), dict) else {}
        metrics = row.get("metrics") or ["acc", "exact_match", "acc_norm", "f1", "pass@1"]
        score = next((value for name in metrics if (value := _number(row.get(name))) is not None), None)
        text = next((doc[key] for key in ("question", "query", "text", "prompt") if isinstance(doc.get(key), str)), "")
        yield (
            (f"id:{doc.get('id', row['doc_id'])}", f"id:{row['doc_id']}", f"text:{text}"),
            Response(
                answer=_harness_answer(row.get("filtered_resps", row.get("resps"))),
                score=None if score is None else Score(score, "", "recorded by lm-eval"),
            ),
        )


def _harness_answer(found: object) -> str:
    """A generated text, or of log-likelihoods the letter of the largest."""
    if not isinstance(found, list) or not found:
        return ""
    if len(found) > 1 and all(isinstance(choice, list) and choice for choice in found):
        best = max(range(len(found)), key=lambda i: float(found[i][0]))
        return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[best % 26]
    first = found[0][0] if isinstance(found[0], list) and found[0] else found[0]
    return first if isinstance(first, str) else json.dumps(first)


_INSPECT_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}


def _inspect(objects: list[Any], _model: str, _path: Path) -> Iterator[Entry]:
    """A log of inspect in its JSON form; the first score of a sample counts."""
    for sample in objects[0]["samples"]:
        output = sample.get("output") or {}
        choices = output.get("choices") or [{}]
        content = (choices[0].get("message") or {}).get("content", output.get("completion", ""))
        source = sample.get("input")
        text = source if isinstance(source, str) else next((row.get("content") for row in reversed(source or [])), "")
        value = next((score.get("value") for score in (sample.get("scores") or {}).values()), None)
        score = _INSPECT_LETTERS.get(value) if isinstance(value, str) else _number(value)
        is_cut = choices[0].get("stop_reason") == "max_tokens"
        yield (
            (f"id:{sample['id']}", f"text:{text}"),
            Response(
                answer=Message(role="assistant", content=content).text or "",
                latency_s=_number(output.get("time")),
                usage=_usage(output.get("usage"), "input_tokens", "output_tokens"),
                finish_reason="length" if is_cut else "",
                score=None if score is None else Score(score, "truncated" if is_cut else "", "recorded by inspect"),
            ),
        )


def _promptfoo(objects: list[Any], model: str, path: Path) -> Iterator[Entry]:
    """The output file of promptfoo; the provider's label or id names the model."""
    found = objects[0]["results"]
    rows = found["results"] if isinstance(found, dict) else found
    name = _only(model, (_provider(row) for row in rows), path)
    for row in rows:
        if _provider(row) != name:
            continue
        response = row.get("response") or {}
        output = response.get("output", "")
        variables = row.get("vars") or {}
        latency_ms = _number(row.get("latencyMs"))
        score = 1.0 if row.get("success") is True else _number(row.get("score"))
        text = next((value for value in variables.values() if isinstance(value, str)), "")
        yield (
            (f"id:{variables.get('id', row.get('testIdx', ''))}", f"id:{row.get('testIdx', '')}", f"text:{text}"),
            Response(
                answer=output if isinstance(output, str) else json.dumps(output),
                latency_s=None if latency_ms is None else latency_ms / 1e3,
                usage=_usage(response.get("tokenUsage"), "prompt", "completion"),
                cost_usd=_number(row.get("cost")),
                score=None if score is None else Score(score, "error" if row.get("error") else "", "by promptfoo"),
            ),
        )


def _provider(row: JsonObject) -> str:
    provider = row.get("provider")
    if isinstance(provider, dict):
        return str(provider.get("label") or provider.get("id") or "")
    return str(provider or "")


def _only(model: str, names: Iterable[str], path: Path) -> str:
    """The model asked for, or the only one there is."""
    known = list(dict.fromkeys(names))
    if model in known or (not model and len(known) == 1):
        return model or known[0]
    listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    asked = f"{path.name} has no answers of {model!r}." if model else f"{path.name} holds answers of several models."
    raise ConfigError(asked, hint=f"Name one of them as {path.name}#MODEL: {listed}.")


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return float(value)
    return float(value) if isinstance(value, int | float) else None


def _usage(row: object, prompt: str, completion: str) -> Usage | None:
    if isinstance(row, dict) and isinstance(row.get(prompt), int) and isinstance(row.get(completion), int):
        return Usage(prompt=row[prompt], completion=row[completion])
    return None


_Reader = Callable[[list[Any], str, Path], Iterator[Entry]]
_READERS: tuple[tuple[Callable[[Any], bool], _Reader], ...] = (
    (lambda row: isinstance(row, dict) and row.get("kind") == KIND, _own),
    (lambda row: isinstance(row, dict) and isinstance(row.get("scores"), dict) and "id" in row, _scores),
    (lambda row: isinstance(row, dict) and "doc_id" in row, _harness),
    (lambda row: isinstance(row, dict) and isinstance(row.get("samples"), list), _inspect),
    (lambda row: isinstance(row, dict) and isinstance(row.get("results"), dict | list), _promptfoo),
    (
        lambda row: isinstance(row, dict) and "id" in row and "messages" not in row and _said(row) is not None,
        _identified,
    ),
)
