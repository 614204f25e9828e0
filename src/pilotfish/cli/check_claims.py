"""`pilotfish check-claims FILE`: are a text's claims about models right?

Prints what `sizing/claims.py` finds; it judges nothing itself. Exit code 1 says that at least one claim is wrong, so
that a text can be checked in CI.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import click

from pilotfish.cli import options, output
from pilotfish.core.errors import UserError

MAX_BYTES = 16 << 20


@click.command(
    "check-claims",
    help="Judge what FILE (text or Markdown; - for standard input) says about models: parameters, context, layers, "
    "heads, vocabulary, memory, relative size. What cannot be judged is left alone.",
    epilog="Exit codes: 0 nothing is wrong, 1 at least one claim is wrong, 2 the file cannot be read.",
)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@options.json_option
def command(file: Path, as_json: bool) -> int:
    from pilotfish.sizing.claims import judge

    found = judge(_text(file))
    n_wrong = sum(claim.verdict == "wrong" for claim in found)
    if as_json:
        output.print_json({"claims": [dataclasses.asdict(claim) for claim in found], "wrong": n_wrong})
        return 1 if n_wrong else 0
    if not found:
        click.echo("No claim about a known model that can be judged.")
        return 0
    rows = [
        [c.line, output.shorten(c.text, 70), output.shorten(c.value, 60), c.verdict, output.shorten(c.source, 90)]
        for c in found
    ]
    output.print_table(["line", "claim", "value", "verdict", "source"], rows)
    click.echo(f"\n{len(found)} judged, {n_wrong} wrong.")
    return 1 if n_wrong else 0


def _text(file: Path) -> str:
    try:
        if str(file) == "-":
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with file.open("rb") as opened:
                content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{str(file)!r} cannot be read: {error.strerror}.", hint="Expected a text file.") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{str(file)!r} is larger than {MAX_BYTES >> 20} MiB.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{str(file)!r} is not UTF-8 text.", hint="Expected text or Markdown.") from error
