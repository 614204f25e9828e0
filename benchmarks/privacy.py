"""What the privacy detectors find, what they miss, what they raise a false alarm on, and what all of it costs.

    python benchmarks/privacy.py

Recall and precision of each type on pii_presidio_synth (synthetic, labelled; train and test share no template). A span
counts as found where a finding of its type overlaps it, as covered where findings of any type cover every character of
it but spaces and punctuation; a finding is right where it overlaps a span of its type. Times are CPU time, since other
work shares the machine. Writes benchmarks/results/privacy-DATE.json.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pilotfish.config.settings import PrivacySettings
from pilotfish.core.privacy import TYPES, WEAK_TYPES
from pilotfish.gateway.privacy_guard import PrivacyGuard
from pilotfish.privacy.detect import Detector
from pilotfish.privacy.restore import Restorer

from record import read, save, show

# The labels of the data set, and what we call them. Any date is right where it is called a date of birth.
LABELS = {
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "IBAN_CODE": "IBAN",
    "CREDIT_CARD": "CARD",
    "US_SSN": "US_SSN",
    "IP_ADDRESS": "IP_ADDRESS",
    "STREET_ADDRESS": "ADDRESS",
    "PERSON": "PERSON",
}
UNCOVERED = ("AGE", "DATE_TIME", "DOMAIN_NAME", "GPE", "NRP", "ORGANIZATION", "TITLE", "US_DRIVER_LICENSE", "ZIP_CODE")
REPEATS = 5


def quality(rows: list[dict[str, Any]], split: str) -> list[dict[str, Any]]:
    detector = Detector(TYPES)
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row["split"] != split:
            continue
        text, found = row["text"], detector.scan(row["text"])
        spans = [(LABELS.get(span["type"], span["type"]), span["start"], span["end"]) for span in row["spans"]]
        covered = {place for each in found for place in range(each.start, each.end)}
        for kind, start, end in spans:
            counts[kind, "n"] += 1
            counts[kind, "found"] += any(each.type == kind and each.start < end and start < each.end for each in found)
            counts[kind, "covered"] += all(place in covered for place in range(start, end) if text[place].isalnum())
        for each in found:
            right = {each.type, "DATE_TIME"} if each.type == "DATE_OF_BIRTH" else {each.type}
            counts[each.type, "findings"] += 1
            counts[each.type, "right"] += any(
                kind in right and each.start < end and start < each.end for kind, start, end in spans
            )
    kinds = sorted({kind for kind, _ in counts} - set(UNCOVERED))
    return [
        {
            "split": split,
            "type": f"{kind:13}",
            "spans": counts[kind, "n"],
            "recall": counts[kind, "found"] / counts[kind, "n"] if counts[kind, "n"] else "-",
            "covered": counts[kind, "covered"] / counts[kind, "n"] if counts[kind, "n"] else "-",
            "findings": counts[kind, "findings"],
            "precision": counts[kind, "right"] / counts[kind, "findings"] if counts[kind, "findings"] else "-",
        }
        for kind in kinds
    ]


def alarms(name: str, texts: list[str]) -> dict[str, Any]:
    """Findings in texts that are about nobody: every one is likely to be false."""
    found = Counter(each.type for text in texts for each in Detector().scan(text))
    return {"texts": f"{name:20}", "n": len(texts), "chars": sum(map(len, texts)), "findings": dict(found)}


def us(work: Callable[[], object], n: int) -> float:
    """CPU microseconds for each of n units, the best of some repeats."""
    best = float("inf")
    for _ in range(REPEATS):
        started_s = time.process_time()
        work()
        best = min(best, time.process_time() - started_s)
    return best * 1e6 / n


def speed(name: str, texts: Sequence[str]) -> dict[str, Any]:
    thousands = sum(map(len, texts)) / 1000
    default, every = Detector(), Detector(TYPES)
    bodies = [
        json.dumps({"model": "auto", "messages": [{"role": "user", "content": text}]}, ensure_ascii=False).encode()
        for text in texts
    ]
    mask = PrivacyGuard(PrivacySettings(mode="mask"))

    async def guarded() -> None:
        for body in bodies:
            await mask.check(body, lambda _: ())

    return {
        "texts": f"{name:20}",
        "chars": sum(map(len, texts)),
        "detect_us": us(lambda: [default.scan(text) for text in texts], 1) / thousands,
        "all_types_us": us(lambda: [every.scan(text) for text in texts], 1) / thousands,
        "mask_a_body_us": us(lambda: asyncio.run(guarded()), 1) / thousands,
    }


def fixed() -> dict[str, Any]:
    allow = PrivacyGuard(PrivacySettings())
    body = b'{"messages":"hello"}'

    async def nothing(n: int) -> None:
        for _ in range(n):
            await allow.check(body, _no_task)

    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "big"}
    deltas = [{**head, "choices": [{"index": 0, "delta": {"content": " word"}}]}] * 500
    chunks = [b"data: " + json.dumps(delta).encode() + b"\n\n" for delta in deltas]
    restorer = Restorer({"<EMAIL_1>": "ann@example.com"})

    def stream() -> None:
        live = restorer.stream()
        for chunk in chunks:
            live.feed(chunk)
        live.end()

    return {
        "allow_us": us(lambda: asyncio.run(nothing(20_000)), 20_000),
        "stream_chunk_us": us(stream, len(chunks)),
    }


def _no_task(_: bytes) -> tuple[str, ...]:
    return ()


def main() -> None:
    rows = read("pii_presidio_synth")
    cells = [*quality(rows, "train"), *quality(rows, "test")]
    show("pii_presidio_synth: what is found", cells)
    prose = list({row["context"] for row in read("qa_squad_24_articles")})
    prompts = [row["prompt"] for row in read("prompts_arena_hard")]
    sums = [row["prompt"] for row in read("prompts_gsm8k_train")]
    banking = [row["text"] for row in read("cls_banking77")]
    texts = {"encyclopaedia": prose, "hard prompts": prompts, "sums": sums, "bank customers": banking}
    false_alarms = [alarms(name, each) for name, each in texts.items()]
    show("findings of the default types in texts about nobody", false_alarms)
    speeds = [speed(name, each) for name, each in texts.items()]
    speeds.append(speed("personal data", [row["text"] for row in rows]))
    show("CPU microseconds for 1,000 characters", speeds)
    costs = fixed()
    show("CPU microseconds", [costs])
    print(
        save(
            "privacy",
            overlap_rule="a span is found where a finding of its type overlaps it",
            weak_types=sorted(WEAK_TYPES),
            quality=cells,
            alarms=false_alarms,
            speed_us_per_1000_chars=speeds,
            fixed=costs,
        ).name
    )


if __name__ == "__main__":
    main()
