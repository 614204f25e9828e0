"""Bytes on a socket, for requests that no client library would send."""

from __future__ import annotations

import socket
import time

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"


def exchange(port: int, data: bytes, *, timeout_s: float = 2.0, waits_for: bytes = b"") -> bytes:
    """Send `data`; what came until the server closed, or until `waits_for` came. Fails where neither happens."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as client:
        got = b""
        try:
            client.sendall(data)
            while not (waits_for and waits_for in got):
                piece = client.recv(65536)
                if not piece:
                    break
                got += piece
        except ConnectionError:
            pass  # closed with our bytes still unread
        return got


def status(reply: bytes) -> int:
    """The status of the first reply in these bytes."""
    return int(reply.split(b" ", 2)[1])


def closed_after(client: socket.socket, limit_s: float, drip: bytes = b"") -> float:
    """Seconds until the server closes, while `drip` is sent every tenth of one. Fails where it does not."""
    started_s = time.perf_counter()
    client.settimeout(0.1)
    while time.perf_counter() - started_s < limit_s:
        try:
            if drip:
                client.send(drip)
            if not client.recv(65536):
                return time.perf_counter() - started_s
            continue
        except TimeoutError:
            continue
        except ConnectionError:
            return time.perf_counter() - started_s
    raise AssertionError(f"still open after {limit_s} s")
