"""A model as judge: asked about every answer beside the expected one, in both orders, and how far it can be trusted.

The question and the reading of the verdict stand in `scoring/judging.py`, which knows no models. Here they meet one:
anything that answers. A judge that fails to answer, or says nothing that can be read, is counted as unreadable and
never dropped. Labels that people gave to the same pairs come from a file, and agreement with them is Cohen's kappa.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from pilotfish.core.errors import ConfigError, ModelError
from pilotfish.core.ids import fingerprint
from pilotfish.core.item import Item
from pilotfish.core.messages import Message
from pilotfish.evals.answerers import Answerer, is_fatal
from pilotfish.evals.late_scores import Judged, LateScorer, Verdicts
from pilotfish.evals.run_file import AnswerRow
from pilotfish.scoring.judging import PROMPT, JudgeReport, PairVerdict, pair_prompt, report
from pilotfish.scoring.score import Score, expected_texts, with_refusal

CONCURRENCY = 4
"""Pairs at a time; each is two questions."""

PROMPT_SHA256 = fingerprint(PROMPT)
"""Identifies the question; verdicts on another one must not be mixed."""

Labels = Mapping[tuple[str, str], str]
"""The better answer by model ("" for any) and item: "1" the model's, "2" the expected one, or "tie"."""


def judge(open_judge: Callable[[], Answerer]) -> LateScorer:
    """The scorer: 1 where the answer is found better than the expected one in both orders, 0.5 undecided, 0 worse.

    A judge that cannot be reached at all, or refuses the key, raises its `ModelError`: it is not unreadable.
    """

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Judged, None]:
        answerer = await asyncio.to_thread(open_judge)
        has_answered = False

        async def ask(prompt: str) -> str:
            nonlocal has_answered
            item = Item(id="", messages=[Message(role="user", content=prompt)], expected=None, tags={})
            try:
                said = (await answerer.ask(item, 0, time.perf_counter())).answer
            except ModelError as error:
                if not has_answered and is_fatal(error):
                    raise
                return ""
            has_answered = True
            return said

        async def judged(item: Item, answer: str) -> tuple[Score, Verdicts]:
            request = "\n\n".join(message.text or "" for message in item.messages)
            gold = expected_texts(item, "judge")[0]
            forward = ask(pair_prompt(request, answer, gold))
            swapped = ask(pair_prompt(request, gold, answer))
            verdict = PairVerdict.of_replies(*await asyncio.gather(forward, swapped))
            return with_refusal(verdict.score, item, answer), (verdict.forward, verdict.backward)

        try:
            yield judged
        finally:
            await answerer.aclose()

    return LateScorer(check=lambda item: expected_texts(item, "judge"), open=opened, concurrency=CONCURRENCY)


def read_labels(path: Path) -> Labels:
    """What people found: rows of `id`, `preferred` (1, 2 or "tie") and, where models differ, `model`.

    Raises `ConfigError` where a row is something else.
    """
    labels = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            model, item, preferred = str(row.get("model", "")), str(row["id"]), str(row["preferred"])
        except (ValueError, KeyError, AttributeError) as error:
            raise _no_label(path, number, str(error) or "no object") from error
        if preferred not in ("1", "2", "tie"):
            raise _no_label(path, number, f"'preferred' is {preferred!r}")
        labels[model, item] = preferred
    return labels


def judge_reports(rows: Iterable[AnswerRow], labels: Labels) -> dict[str, JudgeReport]:
    """How the judge did on the answers of each model; agreement over those pairs that people have labelled."""
    pairs: dict[str, list[tuple[PairVerdict, str]]] = {}
    for row in rows:
        if row.verdicts:
            forward, backward = row.verdicts
            label = labels.get((row.model, row.item), labels.get(("", row.item), ""))
            pairs.setdefault(row.model, []).append((PairVerdict(forward=forward, backward=backward), label))
    return {model: report([v for v, _ in found], [label for _, label in found]) for model, found in pairs.items()}


def _no_label(path: Path, number: int, what: str) -> ConfigError:
    return ConfigError(
        f"{path.name}, line {number} is no label: {what}.",
        hint='Expected {"id": ..., "preferred": 1 (the model\'s answer), 2 (the expected one) or "tie", "model": ...}.',
    )
