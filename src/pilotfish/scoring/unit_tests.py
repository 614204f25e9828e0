"""Code in answers, judged by running tests on it (the layout of HumanEval, Chen et al., arXiv 2107.03374).

An answer is either the rest of the code in the prompt, as a base model writes it, or a whole function in prose and
fences, as a chat model does; the program is the prompt's code, the answer's, then the tests. It runs in `sandbox.py`,
whose docstring says what that does not protect from.
"""

from __future__ import annotations

import re
import textwrap
import warnings

from pilotfish.core.errors import DataError
from pilotfish.core.item import Item
from pilotfish.scoring.sandbox import Limits, run_python
from pilotfish.scoring.score import Score, unread

_FENCE = re.compile(r"```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_PYTHON = ("", "python", "py", "python3")


def score_code(item: Item, answer: str, *, timeout_s: float = 5.0, memory_mb: int = 1024) -> Score:
    """1 where the answer's code passes the item's tests within the limits.

    Failures: "timeout", and "parse" where the answer holds no code that compiles ("truncated" where its fence is
    open). Raises `DataError` for an item without tests.
    """
    if not item.tests:
        raise DataError(f"Item {item.id!r} has no tests, which the scorer 'unit_tests' runs.")
    code = program_of(item.context, answer)
    if code is None:
        is_open = answer.count("```") % 2 == 1
        return Score(0.0, "truncated", "the code breaks off") if is_open else unread("no code that compiles")
    ran = run_python(f"{code}\n\n{item.tests}\n", limits=Limits(wall_s=timeout_s, memory_bytes=memory_mb << 20))
    if ran.timed_out:
        return Score(0.0, "timeout", f"longer than {timeout_s:g} s")
    return Score(float(ran.finished), "", ran.note)


def program_of(prompt: str, answer: str) -> str | None:
    """The code of prompt and answer together: the first reading of the answer that compiles; None where none does."""
    fenced = [body for name, body in _FENCE.findall(answer) if name.lower() in _PYTHON]
    whole = [*([] if len(fenced) < 2 else ["\n\n".join(fenced)]), *reversed(fenced)]
    bodies = fenced or [answer.rstrip()]
    readings = [f"{prompt}\n{code}" if prompt else code for code in whole if _defines(code, prompt)]
    readings += [prompt + body for body in bodies]
    readings += [f"{prompt}    {body.lstrip()}" for body in bodies if prompt]
    readings += [prompt + textwrap.indent(textwrap.dedent(body), "    ") for body in bodies if prompt]
    readings += [f"{prompt}\n{body}" for body in bodies if prompt]
    if not fenced:
        readings.append(prompt + _until_prose(answer))
    return next((reading for reading in readings if reading.strip() != prompt.strip() and compiles(reading)), None)


def compiles(source: str) -> bool:
    """Whether a text is a Python program."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a doubtful escape in somebody's code is no business of ours
            compile(source, "answer", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _defines(code: str, prompt: str) -> bool:
    """Whether the code defines a function of its own, so that it need not continue the prompt's."""
    return not prompt or (re.search(r"^(?:async\s+)?(?:def|class)\s+\w", code, re.MULTILINE) is not None)


def _until_prose(answer: str) -> str:
    """The lines of a completion before it leaves the function: the first line at the margin that is no code."""
    kept = []
    for line in answer.splitlines():
        if line and not line[0].isspace() and not re.match(r"(def|class|import|from|@|#|async)\b|[@#]", line):
            break
        kept.append(line)
    return "\n".join(kept)
