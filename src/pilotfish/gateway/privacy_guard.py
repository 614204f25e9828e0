"""Privacy at the door: what may be done with one request, decided before anything else reads or logs it.

Fails closed. Where the detectors fail, run out of time or cannot read a part (images, sound, files), the request counts
as sensitive: under `local` it stays here, under `mask` it is refused. Nothing here ever puts a value into a message,
a header or a log. Knows JSON, no endpoint's format.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import msgspec

from pilotfish.config.settings import PrivacySettings
from pilotfish.core.errors import LocalOnlyError, PilotfishError, RequestError, UnmaskableError
from pilotfish.core.privacy import MODES, Finding, PrivacyMode, stricter
from pilotfish.privacy.detect import Detector
from pilotfish.privacy.mask import Masker, UnscannableError, mask_body
from pilotfish.privacy.restore import Restorer, StreamRestorer

IN_THREAD_BYTES = 16_384
"""A larger body is looked at in a thread, so that other requests go on."""

Scan = Callable[[str, float], list[Finding]]
"""Findings in a text, until a moment of `time.perf_counter`. Raises `TimeoutError` after it."""

TaskOf = Callable[[bytes], tuple[str, ...]]
"""The id and the name of the task that a body belongs to; nothing where there is none."""

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Guarded:
    """What may be done with one request.

    `body` is what may be read, sent and logged; where `is_local_only`, local models may read it and nobody else.
    `masker` is there where texts of this request and its answer are masked, `restorer` where something was.
    """

    body: bytes
    is_local_only: bool = False
    types: tuple[str, ...] = ()
    masker: Masker | None = None
    restorer: Restorer | None = None

    @property
    def note(self) -> str:
        """For the receipt: what was done, and the types it was done for."""
        done = "local" if self.is_local_only else "masked" if self.restorer is not None else ""
        return f"{done}; types={','.join(self.types)}" if done and self.types else done

    def restored(self, body: bytes) -> bytes:
        """A whole reply as the client may have it."""
        return body if self.restorer is None else self.restorer.body(body)

    def stream(self) -> StreamRestorer | None:
        """What restores a stream, None where nothing was masked."""
        return None if self.restorer is None else self.restorer.stream()

    def restored_stream(self, events: bytes) -> bytes:
        """The same of a stream that is there as a whole."""
        restorer = self.stream()
        return events if restorer is None else restorer.feed(events) + restorer.end()

    def for_log(self, text: str | None) -> str | None:
        """An answer as it may be written down: masked where requests are, and not at all where they are local only."""
        if text is None or self.is_local_only:
            return None
        if self.masker is None:
            return text
        found = _closed(self.masker.text, text)
        return None if isinstance(found, Exception) else found

    def refusal(self) -> PilotfishError:
        """The error for a request that must stay here and that nothing here answers."""
        return LocalOnlyError(
            "The request must not leave this machine, and no local model can answer it.",
            hint="It holds or may hold personal data; see x-pilotfish-privacy and [privacy] in the configuration.",
        )


class PrivacyGuard:
    """Guards one gateway under one set of settings."""

    def __init__(self, settings: PrivacySettings, scan: Scan | None = None) -> None:
        """`scan` stands in for the detectors. Raises `ConfigError` or `MissingExtraError` for patterns of no use."""
        self._mode = settings.mode
        self._tasks: dict[str, PrivacyMode] = dict(settings.tasks)
        self._timeout_s = settings.timeout_s
        self._scan = scan or Detector(settings.detect, settings.patterns).scan
        self.is_off = settings.mode == "allow" and not self._tasks

    async def check(self, body: bytes, task_of: TaskOf, mode: PrivacyMode = "allow") -> Guarded:
        """What may be done with `body`. `mode` is the caller's own (that of a key); the stricter one holds.

        Raises `RequestError` (400) where it is no JSON object, `UnmaskableError` (451) where it would have to be masked
        and cannot be.
        """
        if self.is_off and mode == "allow":
            return Guarded(body=body)
        if len(body) > IN_THREAD_BYTES:
            return await asyncio.to_thread(self.look, body, task_of, mode)
        return self.look(body, task_of, mode)

    def look(self, body: bytes, task_of: TaskOf, mode: PrivacyMode = "allow") -> Guarded:
        """The same where nothing waits for this thread."""
        mode = stricter(self._mode, mode)
        if self._tasks:
            mode = stricter(mode, self._mode_of(task_of(body)))
        if mode == "allow" and not self._tasks:
            return Guarded(body=body)
        found = _closed(mask_body, body, self._scan_until(time.perf_counter() + self._timeout_s))
        if isinstance(found, (msgspec.DecodeError, UnicodeDecodeError)):
            raise RequestError("The request body could not be parsed as a JSON object.") from found
        if isinstance(found, Exception):
            what = str(found) if isinstance(found, UnscannableError) else "something on which the detectors failed"
            return self._sensitive(what, body, mode)
        masked, masker = found
        # A task that was learnt from masked texts is known by them.
        if self._tasks and masked is not body:
            mode = stricter(mode, self._mode_of(task_of(masked)))
        return self._verdict(body, masked, masker, mode)

    def _verdict(self, body: bytes, masked: bytes, masker: Masker, mode: PrivacyMode) -> Guarded:
        types = masker.placeholders.types
        if mode == "allow":
            return Guarded(body=body)
        if masker.unread:
            return self._sensitive(masker.unread, body, mode)
        if mode == "local" and types:
            return Guarded(body=body, is_local_only=True, types=types)
        # What the answer brings up is masked in the log; the time for that begins anew.
        after = Masker(lambda text: self._scan(text, time.perf_counter() + self._timeout_s), masker.placeholders)
        restorer = Restorer(dict(masker.placeholders.values)) if types else None
        return Guarded(body=masked, types=types, masker=after, restorer=restorer)

    def _sensitive(self, what: str, body: bytes, mode: PrivacyMode) -> Guarded:
        """The verdict on a request that nobody can vouch for."""
        if mode == "local":
            return Guarded(body=body, is_local_only=True)
        # Under `allow` this is reached only where tasks have modes and the detectors failed to tell the task.
        raise UnmaskableError(
            f"The request would have to be masked, but it holds {what}.",
            hint="Send it without that part, or allow it in [privacy] of the configuration.",
        )

    def _mode_of(self, tasks: tuple[str, ...]) -> PrivacyMode:
        return max((self._tasks.get(name, "allow") for name in tasks), key=MODES.index, default="allow")

    def _scan_until(self, deadline_s: float) -> Callable[[str], list[Finding]]:
        return lambda text: self._scan(text, deadline_s)


def _closed(work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T | Exception:
    """What `work` gives, or whatever went wrong: nothing that fails here may let a text pass.

    The gateway's own output is told without the message of the error, which could hold a text.
    """
    try:
        return work(*given, **named)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return error
    except Exception as error:  # noqa: BLE001 - fails closed
        _log.error("The privacy detectors failed (%s); the request counts as sensitive.", type(error).__name__)
        return error
