from __future__ import annotations

import asyncio
import os
import signal
import subprocess as sp
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pilotfish.jobs import subprocess
from pilotfish.jobs.base import Finished


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def run(code: str, **options: Any) -> Finished:
    async def work() -> Finished:
        return await (await subprocess.start(python(code), **options)).wait()

    return asyncio.run(work())


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children() -> set[str]:
    """Also those that have ended and are not waited for yet."""
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 120
    while is_alive(pid):
        assert time.monotonic() < deadline, "the job outlived its parent"
        time.sleep(0.01)


def test_json_lines_are_progress_and_the_rest_is_not() -> None:
    seen: list[dict[str, Any]] = []
    finished = run("print('{\"done\": 1}'); print('words'); print('[1]'); print('{\"done\": 2}')", progress=seen.append)
    assert seen == [{"done": 1}, {"done": 2}]
    assert finished == Finished(exit_code=0, last={"done": 2}, stderr_tail="")


def test_a_failure_keeps_its_exit_code_and_the_end_of_its_complaints() -> None:
    finished = run("import sys; sys.stderr.write('x' * 100_000 + 'the reason'); sys.exit(2)")
    assert finished.exit_code == 2
    assert finished.stderr_tail.endswith("the reason")
    assert len(finished.stderr_tail) == subprocess.STDERR_TAIL_CHARACTERS


def test_priority_and_environment_reach_the_command() -> None:
    code = "import os, json; print(json.dumps({'nice': os.nice(0), 'x': os.environ['X_TEST']}))"
    finished = run(code, niceness=7, environment={"X_TEST": "here"})
    assert finished.last == {"nice": os.nice(0) + 7, "x": "here"}


def test_a_job_is_stopped_with_its_children() -> None:
    async def work() -> tuple[int, int, Finished]:
        started = asyncio.get_running_loop().create_future()
        code = (
            "import subprocess, sys, json, time\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            "print(json.dumps({'child': child.pid}), flush=True); time.sleep(60)"
        )
        job = await subprocess.start(python(code), progress=started.set_result)
        child = (await started)["child"]
        await job.stop()
        return job.pid, child, await job.wait()

    pid, child, finished = asyncio.run(work())
    assert finished.exit_code == -signal.SIGTERM
    wait_for_end(pid)
    wait_for_end(child)


@pytest.mark.parametrize("n_steps", range(5))
def test_what_is_cancelled_while_it_starts_has_ended_when_that_is_told(n_steps: int) -> None:
    """uvloop, left alone, only kills it, and complains where its loop is closed before the process is gone."""

    async def work() -> None:
        before = children()
        starting = asyncio.ensure_future(subprocess.start(python("import time; time.sleep(60)")))
        for _ in range(n_steps):
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert children() == before

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())


def test_a_job_that_will_not_end_is_killed(monkeypatch: Any) -> None:
    monkeypatch.setattr(subprocess, "GRACE_S", 0.1)

    async def work() -> Finished:
        started = asyncio.get_running_loop().create_future()
        code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('{}', flush=True); time.sleep(60)"
        job = await subprocess.start(python(code), progress=started.set_result)
        await started
        await job.stop()
        await job.stop()
        return await job.wait()

    assert asyncio.run(work()).exit_code == -signal.SIGKILL


def test_a_job_ends_when_its_parent_is_killed() -> None:
    parent = (
        "import asyncio, sys\n"
        "from pilotfish.jobs import subprocess\n"
        "async def main():\n"
        "    code = 'import os, json, time; print(json.dumps({\"pid\": os.getpid()}), flush=True); time.sleep(60)'\n"
        "    show = lambda report: print(report['pid'], flush=True)\n"
        "    job = await subprocess.start([sys.executable, '-c', code], progress=show)\n"
        "    await job.wait()\n"
        "asyncio.run(main())\n"
    )
    with sp.Popen(python(parent), stdout=sp.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    wait_for_end(pid)
