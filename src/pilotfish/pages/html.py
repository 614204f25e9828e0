"""The pieces of our pages: one self-contained HTML document, and tables in it.

A page has no script, no font and makes no request; it follows the reader's dark or light setting and can be
printed. Whatever text comes in is escaped here, except for parts that say that they are HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
:root { --ink: #1b2733; --soft: #5b6b7a; --line: #d7dee5; --paper: #fff;
  --local: #0b7a75; --wrong: #b3261e; --promise: #8a6d00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9aa8b5; --line: #33414d; --paper: #12181e;
    --local: #4fc3bd; --wrong: #ff8a80; --promise: #e0c060; }
}
@media print {
  :root { --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --local: #0b7a75; --wrong: #b3261e;
    --promise: #8a6d00; }
  h2 { break-after: avoid; } svg, tr { break-inside: avoid; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 880px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  max-width: 24rem; overflow-wrap: break-word; }
th { vertical-align: bottom; } td:first-child { min-width: 5rem; }
.claim { font-size: 1.2rem; } .soft { color: var(--soft); }
code, pre { font: .9em/1.5 ui-monospace, monospace; } pre { white-space: pre-wrap; overflow-wrap: anywhere; }
svg { width: 100%; min-width: 36rem; height: auto; display: block; } svg text { font-size: 12px; }
svg text:not([fill]) { fill: var(--soft); }
.scroll { overflow-x: auto; }
"""


def document(title: str, parts: Iterable[str]) -> str:
    """The page; `parts` are HTML, empty ones are left out."""
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; without a head where no column has a name. The keyboard scrolls it where it is too wide."""
    cells = "".join(f"<th>{escape(column)}</th>" if column else "<td></td>" for column in columns)
    head = f"<thead><tr>{cells}</tr></thead>" if any(columns) else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table>{head}<tbody>{body}</tbody></table></div>'


def bullets(items: Iterable[str]) -> str:
    """A list with one point for each text."""
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"
