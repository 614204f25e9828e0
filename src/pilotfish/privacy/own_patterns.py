"""The user's own regular expressions, each with a limit on its time.

A pattern with nested repeats can take for ever on a text that somebody else chose. The standard library cannot
interrupt one, the `regex` library can: what runs out of time raises, and the request counts as sensitive.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pilotfish.core.errors import ConfigError, MissingExtraError
from pilotfish.core.privacy import TYPES, Finding

SCORE = 0.9
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}", re.IGNORECASE)


def compile_patterns(patterns: Mapping[str, str]) -> list[tuple[str, Any]]:
    """Type name and compiled pattern of each.

    Raises `ConfigError` for a name or a pattern that cannot be used, `MissingExtraError` where patterns are given and
    `regex` is not installed.
    """
    if not patterns:
        return []
    try:
        import regex  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("privacy", "regex") from error
    compiled = []
    for name, pattern in patterns.items():
        kind = name.upper()
        if not _NAME.fullmatch(name) or kind in TYPES:
            raise ConfigError(
                f"[privacy.patterns] {name!r} cannot name a pattern.",
                hint="Use letters, digits and underscores, and no name of a built-in type.",
            )
        try:
            compiled.append((kind, regex.compile(pattern)))
        except regex.error as error:
            raise ConfigError(f"[privacy.patterns] {name} is no regular expression: {error}.") from error
    return compiled


def find(text: str, patterns: list[tuple[str, Any]], limit_s: float) -> Iterator[Finding]:
    """What the patterns match, empty matches left out. Raises `TimeoutError` where one takes longer than `limit_s`."""
    for kind, pattern in patterns:
        for match in pattern.finditer(text, timeout=limit_s):
            if match.end() > match.start():
                yield Finding(type=kind, start=match.start(), end=match.end(), score=SCORE)
