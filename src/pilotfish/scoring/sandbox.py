"""Runs a Python program that nobody has read, with limits, and says whether it came to its end.

It protects from accidents: a program gets a folder of its own that is deleted after it, no environment, limits on
processor time, memory, open files and the size of what it writes, and a time after which its whole group is killed.
Where Linux lets an ordinary user make namespaces (`unshare`), it also gets no network and its own process tree, which
dies with it.

It does not protect from malice: the program runs as you, may read what you may read and write or delete what you may
write, can look at the test that it must pass, and where there is no `unshare` it has the network and may leave
processes behind. Run code of models that you do not trust in a container or a virtual machine.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_MAX_NOTE = 200
_MAX_PROCESSES = 64  # set only where the program has a process tree of its own: the limit counts all of a user's
_UNSHARE = ("--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child")

# Sets the limits in the new process (a function run between fork and exec is unsafe beside threads), then runs the
# program. Its last act is the proof that the program came to its end: leaving early does not write it.
_LAUNCHER = """
import resource, sys
cpu, memory, size, files, processes = map(int, sys.argv[1:6])
limits = {"CPU": cpu, "AS": memory, "FSIZE": size, "NOFILE": files, "CORE": 0, "NPROC": processes}
for kind, limit in limits.items():
    try:
        if limit >= 0:
            resource.setrlimit(getattr(resource, "RLIMIT_" + kind), (limit, limit))
    except (AttributeError, OSError, ValueError):
        pass
proof = sys.stdin.read()
with open("program.py", encoding="utf-8") as file:
    source = file.read()
exec(compile(source, "program.py", "exec"), {"__name__": "__main__"})
with open("proof", "w") as file:
    file.write(proof)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a program may use: `wall_s` of time (processor time too, rounded up to a second), and address space.

    `grace_s` is what starting the interpreter may take beyond that on a busy machine.
    """

    wall_s: float = 5.0
    grace_s: float = 2.0
    memory_bytes: int = 1 << 30
    file_bytes: int = 10 << 20
    open_files: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a program ended: it came to its end (`finished`), was killed for time (`timed_out`), or broke: `note`."""

    finished: bool
    timed_out: bool = False
    note: str = ""


def run_python(source: str, *, limits: Limits | None = None) -> Ran:
    """Run a program in a process and folder of its own. Raises nothing for whatever the program does."""
    limits = limits or Limits()
    proof = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="pilotfish-code-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "program.py").write_text(source, "utf-8", errors="replace")
        started = time.monotonic()
        with open(folder / "errors", "wb") as errors:
            process = subprocess.Popen(  # noqa: S603 - running it is the point
                _command(limits),
                cwd=folder,
                env={"PATH": os.defpath, "HOME": name, "TMPDIR": name, "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
            try:
                process.communicate(proof.encode(), timeout=limits.wall_s + limits.grace_s)
                timed_out = time.monotonic() - started >= limits.wall_s  # killed for its processor time
            except subprocess.TimeoutExpired:
                timed_out = True
            finally:
                _kill_group(process)
        finished = _content(folder / "proof") == proof
        note = "" if finished else _last_line(_content(folder / "errors"))
    return Ran(finished=finished, timed_out=timed_out and not finished, note=note)


@functools.cache
def cuts_network() -> bool:
    """Whether programs run here without network, in a process tree of their own."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    try:
        tried = subprocess.run([unshare, *_UNSHARE, "true"], capture_output=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


def _command(limits: Limits) -> list[str]:
    isolation = [shutil.which("unshare") or "unshare", *_UNSHARE] if cuts_network() else []
    numbers = (
        max(1, round(limits.wall_s + 0.5)),
        limits.memory_bytes,
        limits.file_bytes,
        limits.open_files,
        _MAX_PROCESSES if isolation else -1,
    )
    return [*isolation, sys.executable, "-I", "-B", "-c", _LAUNCHER, *map(str, numbers)]


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _content(path: Path) -> str:
    """What a small file holds, nothing where it is missing or no plain file (a program may put anything there)."""
    try:
        if path.is_symlink() or not path.is_file():
            return ""
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            return file.read(4096).decode("utf-8", "replace")
    except OSError:
        return ""


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:_MAX_NOTE] if lines else "the program left before its tests"
