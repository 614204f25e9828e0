"""What a client asks and what a model answers: the nouns of a chat exchange.

They hold only the fields Pilotfish reads. Everything else a client or vendor sends travels
untouched as the raw bytes beside them, so a new vendor field needs no release.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Family = Literal["openai", "anthropic"]
"""Whose endpoints, and whose words for everything on the wire."""

FAMILIES: tuple[Family, ...] = ("openai", "anthropic")


@dataclass(slots=True, kw_only=True)
class Message:
    """One message. `content` is text, a list of parts, or nothing (a tool call)."""

    role: str
    content: Any = None
    tool_calls: Any = None

    @property
    def text(self) -> str | None:
        """The text of the message, text parts joined by a line break; None where it carries anything else."""
        if isinstance(self.content, str):
            return self.content
        if isinstance(self.content, list):
            parts = [_part_text(part) for part in self.content]
            if parts and None not in parts:
                return "\n".join(part for part in parts if part is not None)
        return None


def _part_text(part: object) -> str | None:
    if isinstance(part, dict) and part.get("type") in ("text", "input_text", "output_text"):
        text = part.get("text")
        return text if isinstance(text, str) else None
    return None


@dataclass(slots=True, kw_only=True)
class ChatRequest:
    """One request for an answer, as far as Pilotfish reads it, whatever family of endpoints it came through.

    `raw` is the body as it came (bytes of a JSON object), empty where the request was made in
    process. The fields after `tools` are those that a closed local answer cannot honour; `own_option` names
    the first such that only the family of the request has. On its way `server` becomes the one asked last, and `tries`
    how many were asked.
    """

    messages: list[Message]
    model: str = ""
    stream: bool = False
    stream_options: Any = None
    response_format: Any = None
    tools: Any = None
    functions: Any = None
    n: int | None = None
    logprobs: Any = None
    stop: Any = None
    modalities: Any = None
    audio: Any = None
    own_option: str = ""
    raw: bytes = b""
    server: str = ""
    tries: int = 0

    @property
    def wants_usage_chunk(self) -> bool:
        """Whether a stream must end with a usage chunk (`stream_options.include_usage`)."""
        return isinstance(self.stream_options, dict) and bool(self.stream_options.get("include_usage"))

    @property
    def has_begun(self) -> bool:
        """Whether a model has spoken in this conversation already."""
        return any(message.role == "assistant" for message in self.messages)

    @property
    def is_tool_loop(self) -> bool:
        """Whether a model called a tool in this conversation, or is about to be told a tool's result."""
        return any(message.role in ("tool", "function") or bool(message.tool_calls) for message in self.messages)

    @property
    def unsupported_option(self) -> str:
        """The name of the first option that only the reference can honour, or an empty string."""
        if self.n is not None and self.n != 1:
            return "n"
        values = (self.logprobs, self.stop, self.tools, self.functions, self.audio, self.modalities)
        if values != _NO_OPTIONS:
            for name, value in zip(_OPTIONS, values, strict=True):
                if value not in (None, False, [], {}, ["text"]):
                    return name
        return self.own_option


# Of the options that a closed local answer cannot honour, those that every family spells alike.
_OPTIONS = ("logprobs", "stop", "tools", "functions", "audio", "modalities")
_NO_OPTIONS = (None,) * len(_OPTIONS)


# Never changed. To freeze what every request makes costs 0.1 µs a field.
@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class Usage:
    """Tokens as the server reported them. `cached` is the part of `prompt` read from its cache."""

    prompt: int
    completion: int
    cached: int = 0


# Never changed. To freeze what every request makes costs 0.1 µs a field.
@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class Answer:
    """What a model answered to one request.

    `body` is the reply as it goes to the client (bytes of a JSON object, in the format of the request); `text`
    is None where the first choice is not plain text (a tool call, a refusal, audio).
    """

    text: str | None
    model: str
    body: bytes
    usage: Usage | None = None
    finish_reason: str = "stop"
    headers: tuple[tuple[str, str], ...] = field(default=())
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars per million tokens, with where and when that was read. Unknown is None, never 0."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float
    cached_usd_per_mtok: float | None = None
    source: str = ""

    def cost_usd(self, usage: Usage) -> float:
        """What `usage` costs; cached prompt tokens at their own price where one is known."""
        cached_price = self.input_usd_per_mtok if self.cached_usd_per_mtok is None else self.cached_usd_per_mtok
        fresh = usage.prompt - usage.cached
        return (
            fresh * self.input_usd_per_mtok + usage.cached * cached_price + usage.completion * self.output_usd_per_mtok
        ) / 1e6
