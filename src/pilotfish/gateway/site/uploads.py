"""Forms with a file, as browsers send them (multipart/form-data, RFC 7578): fields in memory, the file to disk.

Read piece by piece, within bounds. The token against forged requests must be the first field, and is checked before
anything that follows is kept. A form that is refused is read to its end, since a browser that is still sending would
meet a closed connection instead of the reason; nothing more of it is kept. Names of files are words, never paths.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pilotfish.core.errors import RequestError, TooLargeError
from pilotfish.gateway import asgi

MAX_FILE_BYTES = 32 << 20
MAX_FIELD_BYTES = 1 << 20
MAX_PARTS = 12
_MAX_HEAD_BYTES = 4096
_LONGEST_NAME = 120

_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,70})"|([^\s;,"]{1,70}))', re.IGNORECASE)
_PARAMETER = re.compile(r'(?<!\w)(name|filename)="([^"]*)"')

Check = Callable[[dict[str, str]], None]


@dataclass(slots=True, kw_only=True)
class Sent:
    """What came: the fields, and of the file its name (empty where none was chosen) and how large it is."""

    fields: dict[str, str] = field(default_factory=dict)
    file: str = ""
    n_bytes: int = 0


async def receive(receive: asgi.Receive, content_type: str, to: Path, check: Check) -> Sent | None:
    """A form whose file goes `to` a path; None where the client has gone.

    `check` sees the fields up to the first that is not the token, and raises what it likes. Raises `RequestError` (400)
    where it is no such form, `TooLargeError` (413).
    """
    found = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/form-data") or found is None:
        raise RequestError("Expected a form with a file (multipart/form-data).", status=415)
    refused: RequestError | None = None
    with to.open("wb") as file:
        parts = _Parts((found[1] or found[2]).encode("latin-1", "replace"), file, check)
        n_bytes, has_more = 0, True
        while has_more and n_bytes <= asgi.DISCARD_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            piece = message.get("body", b"")
            n_bytes += len(piece)
            has_more = message.get("more_body", False)
            if refused is None:
                try:
                    parts.feed(piece)
                except RequestError as error:
                    refused = error
    if refused is not None:
        raise refused
    return parts.end()


class _Parts:
    """Takes a form apart as it comes."""

    def __init__(self, boundary: bytes, file: BinaryIO, check: Check) -> None:
        self._mark = b"\r\n--" + boundary
        self._held = b"\r\n"  # the first boundary has no line before it
        self._file = file
        self._check = check
        self._step: Callable[[], bool] = self._find_first
        self._sent = Sent()
        self._name = ""
        self._is_file = self._is_checked = self._has_ended = False
        self._value = bytearray()
        self._n_parts = 0

    def feed(self, data: bytes) -> None:
        """Take the next piece. Raises `RequestError`."""
        self._held += data
        while self._step():
            pass

    def end(self) -> Sent:
        """Everything that came. Raises `RequestError` where the form is torn."""
        if not self._has_ended:
            raise RequestError("The form ended in the middle.", hint="Send it again.")
        return self._sent

    def _find_first(self) -> bool:
        place = self._held.find(self._mark)
        if place < 0:
            if len(self._held) > _MAX_HEAD_BYTES:
                raise RequestError("The form does not begin with its boundary.")
            return False
        self._held = self._held[place + len(self._mark) :]
        self._step = self._read_head
        return True

    def _read_head(self) -> bool:
        """Behind a boundary: the end of the form, or the head of a part."""
        if self._held.startswith(b"--"):
            self._check_once()
            self._has_ended = True
            self._held = b""
            self._step = lambda: False
            return False
        place = self._held.find(b"\r\n\r\n")
        if place < 0:
            if len(self._held) > _MAX_HEAD_BYTES:
                raise RequestError("A part of the form has too long a head.")
            return False
        named = dict(_PARAMETER.findall(self._held[:place].decode("utf-8", "replace")))
        self._n_parts += 1
        if "name" not in named or self._n_parts > MAX_PARTS:
            raise RequestError("The form has too many fields, or one without a name.")
        self._name, self._is_file = named["name"], "filename" in named
        if self._name != "csrf":
            self._check_once()
        if self._is_file:
            if self._sent.file:
                raise RequestError("Expected one file, got several.", hint="Send them one after the other.")
            self._sent.file = re.split(r"[/\\]", named["filename"])[-1][:_LONGEST_NAME]
        self._held = self._held[place + 4 :]
        self._value.clear()
        self._step = self._read_value
        return True

    def _read_value(self) -> bool:
        place = self._held.find(self._mark)
        n_sure = place if place >= 0 else max(0, len(self._held) - len(self._mark))
        self._keep(self._held[:n_sure])
        if place < 0:
            self._held = self._held[n_sure:]
            return False
        if not self._is_file:
            self._sent.fields[self._name] = self._value.decode("utf-8", "replace")
        self._held = self._held[place + len(self._mark) :]
        self._step = self._read_head
        return True

    def _keep(self, data: bytes) -> None:
        if self._is_file:
            self._sent.n_bytes += len(data)
            if self._sent.n_bytes > MAX_FILE_BYTES:
                raise TooLargeError(
                    f"The file is larger than the limit of {MAX_FILE_BYTES >> 20} MiB.",
                    hint="Upload a random sample of its rows; learning looks at 100,000 at most.",
                )
            self._file.write(data)
            return
        self._value += data
        if len(self._value) > MAX_FIELD_BYTES:
            raise TooLargeError(
                f"The field {self._name!r} is larger than the limit of {MAX_FIELD_BYTES >> 20} MiB.",
                hint="Upload it as a file.",
            )

    def _check_once(self) -> None:
        if not self._is_checked:
            self._is_checked = True
            self._check(self._sent.fields)
