"""What a translation between two wire formats is, and how two make one.

All three halves work on decoded JSON: a request strictly (what cannot be carried is refused by its name), answers and
stream events tolerantly. Bytes are read and written in `relay.py`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pilotfish.core.errors import RequestError
from pilotfish.models.wire.format import Format

Json = dict[str, Any]


class EventTranslator(Protocol):
    """Translates one stream."""

    def feed(self, event: Json) -> list[Json]:
        """The events for the client that one event of the server gives. Raises a `ModelError` where it is an error."""

    def end(self) -> list[Json]:
        """The last events, after the server's last. Raises a `ModelError` where the stream was cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of a client's request its answer depends on."""

    model: str
    wants_usage: bool = True
    body: Json


class Translation(ABC):
    """From the format a client speaks to the one a server speaks, and back."""

    server: Format
    names: Mapping[str, str] = {}
    """What a field of the server's request is called in the client's, where a second translation may refuse it."""

    @abstractmethod
    def request(self, body: Json) -> Json:
        """The body for the server. Raises `RequestError` naming the first field that cannot be carried."""

    @abstractmethod
    def answer(self, body: Json, asked: Asked) -> Json:
        """The body for the client. Raises `ModelFormatError` for what the client's format has no words for."""

    @abstractmethod
    def events(self, asked: Asked) -> EventTranslator:
        """A translator for the stream of one request."""


class Chain(Translation):
    """Two translations, one after the other."""

    def __init__(self, first: Translation, second: Translation) -> None:
        self._first = first
        self._second = second
        self.server = second.server

    def request(self, body: Json) -> Json:
        """See `Translation`. What the second refuses is named as the client knows it, as far as that has one place."""
        try:
            return self._second.request(self._first.request(body))
        except RequestError as error:
            known = self._first.names.get(re.split(r"\W", error.param)[0])
            if known is None:
                raise
            raise RequestError(f"{known}: {error.message}", hint=error.hint, param=known) from error

    def answer(self, body: Json, asked: Asked) -> Json:
        """See `Translation`."""
        return self._first.answer(self._second.answer(body, asked), asked)

    def events(self, asked: Asked) -> EventTranslator:
        """See `Translation`."""
        return _ChainedEvents(self._first.events(asked), self._second.events(asked))


class _ChainedEvents:
    def __init__(self, first: EventTranslator, second: EventTranslator) -> None:
        self._first = first
        self._second = second

    def feed(self, event: Json) -> list[Json]:
        return [last for middle in self._second.feed(event) for last in self._first.feed(middle)]

    def end(self) -> list[Json]:
        return [last for middle in self._second.end() for last in self._first.feed(middle)] + self._first.end()
