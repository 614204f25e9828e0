"""What a program sends to have a task answered: the same request in Python, for curl and in JavaScript.

The task is known by its instructions, so each snippet carries them to the letter. A text stands in it as a literal of
its language, whatever it holds: JSON's are JavaScript's too, and the shell gets one word in quotes.
"""

from __future__ import annotations

import json
import pprint
import shlex
from collections.abc import Sequence
from typing import Any

PLACEHOLDER = "..."
"""Stands where the request's own text goes."""

_KEY = "PILOTFISH_KEY"


def snippets(base_url: str, model: str, messages: Sequence[dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Language and code of each. The key is read from the environment; without keys any word will do."""
    asked = {"model": model, "messages": list(messages)}
    body = _literal(asked)
    url = base_url.rstrip("/")
    python = (
        "import os\n\nfrom openai import OpenAI\n\n"
        f"client = OpenAI(base_url={url!r}, api_key=os.environ.get({_KEY!r}, 'none'))\n"
        f"asked = {pprint.pformat(asked, width=100, sort_dicts=False)}\n"
        "reply = client.chat.completions.create(**asked)\n"
        "print(reply.choices[0].message.content)\n"
    )
    shell = (
        f"curl -s {shlex.quote(url + '/chat/completions')} \\\n"
        f'  -H "authorization: Bearer ${{{_KEY}:-none}}" -H "content-type: application/json" \\\n'
        f"  -d {shlex.quote(body)}\n"
    )
    script = (
        f"const reply = await fetch({_literal(url + '/chat/completions')}, {{\n"
        '  method: "POST",\n'
        '  headers: { "content-type": "application/json", authorization: "Bearer " + '
        f'(process.env.{_KEY} ?? "none") }},\n'
        f"  body: JSON.stringify({_indented(body, 2)}),\n}});\n"
        "console.log((await reply.json()).choices[0].message.content);\n"
    )
    return (("Python", python), ("curl", shell), ("JavaScript", script))


def _literal(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """A literal of JSON that people can read: only what cannot be seen, or sent, is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2 if isinstance(value, dict) else None)
    return "".join(_safe(letter) for letter in text)


def _safe(letter: str) -> str:
    is_odd = letter != "\n" and (not letter.isprintable() and ord(letter) < 0x10000)
    return f"\\u{ord(letter):04x}" if is_odd else letter


def _indented(text: str, n: int = 4) -> str:
    return text.replace("\n", "\n" + " " * n)
