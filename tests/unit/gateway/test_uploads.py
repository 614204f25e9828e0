"""Forms with a file, however their bytes are cut; and what the columns of a table seem to be."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from pilotfish.core.errors import NotAllowedError, RequestError
from pilotfish.gateway.columns import Choice, convert, guess, read_sheet
from pilotfish.gateway.site.uploads import Sent, receive
from tools.forms import multipart

KIND = "multipart/form-data; boundary=----pilotfish-test"
DATA = b"text,label\r\n\r\n--not-the-boundary\r\n------pilotfish-tes\r\n" + bytes(range(1, 256))


def received(pieces: list[bytes], to: Path, *, token: str = "t") -> Sent | None:
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages[-1]["more_body"] = False

    async def next_message() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    def check(fields: dict[str, str]) -> None:
        if fields.get("csrf") != token:
            raise NotAllowedError("no", param="csrf")

    return asyncio.run(receive(next_message, KIND, to, check))


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
def test_a_form_is_read_the_same_however_it_is_cut(tmp_path: Path, size: int) -> None:
    body = multipart(DATA, "a.csv", csrf="t", instructions="Sort.\r\nNow é", empty="")
    to = tmp_path / "upload"
    sent = received([body[i : i + size] for i in range(0, len(body), size)], to)
    assert sent == Sent(
        fields={"csrf": "t", "instructions": "Sort.\r\nNow é", "empty": ""}, file="a.csv", n_bytes=len(DATA)
    )
    assert to.read_bytes() == DATA


def test_nothing_is_kept_before_the_token_was_seen(tmp_path: Path) -> None:
    to = tmp_path / "upload"
    with pytest.raises(NotAllowedError):
        received([multipart(DATA, "a.csv", csrf="wrong")], to)
    with pytest.raises(NotAllowedError):
        received([multipart(DATA, "a.csv", instructions="x", csrf="t")], to)
    assert to.read_bytes() == b""


def test_random_bytes_are_refused_or_read_and_never_break(tmp_path: Path) -> None:
    rng, body = random.Random(1), multipart(DATA, "a.csv", csrf="t", x="y")
    for _ in range(300):
        torn = bytearray(body)
        for _ in range(rng.randrange(1, 4)):
            start = rng.randrange(len(torn))
            torn[start : start + rng.randrange(20)] = rng.randbytes(rng.randrange(20))
        try:
            received([bytes(torn)], tmp_path / "upload")
        except RequestError:
            continue


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"id": "{n}", "Question": "why {n}", "ANSWER": "a"}, Choice(input="Question", answer="ANSWER")),
        ({"x": "{m}", "y": "a long text {n}"}, Choice(input="y", answer="x")),
        ({"date": "2026-11-01", "message": "{n}", "class": "b"}, Choice(input="message", answer="class", time="date")),
        ({"same": "1", "words": "some words {n}", "kind": "{m}"}, Choice(input="words", answer="kind")),
    ],
)
def test_columns_are_guessed(tmp_path: Path, row: dict[str, str], found: Choice) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{key: value.format(n=n, m=n % 2) for key, value in row.items()} for n in range(20)]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert guess(read_sheet(path)) == found


def test_rows_without_an_order_are_drawn_the_same_each_time(tmp_path: Path) -> None:
    path, to = tmp_path / "x.csv", tmp_path / "out.jsonl"
    path.write_text("text,label\n" + "".join(f"t {n},{'ab'[n >= 20]}\n" for n in range(40)))
    written = []
    for order in ("file", "any", "any"):
        choice = Choice(input="text", answer="label", order=order)  # type: ignore[arg-type]
        assert convert(read_sheet(path), choice, "Sort.", lambda exchange: exchange, to).n_written == 40
        written.append([json.loads(line)["output"] for line in to.read_text().splitlines()])
    assert written[0] == ["a"] * 20 + ["b"] * 20
    assert written[1] == written[2] != written[0]
    assert 3 <= written[1][20:].count("a") <= 17
