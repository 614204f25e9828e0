"""What of recorded exchanges may be written to the log: what would stand there had they come through the gateway.

One guard for both ways in, so that a file is no way round `[privacy]`: what is masked on its way out is masked here,
what must stay local never teaches and is left out, and so is what cannot be vouched for.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from pilotfish.config.settings import Settings
from pilotfish.core.errors import ConfigError, UnmaskableError
from pilotfish.core.messages import ChatRequest, Message
from pilotfish.gateway.privacy_guard import PrivacyGuard
from pilotfish.store.base import Registry
from pilotfish.store.traffic_formats import Exchange
from pilotfish.tasks.recognise import Recogniser


class Admission:
    """A gate for exchanges under one set of settings."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        """Raises `ConfigError` where the settings keep no text: nothing could be learnt then."""
        check_keeps_text(settings)
        self._guard = PrivacyGuard(settings.privacy)
        self._recogniser = Recogniser(registry.templates())
        self._names = {record.task_id: record.name for record in registry.tasks()}

    def __call__(self, exchange: Exchange) -> Exchange | None:
        """The exchange as it may be written down, None where it may not be."""
        if self._guard.is_off:
            return exchange
        try:
            guarded = self._guard.look(_body(exchange.request), self._task_of)
        except UnmaskableError:
            return None
        answer = guarded.for_log(exchange.answer)
        if answer is None:
            return None
        return replace(exchange, request=replace(exchange.request, messages=_messages(guarded.body)), answer=answer)

    def _task_of(self, body: bytes) -> tuple[str, ...]:
        """Id and name of the task of a request."""
        task_id = self._recogniser.recognise(ChatRequest(messages=_messages(body))).task_id
        name = self._names.get(task_id)
        return (task_id,) if name is None else (task_id, name)


def check_keeps_text(settings: Settings) -> None:
    """Raise `ConfigError` where examples may not be written down."""
    if not settings.log.keep_text:
        raise ConfigError(
            "Examples would have to stand in the log, and the settings keep no text there.",
            hint="Set [log] keep_text = true, or use another --home with settings of its own.",
        )


def _body(request: ChatRequest) -> bytes:
    return msgspec.json.encode({"messages": request.messages})


def _messages(body: bytes) -> list[Message]:
    return msgspec.json.decode(body, type=_Messages).messages


class _Messages(msgspec.Struct):
    messages: list[Message]
