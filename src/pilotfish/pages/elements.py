"""HTML that a program builds element by element, so that no text can become markup by being forgotten.

Whatever is no `Html` is escaped, in content and in attributes; an address leads only to a path of the same site;
scripts and styles cannot be written inline. There is no template to leave a filter out of, and the type checker sees
which is which. Charts and other finished pieces of ours are wrapped as `Html` where they are made.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias


class Html(str):
    """Text that is HTML already. Joined with any other string it is text again, and escaped again."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"

_VOID = frozenset(("br", "hr", "input", "link", "meta"))
_ADDRESSES = frozenset(("href", "src", "action", "formaction"))


def element(tag: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """One element. A trailing underscore of an attribute's name is dropped, others become dashes.

    None and False leave an attribute out. Raises `ValueError` for an inline handler or style, and for an address that
    is no path of the same site: a `javascript:` link cannot be built.
    """
    written = "".join(_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    if tag in _VOID:
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{fragment(*children)}</{tag}>")


def fragment(*children: Child) -> Html:
    """Several pieces, one after the other."""
    return Html("".join(map(_child, children)))


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, str):
        return escape(child.replace("\0", "\ufffd"))
    return str(child) if isinstance(child, int) else fragment(*child)


def _attribute(name: str, value: str | int | bool | None) -> str:
    if value is None or value is False:
        return ""
    if name.lower().startswith("on") or name.lower() == "style":
        raise ValueError(f"The attribute {name!r} would be inline code.")
    text = str(value)
    is_path = text.startswith(("#", "?")) or (text.startswith("/") and not text.startswith(("//", "/\\")))
    if name in _ADDRESSES and not is_path:
        raise ValueError(f"{text!r} is no path of this site.")
    return f" {name}" if value is True else f' {name}="{escape(text)}"'
