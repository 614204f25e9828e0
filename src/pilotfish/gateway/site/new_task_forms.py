"""What the forms of a new task ask for: to take examples, to distil them, to cancel, to forget.

Called for people who are signed in and whose form carries their token. Each gives the page to go to, or the page that
says what is in the way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from pilotfish.config.settings import QualitySettings, Settings, check_ranges
from pilotfish.core.certificate import RISK_KINDS, Claim
from pilotfish.core.errors import RequestError, UserError
from pilotfish.gateway import asgi
from pilotfish.gateway.columns import Choice, Order
from pilotfish.gateway.new_tasks import NewTask
from pilotfish.gateway.running import Running
from pilotfish.gateway.site import new_task, new_task_result, security, uploads
from pilotfish.gateway.site.page import Page, Seen
from pilotfish.gateway.site.uploads import Sent

ACTIONS = ("start", "again", "change", "cancel", "discard")


def read(path: str) -> tuple[str, str] | None:
    """The new task and the action that a path names; None where it names none."""
    place, _, rest = path[1:].partition("/")
    task_id, _, action = rest.partition("/")
    return (task_id, action) if place == "new" and action in ACTIONS else None


class Desk:
    """Where forms of new tasks are handed in."""

    def __init__(self, running: Running, in_thread: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        """`in_thread` does what reads or writes files, away from the event loop."""
        self._news = running.new_tasks
        self._in_thread = in_thread

    async def take(self, seen: Seen, session: str, content_type: str, receive: asgi.Receive) -> str | None:
        """Take examples; the path of their page, None where the client has gone.

        Nothing is kept before the token has been seen. Raises `RequestError`.
        """

        def check(fields: dict[str, str]) -> None:
            security.check_csrf(session, fields.get("csrf", ""))

        with _told(), self._news.receiving() as path:
            sent = await uploads.receive(receive, content_type, path, check)
            return None if sent is None else str(await self._in_thread(partial(take, seen, path, sent)))

    async def change(self, seen: Seen, task_id: str, action: str, sent: dict[str, str]) -> str | Page:
        """Do what was asked; the path to go to, or the page that says what is in the way. Raises `RequestError`."""
        found: NewTask | None = await self._in_thread(partial(self._news.get, task_id))
        if found is None:
            raise RequestError(f"There is no new task {task_id!r}.", status=404)
        with _told():
            if action in ("start", "again"):
                asked = await self._in_thread(partial(prepare, seen, found, sent)) if action == "start" else found
                if isinstance(asked, Page):
                    return asked
                self._news.begin(asked)
            else:
                change = {"change": self._news.reopen, "cancel": self._news.cancel, "discard": self._news.discard}
                await self._in_thread(partial(change[action], found))
        return new_task.PATH if action == "discard" else new_task.new_path(found)

    async def told(self) -> bytes:
        """What live pages are told of all new tasks."""

        def gather() -> bytes:
            return msgspec.json.encode({task.id: new_task_result.told(task) for task in self._news.all()})

        told: bytes = await self._in_thread(gather)
        return told


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What a user of forms did wrong, as the gateway tells it."""
    try:
        yield
    except RequestError:
        raise
    except UserError as error:
        raise RequestError(error.message, hint=error.hint) from error


def take(seen: Seen, received: Path, sent: Sent) -> str:
    """Keep an upload; the path of its page. Raises `RequestError` where there is nothing to learn from."""
    pasted = sent.fields.get("pasted", "")
    if sent.n_bytes and pasted.strip():
        raise RequestError("Expected a file or pasted examples, got both.", hint="Give one of them.")
    if not sent.n_bytes and not pasted.strip():
        raise RequestError("Expected examples, got none.", hint="Choose a file, or paste some.")
    if not sent.n_bytes:
        received.write_text(pasted, "utf-8", newline="")
    # Browsers send every line break of a field as two characters; programs write one.
    instructions = sent.fields.get("instructions", "").replace("\r\n", "\n").strip()
    return new_task.new_path(seen.running.new_tasks.create(received, sent.file or "pasted", instructions))


def prepare(seen: Seen, task: NewTask, sent: dict[str, str]) -> NewTask | Page:
    """Write the examples down as they will be learnt; the page that says what is in the way where something is."""
    news = seen.running.new_tasks
    choice = _choice(sent)
    try:
        claim = _claim(sent)
        sheet = news.sheet(task)
        chosen = (choice.input, choice.answer, *([choice.time] if choice.time else ()))
        if sheet.columns and (len(set(chosen)) < len(chosen) or not set(chosen) <= set(sheet.columns)):
            raise RequestError("Expected a different column for each, all of the file.", hint="Choose again.")
        asked = msgspec.structs.replace(task, choice=choice, claim=claim, is_sample="sample" in sent)
        found = news.convert(asked, choice)
    except UserError as error:
        return new_task.mapping(seen, task, choice=choice, wrong=str(error))
    asked = msgspec.structs.replace(asked, n_examples=found.n_written)
    if found.unreadable and "skip" not in sent:
        return new_task.mapping(seen, asked, choice=choice, faults=found.unreadable)
    if not found.n_written:
        wrong = f"No example is left: {found.n_withheld:,} may not be written down, by [privacy] of the settings."
        return new_task.mapping(seen, asked, choice=choice, wrong=wrong)
    return asked


def _choice(sent: dict[str, str]) -> Choice:
    order: Order = "any" if sent.get("order") == "any" else "file"
    return Choice(input=sent.get("input", ""), answer=sent.get("answer", ""), time=sent.get("time", ""), order=order)


def _claim(sent: dict[str, str]) -> Claim:
    """The promise asked for. Raises `UserError` where it is none."""
    try:
        quality = QualitySettings(
            max_risk=float(sent.get("max_risk", "")) / 100,
            confidence=float(sent.get("confidence", "")) / 100,
            per=next(kind for kind in RISK_KINDS if kind == sent.get("per")),
        )
    except (ValueError, StopIteration) as error:
        raise RequestError("Expected a promise in numbers, got none.", hint="Such as 5 and 95 per cent.") from error
    check_ranges(Settings(quality=quality))
    claim = quality.claim
    assert claim is not None
    return claim
