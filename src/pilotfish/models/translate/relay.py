"""Carries one request to a server that speaks another format, and its answer back: bytes at both ends.

Which translation a request takes is decided here; what each carries stands in the files beside. Requests of the
server's own format never come here.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec

from pilotfish.core.errors import ModelFormatError, ModelStatusError, RequestError
from pilotfish.core.messages import Answer, ChatRequest
from pilotfish.models.base import Dialect
from pilotfish.models.translate.chat_to_messages import ChatToMessages
from pilotfish.models.translate.messages_to_chat import MessagesToChat
from pilotfish.models.translate.responses_to_chat import ResponsesToChat
from pilotfish.models.translate.translation import Asked, Chain, Translation
from pilotfish.models.wire.chat import CHAT, encode_request
from pilotfish.models.wire.format import Fault, Format, detail, encode, error_text
from pilotfish.models.wire.formats import FORMATS, format_of
from pilotfish.models.wire.messages import COUNT_TOKENS, MESSAGES
from pilotfish.models.wire.responses import RESPONSES

MAX_EVENT_BYTES = 16 << 20
"""Of one event of a stream, far above any."""

_objects = msgspec.json.Decoder(dict[str, Any])


class Translations:
    """The translations that one model server needs, by the format of the client."""

    def __init__(self, dialect: Dialect) -> None:
        self._family = dialect.family
        own = {form for form in FORMATS if form.family == dialect.family}
        self.spoken = frozenset(own if dialect.has_responses else own - {RESPONSES})
        self._known: dict[Format, Translation] = {}
        if dialect.family == "anthropic":
            chat = ChatToMessages(dialect.max_tokens)
            self._known = {CHAT: chat, RESPONSES: Chain(ResponsesToChat(), chat)}
        else:
            self._known = {MESSAGES: MessagesToChat(), RESPONSES: ResponsesToChat()}

    def of(self, form: Format) -> Translation:
        """The translation that requests of a format take which the server does not speak.

        Raises `RequestError` where there is none.
        """
        if form in self._known:
            return self._known[form]
        if form is COUNT_TOKENS:
            raise RequestError(
                "This model does not count tokens: its server is of OpenAI's family, and no number is made up here.",
                hint="Send the request itself: its answer carries the usage.",
            )
        raise RequestError(
            f"A model of the {self._family} family takes no {form.noun}, and there is no lossless translation.",
            hint="Use /v1/chat/completions, /v1/responses or /v1/messages.",
        )


class Translated:
    """One request on its way through a translation. `body` is what the server gets at the path of `server`."""

    def __init__(self, translation: Translation, request: ChatRequest, model: str) -> None:
        """Raises `RequestError` naming the first field that cannot be carried."""
        self._client = format_of(request)
        self._translation = translation
        self.server = translation.server
        try:
            asked = _objects.decode(request.raw or encode_request(request))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RequestError(f"The request body could not be parsed as JSON: {detail(error)}.") from error
        asked["model"] = request.model or model
        wants_usage = self._client is not CHAT or request.wants_usage_chunk
        self._asked = Asked(model=asked["model"], wants_usage=wants_usage, body=asked)
        self.body = encode(translation.request(asked))
        self._events = translation.events(self._asked)
        self._left = b""

    def answer(self, answer: Answer) -> Answer:
        """The answer in the words of the client. Raises `ModelFormatError` where it has none."""
        body = self._translation.answer(_objects.decode(answer.body), self._asked)
        return dataclasses.replace(answer, body=encode(body))

    def failure(self, error: ModelStatusError) -> ModelStatusError:
        """The server's error in the words of the client, with its status and message."""
        message = str(error)
        try:
            said = _objects.decode(error.body).get("error")
            message = error_text(said) if said else message
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        kind = "invalid_request_error" if error.status < 500 else "upstream_error"
        body = self._client.encode_error(Fault(message=message, kind=kind, code=error.code, status=error.status))
        return ModelStatusError(model=error.model, status=error.status, body=body, headers=error.headers)

    def feed(self, piece: bytes) -> bytes:
        """What a piece of the server's stream gives for the client, often nothing. Raises a `ModelError`."""
        *lines, self._left = (self._left + piece).split(b"\n")
        if len(self._left) > MAX_EVENT_BYTES:
            raise ModelFormatError(f"{self._asked.model} sent an event of more than {MAX_EVENT_BYTES} bytes.")
        return b"".join(
            self._client.encode_event(event)
            for line in lines
            if (said := self._event(line)) is not None
            for event in self._events.feed(said)
        )

    def end(self) -> bytes:
        """The last events. Raises a `ModelError` where the server's stream was cut."""
        last = b"".join(self._client.encode_event(event) for event in self._events.end())
        return last + self._client.end_mark

    def _event(self, line: bytes) -> dict[str, Any] | None:
        data = line[5:].strip() if line.startswith(b"data:") else b""
        if not data or data == b"[DONE]":
            return None
        try:
            return _objects.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ModelFormatError(f"{self._asked.model} sent an event that is no JSON: {detail(error)}.") from error
