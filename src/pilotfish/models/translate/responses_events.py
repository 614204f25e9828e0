"""The chunks of a chat completion as the events of a response, from `response.created` to `response.completed`."""

from __future__ import annotations

from pilotfish.core.errors import ModelConnectionError, ModelError
from pilotfish.core.messages import Usage
from pilotfish.models.translate.fields import unspeakable
from pilotfish.models.translate.translation import Asked, Json
from pilotfish.models.wire.format import error_text
from pilotfish.models.wire.responses import call_item, message_item, response_body, text_part

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class ResponsesEvents:
    """Translates one stream. Items come one after the other: the text first, then each call."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._number = 0
        self._head: Json = {}
        self._output: list[Json] = []
        # The item that is open, and the index of its call (-1 for a message).
        self._item: Json | None = None
        self._index = -1
        self._n_calls = 0
        self._said = ""
        self._usage: Usage | None = None
        self._reason: str | None = None

    def feed(self, event: Json) -> list[Json]:
        """See `EventTranslator`."""
        if event.get("error"):
            raise ModelError(f"The model broke off its answer: {error_text(event['error'])}")
        events = [] if self._head else self._start(event.get("model") or self._asked.model)
        if counts := event.get("usage"):
            cached = (counts.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
            prompt, completion = counts["prompt_tokens"], counts.get("completion_tokens") or 0
            self._usage = Usage(prompt=prompt, completion=completion, cached=cached)
        for choice in event.get("choices") or []:
            if choice.get("index"):
                unspeakable("several choices")
            events += self._delta(choice.get("delta") or {})
            self._reason = choice.get("finish_reason") or self._reason
        return events

    def end(self) -> list[Json]:
        """See `EventTranslator`."""
        if self._reason is None:
            raise ModelConnectionError("The model broke off its answer.")
        closed = self._close()
        reason = _INCOMPLETE.get(self._reason, "")
        whole = response_body(self._asked.body, "", self._output, usage=self._usage, incomplete=reason)
        last = {name: whole[name] for name in ("status", "incomplete_details", "output", "usage")}
        kind = "response.incomplete" if reason else "response.completed"
        return [*closed, self._event(kind, response={**self._head, **last})]

    def _start(self, model: str) -> list[Json]:
        self._head = {**response_body(self._asked.body, model, [], usage=None), "status": "in_progress"}
        names = ("response.created", "response.in_progress")
        return [self._event(name, response=self._head) for name in names]

    def _delta(self, delta: Json) -> list[Json]:
        if delta.get("refusal") or delta.get("audio") or delta.get("function_call"):
            unspeakable("a refusal, audio or an outdated function call inside a stream")
        events: list[Json] = []
        if text := delta.get("content"):
            if self._item is None or self._index != -1:
                events += self._open_message()
            self._said += text
            events.append(self._event("response.output_text.delta", **self._place(), delta=text, logprobs=[]))
        for call in delta.get("tool_calls") or []:
            events += self._call(call)
        return events

    def _call(self, call: Json) -> list[Json]:
        index, function, events = call.get("index") or 0, call.get("function") or {}, []
        if self._item is None or self._index != index:
            if index < self._n_calls:
                unspeakable("calls in turns")
            self._n_calls = index + 1
            item = call_item(call.get("id"), function.get("name"), "")
            events += self._open(item, index)
        if piece := function.get("arguments"):
            self._said += piece
            assert self._item is not None
            place = {"item_id": self._item["id"], "output_index": len(self._output)}
            events.append(self._event("response.function_call_arguments.delta", **place, delta=piece))
        return events

    def _open(self, item: Json, index: int) -> list[Json]:
        events = self._close()
        self._item, self._index, self._said = item, index, ""
        shown = {**item, "status": "in_progress", **({"content": []} if index == -1 else {})}
        return [*events, self._event("response.output_item.added", output_index=len(self._output), item=shown)]

    def _open_message(self) -> list[Json]:
        events = self._open(message_item(""), -1)
        return [*events, self._event("response.content_part.added", **self._place(), part=text_part(""))]

    def _close(self) -> list[Json]:
        item = self._item
        if item is None:
            return []
        if self._index == -1:
            part = text_part(self._said)
            item = {**item, "content": [part]}
            events = [
                self._event("response.output_text.done", **self._place(), text=self._said, logprobs=[]),
                self._event("response.content_part.done", **self._place(), part=part),
            ]
        else:
            item = {**item, "arguments": self._said}
            place = {"item_id": item["id"], "output_index": len(self._output)}
            done = {"name": item["name"], "arguments": self._said}
            events = [self._event("response.function_call_arguments.done", **place, **done)]
        events.append(self._event("response.output_item.done", output_index=len(self._output), item=item))
        self._output.append(item)
        self._item = None
        return events

    def _place(self) -> Json:
        assert self._item is not None
        return {"item_id": self._item["id"], "output_index": len(self._output), "content_index": 0}

    def _event(self, kind: str, **values: object) -> Json:
        event = {"type": kind, **values, "sequence_number": self._number}
        self._number += 1
        return event
