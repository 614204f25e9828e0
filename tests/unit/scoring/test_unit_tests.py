import os
import socket
import time

import pytest

from pilotfish.core.item import Item
from pilotfish.scoring.sandbox import Limits, cuts_network, run_python
from pilotfish.scoring.scorers import scorer
from pilotfish.scoring.unit_tests import program_of

PROMPT = 'def double(x: int) -> int:\n    """Twice x.\n    >>> double(2)\n    4\n    """\n'
TASK = Item(
    id="one",
    messages=[],
    expected=None,
    tags={},
    context=PROMPT,
    tests="def check(candidate):\n    assert candidate(3) == 6\n\ncheck(double)\n",
)


@pytest.mark.parametrize(
    "answer",
    [
        "    return 2 * x",
        "    return 2 * x\n\nThis returns twice x.",
        "return 2 * x",
        "y = x\n    return y + x",
        "Sure:\n```python\ndef double(x):\n    return 2 * x\n```\nIt doubles.",
        "```python\n" + PROMPT + "    return 2 * x\n```",
        "```\n    return 2 * x\n```",
        "```python\ndef twice(y):\n    return y + y\n```\nthen\n```python\ndef double(x):\n    return twice(x)\n```",
    ],
)
def test_code_is_read_from_completions_and_from_chat(answer):
    program = program_of(PROMPT, answer)
    assert program is not None
    names: dict[str, object] = {}
    exec(program, names)
    assert names["double"](3) == 6  # type: ignore[operator]


def test_code_is_worth_1_where_its_tests_pass():
    assert scorer("unit_tests")(TASK, "    return x + x").value == 1
    wrong = scorer("unit_tests")(TASK, "    return x")
    assert (wrong.value, wrong.failure, wrong.note) == (0, "", "AssertionError")


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ("```python\ndef double(x):\n    return (2 *", "truncated"),
        ("I'm sorry, but I cannot write that.", "refusal"),
        ("Twice means two times, obviously!", "parse"),
    ],
)
def test_an_answer_without_code_says_why(answer, failure):
    assert scorer("unit_tests")(TASK, answer).failure == failure


@pytest.mark.parametrize("leave", ["import os; os._exit(0)", "raise SystemExit(0)", "import sys; sys.exit()"])
def test_leaving_before_the_tests_is_not_passing(leave):
    assert scorer("unit_tests")(TASK, f"```python\n{leave}\n```").value == 0


def test_a_program_that_does_not_end_is_killed_with_its_children(tmp_path):
    mark = tmp_path / "alive"
    source = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        f"    while True: open({str(mark)!r}, 'a').write('x'); time.sleep(0.02)\n"
        "while True: time.sleep(0.05)\n"
    )
    ran = run_python(source, limits=Limits(wall_s=0.2, grace_s=0.3))
    assert ran.timed_out
    if cuts_network():
        written = mark.stat().st_size
        time.sleep(0.2)
        assert mark.stat().st_size == written


@pytest.mark.parametrize(
    ("source", "note"),
    [
        ("x = [0] * 10**10", "MemoryError"),
        ("open('big', 'wb').write(b'0' * 20_000_000)", "File too large"),
        ("files = [open('f%d' % n, 'w') for n in range(100)]", "Too many open files"),
    ],
)
def test_what_a_program_uses_is_limited(source, note):
    ran = run_python(source)
    assert not ran.finished
    assert note in ran.note


def test_a_program_sees_neither_the_environment_nor_the_working_folder(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    source = f"import os\nassert 'OPENAI_API_KEY' not in os.environ\nassert os.getcwd() != {os.getcwd()!r}\n"
    assert run_python(source).finished


def test_a_program_has_no_network_where_namespaces_are_to_be_had():
    if not cuts_network():
        pytest.skip("this system lets no ordinary user make a network namespace")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ran = run_python(f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=1)")
    assert not ran.finished
    assert "unreachable" in ran.note
