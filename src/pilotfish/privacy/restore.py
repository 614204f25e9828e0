"""Restoring: placeholders back to what they stand for, in whole replies and in streams cut anywhere.

Any JSON, any server-sent events, any lines of JSON: nothing here knows a vendor's format. A value that lands in a
string which is itself JSON (a tool's arguments) is escaped once more. Of a stream, lines pass untouched but for those
that hold a placeholder; where one may be cut in two, lines wait until the rest has come, and no event is invented.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

_LITERAL = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
_PLACEHOLDER = re.compile(r"<[A-Z][A-Z0-9_]*_[0-9]+>")
_CHANNEL_KEYS = ("index", "output_index", "content_index", "summary_index", "item_id")

MAX_DEPTH = 100
"""Of a line that is nested deeper only the bytes are looked at."""

Channel = tuple[object, ...]


class Restorer:
    """Restores the replies to one masked request. `values` maps placeholders to what they stand for."""

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values
        # Every beginning of a placeholder that could still become one.
        self.beginnings = frozenset(name[:n] for name in values for n in range(1, len(name)))
        self.longest = max(map(len, values), default=0)
        # Most values look the same inside JSON, and then nobody needs to know where they land.
        self.is_plain = all(_inner(value) == value for value in values.values())

    def body(self, body: bytes) -> bytes:
        """A whole reply. What is no JSON is restored as plain text."""
        if not _may_hold(body):
            return body
        text = body.decode("utf-8", "surrogateescape")
        restored = self._json(text) if _is_json(body) else self.text(text)
        return restored.encode("utf-8", "surrogateescape")

    def text(self, text: str) -> str:
        """Placeholders of a plain text."""
        return _PLACEHOLDER.sub(lambda match: self._values.get(match[0], match[0]), text)

    def escaped(self, text: str) -> str:
        """Placeholders of a piece of JSON text, inside its strings."""
        return _PLACEHOLDER.sub(
            lambda match: _inner(self._values[match[0]]) if match[0] in self._values else match[0], text
        )

    def nested(self, text: str) -> str:
        """A decoded string: plain text, or JSON of its own."""
        if "<" not in text and "u003" not in text:
            return text
        return self._json(text) if text.lstrip()[:1] in ("{", "[") and _is_json(text) else self.text(text)

    def stream(self) -> StreamRestorer:
        """For the stream of one reply."""
        return StreamRestorer(self)

    def _json(self, text: str) -> str:
        return _LITERAL.sub(self._swap, text)

    def _swap(self, match: re.Match[str]) -> str:
        literal = match[0]
        if "<" not in literal and "u003" not in literal:
            return literal
        value = json.loads(literal, strict=False)
        restored = self.nested(value)
        return literal if restored == value else json.dumps(restored, ensure_ascii=False)


class _Text:
    """What is known of one growing text of a stream: whether it is JSON, and whether a string of it is open."""

    def __init__(self) -> None:
        self.is_json: bool | None = None
        self.is_open = False
        self._is_escaped = False

    def see(self, text: str) -> None:
        if self.is_json is None and (first := text.lstrip()[:1]):
            self.is_json = first in ("{", "[")
        if not self.is_json:
            return
        for char in text:
            if self._is_escaped:
                self._is_escaped = False
            elif char == "\\":
                self._is_escaped = self.is_open
            elif char == '"':
                self.is_open = not self.is_open


class _Line:
    """One line that waits, with its decoded object where it has one."""

    def __init__(self, raw: bytes, head: bytes, value: Any) -> None:  # noqa: ANN401 - any JSON
        self.raw = raw
        self.head = head
        self.value = value
        self.is_changed = False

    def encoded(self) -> bytes:
        if not self.is_changed:
            return self.raw
        end = self.raw[len(self.raw.rstrip(b"\r\n")) :]
        return self.head + msgspec.json.encode(self.value) + end


class StreamRestorer:
    """Feed it the bytes as they come; it gives out what may go on. Call `end` once the stream is over or cut."""

    def __init__(self, restorer: Restorer) -> None:
        self._restorer = restorer
        self._rest = b""
        self._waiting: list[_Line] = []
        self._texts: dict[Channel, _Text] = {}
        # Where a text ended with the beginning of a placeholder: its holder, key, and that beginning.
        self._cut: dict[Channel, tuple[_Line, Any, Any, str]] = {}

    def feed(self, piece: bytes) -> bytes:
        """What can go to the client now."""
        if not self._restorer.longest:
            return piece
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        return b"".join(self._line(line + b"\n") for line in lines)

    def end(self) -> bytes:
        """Everything that still waited."""
        last = self._line(self._rest) if self._rest else b""
        self._rest = b""
        return last + self._release()

    def _line(self, raw: bytes) -> bytes:
        if not self._cut and self._restorer.is_plain and not _may_hold(raw):
            return raw
        head, body = _split(raw)
        if body is None:
            if raw.startswith(b"data:") and raw[5:].strip() == b"[DONE]":
                return self._release() + raw
            return self._later(_Line(self._restored_bytes(raw), b"", None))
        line = _Line(raw, head, body)
        for channel, holder, key in list(_strings(body)):
            self._string(line, channel, holder, key)
        return self._later(line)

    def _later(self, line: _Line) -> bytes:
        self._waiting.append(line)
        return b"" if self._cut else self._release()

    def _release(self) -> bytes:
        lines, self._waiting = self._waiting, []
        self._cut.clear()
        return b"".join(line.encoded() for line in lines)

    def _restored_bytes(self, raw: bytes) -> bytes:
        if b"<" not in raw:
            return raw
        return self._restorer.text(raw.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    def _string(self, line: _Line, channel: Channel, holder: Any, key: Any) -> None:  # noqa: ANN401
        text: str = holder[key]
        if not text:
            return
        cut = self._cut.pop(channel, None)
        if cut is not None:
            # The earlier line gives its beginning up to this one, which now holds the whole.
            before_line, before_holder, before_key, beginning = cut
            before_text = before_holder[before_key]
            before_holder[before_key] = before_text[: len(before_text) - len(beginning)]
            before_line.is_changed = line.is_changed = True
            text = beginning + text
            holder[key] = text
        elif "<" not in text:
            if not self._restorer.is_plain:
                self._known(channel).see(text)
            return
        beginning = self._beginning(text)
        settled = text[: len(text) - len(beginning)]
        restored = self._restored(self._known(channel), settled)
        if restored != settled:
            line.is_changed = True
            holder[key] = restored + beginning
        if beginning:
            self._cut[channel] = (line, holder, key, beginning)

    def _restored(self, state: _Text, text: str) -> str:
        """A settled piece of a text. One that is JSON as a whole is no piece but the text."""
        if self._restorer.is_plain:
            return self._restorer.text(text)
        if state.is_json is None and text.lstrip()[:1] in ("{", "[") and _is_json(text):
            return self._restorer.nested(text)
        pieces, at = [], 0
        for match in _PLACEHOLDER.finditer(text):
            between = text[at : match.start()]
            state.see(between)
            pieces += [between, self._restorer.escaped(match[0]) if state.is_open else self._restorer.text(match[0])]
            if state.is_json is None:
                state.is_json = False
            at = match.end()
        state.see(text[at:])
        return "".join([*pieces, text[at:]])

    def _known(self, channel: Channel) -> _Text:
        return self._texts.setdefault(channel, _Text())

    def _beginning(self, text: str) -> str:
        """The end of `text` that could become a placeholder, mostly none."""
        at = text.rfind("<", -self._restorer.longest)
        return text[at:] if at >= 0 and text[at:] in self._restorer.beginnings else ""


def _split(raw: bytes) -> tuple[bytes, Any]:
    """What stands before the JSON object of a line, and the object; None where the line holds none."""
    start = 5 if raw.startswith(b"data:") else 0
    data = raw[start:].strip()
    if not data.startswith((b"{", b"[")):
        return b"", None
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b"", None
    if _depth(value) > MAX_DEPTH:
        return b"", None
    return raw[: raw.index(data[:1])], value


def _strings(value: Any, path: Channel = ()) -> Iterator[tuple[Channel, Any, Any]]:  # noqa: ANN401
    """Every string with its holder and key, and the channel it belongs to: the same place of the same part."""
    if isinstance(value, dict):
        marks = tuple(value[key] for key in _CHANNEL_KEYS if isinstance(value.get(key), int | str))
        items: Any = list(value.items())
        path = (*path, *marks)
    else:
        items = list(enumerate(value))
    for key, inner in items:
        # A list's own order says nothing where its parts carry an index.
        place = "" if isinstance(inner, dict) and "index" in inner else key
        if isinstance(inner, str):
            yield (*path, place), value, key
        elif isinstance(inner, dict | list):
            yield from _strings(inner, (*path, place))


def _depth(value: Any, depth: int = 1) -> int:  # noqa: ANN401
    """How deep `value` is nested, looked at no further than is allowed."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if depth > MAX_DEPTH:
        return depth
    return max((_depth(each, depth + 1) for each in inner if isinstance(each, dict | list)), default=depth)


def _may_hold(body: bytes) -> bool:
    return b"<" in body or b"u003" in body


def _inner(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)[1:-1]


def _is_json(text: str | bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True
