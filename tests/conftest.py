"""What every test gets: a clean environment, homes of its own, and no way to a real network."""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import Generator
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A suite that was started in the background ignores Ctrl-C, and so would every command that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    # As the Makefile and the command line have it: the threads of two workers would wait for each other.
    os.environ.setdefault(name, "1")

MEMORY = Path("/dev/shm")
if "PYTEST_DEBUG_TEMPROOT" not in os.environ and os.access(MEMORY, os.W_OK):
    # Homes of tests lie in memory where a system has it: each commit waits for its disk otherwise, some 4 ms.
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays to the end: to look through it for garbage took half of a collection's time,
    and a thirtieth of the tests'."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting, key or home of the person who runs the tests reaches them."""
    for name in list(os.environ):
        if name.startswith("PILOTFISH_") and name not in ("PILOTFISH_NO_SKIPS", "PILOTFISH_CACHE"):
            monkeypatch.delenv(name)
    proxies = [f"{kind}_proxy" for kind in ("http", "https", "all", "no")]
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", *proxies, *map(str.upper, proxies)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PILOTFISH_HOME", str(tmp_path / "home"))


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anything but loopback fails by name, so that no test depends on a network."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address[0]!r}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of labelled texts beside a development checkout; a user's clone has none."""
    if not DATA.is_dir():
        pytest.skip("needs the labelled texts of a development checkout (../shared/data)")
    return DATA


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI a skipped test is a failure: everything that tests may need is present there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("PILOTFISH_NO_SKIPS") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
