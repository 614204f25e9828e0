"""Masking: every string of a JSON text, with its findings replaced by placeholders such as `<EMAIL_1>`.

Only the strings that hold a finding change; all else keeps its bytes. Equal values get equal placeholders. What a
model is instructed with is numbered first, then the conversation, then the rest, so that a conversation which grows
keeps its numbers. Placeholders that the client itself wrote are left alone, and their numbers left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable

import msgspec

from pilotfish.core.privacy import Finding

Scan = Callable[[str], list[Finding]]

# A string (with the colon that makes it a key) or a number.
_TOKEN = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|-?[0-9][0-9.eE+-]*')
_WRITTEN = re.compile(r"(?:<|u003[cC])([A-Z][A-Z0-9_]*_[0-9]+)")
_raw_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])

_INSTRUCTING = ("tools", "functions", "tool_choice", "response_format", "system", "instructions", "text")
_CONVERSING = ("messages", "input", "prompt")
_MEDIA_TYPES = frozenset(
    (
        "image",
        "image_url",
        "input_image",
        "audio",
        "input_audio",
        "file",
        "input_file",
        "document",
        "video",
        "video_url",
    )
)
_ELSEWHERE = ("previous_response_id", "conversation")
_PLAIN_KEYS = frozenset(
    (*_CONVERSING, "content", "text", "role", "type", "model", "arguments", "description", "name", "id")
)
_CONTEXT_CHARS = 200
"""A short value is read with its key before it, which may be the word that makes it a finding."""

_LONG_NUMBER = 9
_LONG_DATA = 1024


class UnscannableError(Exception):
    """The body holds what must not be guessed about; the message says what, in words that are ours."""


class Placeholders:
    """What stands for what in one request. `values` maps each placeholder to what it stands for."""

    def __init__(self, written: Iterable[str] = ()) -> None:
        self._written = frozenset(written)
        self._names: dict[tuple[str, str], str] = {}
        self._last: dict[str, int] = {}
        self.values: dict[str, str] = {}

    @property
    def types(self) -> tuple[str, ...]:
        """The types found so far, in order of the alphabet."""
        return tuple(sorted(self._last))

    def name(self, kind: str, value: str) -> str:
        """The placeholder of a value, a new one where it has none yet."""
        known = self._names.get((kind, value))
        if known is not None:
            return known
        n = self._last.get(kind, 0) + 1
        while f"{kind}_{n}" in self._written:
            n += 1
        self._last[kind] = n
        name = self._names[kind, value] = f"<{kind}_{n}>"
        self.values[name] = value
        return name


class Masker:
    """Masks the texts of one request, and later those of its answer, with one set of placeholders.

    `unread` names the first part of the request that no detector can read (an image, a sound, a file).
    """

    def __init__(self, scan: Scan, placeholders: Placeholders) -> None:
        self._scan = scan
        self.placeholders = placeholders
        self.unread = ""

    def text(self, text: str, key: str = "") -> str:
        """`text` masked. A text that is itself a JSON object or array is masked inside its strings."""
        if text.lstrip()[:1] in ("{", "[") and _is_json(text):
            return self.json(text)
        head, findings = "", self._scan(text)
        if not findings and key and key not in _PLAIN_KEYS and len(text) <= _CONTEXT_CHARS:
            head = f"{key}: "
            findings = self._scan(head + text)
        if not findings:
            return text
        pieces, at = [], 0
        for finding in findings:
            start, end = max(finding.start - len(head), 0), finding.end - len(head)
            if end <= 0:
                continue
            pieces += [text[at:start], self.placeholders.name(finding.type, text[start:end])]
            at = end
        return "".join([*pieces, text[at:]])

    def json(self, text: str, *, is_body: bool = False) -> str:
        """A JSON text with all its strings masked, keys too; a number that is a finding becomes a string."""
        key = ""

        def swap(match: re.Match[str]) -> str:
            nonlocal key
            literal, colon = match[1], match[2]
            if literal is None:
                return self._number(match[0], key)
            value = _decoded(literal)
            if is_body and colon is None and self._is_media(key, value):
                return match[0]
            masked = self.text(value, "" if colon else key) if len(value) > 2 else value
            if colon:
                key = value
            return match[0] if masked == value else json.dumps(masked, ensure_ascii=False) + (colon or "")

        return _TOKEN.sub(swap, text)

    def _is_media(self, key: str, value: str) -> bool:
        """Note what cannot be read; whether `value` is such a thing itself."""
        if key == "type" and value in _MEDIA_TYPES:
            self.unread = self.unread or f"a part of the type {value!r}"
        if value.startswith("data:") and ";base64," in value[:200]:
            self.unread = self.unread or "embedded data"
            return True
        return bool(self.unread) and len(value) > _LONG_DATA and " " not in value[:_LONG_DATA]

    def _number(self, number: str, key: str) -> str:
        if len(number) < _LONG_NUMBER:
            return number
        masked = self.text(number, key)
        return number if masked == number else json.dumps(masked)


def mask_body(body: bytes, scan: Scan) -> tuple[bytes, Masker]:
    """The body of a request masked, and what masked it.

    Raises `UnscannableError` for two values of one name and for what another server holds; `UnicodeDecodeError` or
    `msgspec.DecodeError` (of which `ValidationError` is one) where it is no JSON object.
    """
    fields = _raw_objects.decode(body)
    decoded = json.loads(body, object_pairs_hook=_unambiguous)
    may_hold = b"<" in body or b"u003" in body
    masker = Masker(scan, Placeholders(_WRITTEN.findall(json.dumps(decoded, ensure_ascii=False)) if may_hold else ()))
    order = [key for key in (*_INSTRUCTING, *_CONVERSING) if key in fields]
    order += [key for key in fields if key not in order]
    masked: dict[str, str] = {}
    for key in order:
        # A key is masked like a string, and gives its name to the value beside it.
        raw = bytes(fields[key]).decode()
        masked[key] = masker.json(f"{json.dumps(key, ensure_ascii=False)}:{raw}", is_body=True)
    if not masker.placeholders.values:
        return body, masker
    if any(fields.get(key, msgspec.Raw(b"null")) != msgspec.Raw(b"null") for key in _ELSEWHERE):
        raise UnscannableError("a conversation that the model's server holds")
    return ("{" + ",".join(masked[key] for key in fields) + "}").encode(), masker


def _unambiguous(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object. Of two values of one name a model may read the one that was not looked at."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise UnscannableError("an object with two values of one name")
    return fields


def _decoded(literal: str) -> str:
    if "\\" not in literal:
        return literal[1:-1]
    decoded: str = json.loads(literal, strict=False)
    return decoded


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True
