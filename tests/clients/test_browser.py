"""An exported specialist in Chromium, offline: the page answers as Python does. A page of the test drives it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pilotfish.core.certificate import FirstTier
from pilotfish.specialists.export import export, find_web_runtime
from pilotfish.specialists.specialist import Specialist
from pilotfish.students.distil import distil
from pilotfish.students.encoder_cache import built_encoder, open_encoder
from tools.certificates import certificate
from tools.tiny_models import write_tiny_bert
from tools.tiny_tasks import examples, json_task, triage_examples

PACKAGES = Path(os.environ.get("PILOTFISH_NODE_CLIENTS", ""))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.skipif(
        not (PACKAGES / "node_modules" / "onnxruntime-web").is_dir(),
        reason="PILOTFISH_NODE_CLIENTS names no folder with onnxruntime-web; make test-clients makes one",
    ),
]

TOLERANCE = 0.01
"""Of certainty and scope: WebAssembly rounds floating-point numbers differently, and one may fall to the next step of
int8. Here the encoder is tiny and untrained; `benchmarks/students/export.py` measures the real one."""

TEXTS = [example.text for example in examples(100, seed=9)]
TEXTS += ["", "ß ÉCOLE ΣΑΣ", "日本語 " * 900, "x" * 20000, "[SEP] refund", "a\ud800b", "naïve ǅ ﬁ İı"]

DRIVER = """<script type="module">
const tell = (said) => fetch("/told", { method: "POST", body: JSON.stringify(said) });
try {
  const { open } = await import("./specialist.js");
  const answer = await open();
  const said = [];
  for (const text of await (await fetch("/texts")).json()) said.push(await answer(text));
  const frame = document.createElement("iframe");
  frame.src = "/index.html";
  document.body.append(frame);
  const shown = () => frame.contentDocument?.querySelector("output")?.textContent ?? "";
  while (!/^Ready|cannot/.test(shown())) await new Promise((done) => setTimeout(done, 20));
  frame.contentDocument.querySelector("input").value = "refund please";
  frame.contentDocument.querySelector("form").requestSubmit();
  while (/^Ready/.test(shown())) await new Promise((done) => setTimeout(done, 20));
  await tell({ said, shown: shown() });
} catch (error) {
  await tell({ error: `${error}\\n${error.stack}` });
}
</script>"""


class Handler(SimpleHTTPRequestHandler):
    """The exported folder, the driving page, its texts, and an ear for what it tells."""

    def __init__(self, *arguments: Any, heard: dict[str, Any], done: threading.Event, folder: Path) -> None:
        self.heard, self.done = heard, done
        super().__init__(*arguments, directory=str(folder))

    def do_GET(self) -> None:
        special = {"/drive": ("text/html", DRIVER), "/texts": ("application/json", json.dumps(TEXTS))}
        if self.path not in special:
            super().do_GET()
            return
        kind, body = special[self.path]
        self.send_response(200)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(body.encode())

    def do_POST(self) -> None:
        self.heard.update(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(204)
        self.end_headers()
        self.done.set()

    def log_message(self, *_: object) -> None:
        self.heard.setdefault("asked", []).append(self.path)


@contextmanager
def browsing(folder: Path, profile: Path, *, within_s: float = 120) -> Iterator[dict[str, Any]]:
    """What the driving page told, in a browser that can reach loopback alone."""
    heard: dict[str, Any] = {}
    done = threading.Event()
    handler = partial(Handler, heard=heard, done=done, folder=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
    offline = ["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    command = [str(CHROMIUM), *flags, *offline, f"http://127.0.0.1:{server.server_port}/drive"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert done.wait(within_s), heard
        yield heard
    finally:
        browser.terminate()
        browser.wait()
        server.shutdown()
        server.server_close()


def in_python(folder: Path) -> list[dict[str, Any]]:
    code = "import json, sys, answer; print(json.dumps([answer.answer(text) for text in json.load(sys.stdin)]))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, input=json.dumps(TEXTS), capture_output=True, text=True, check=True
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_the_page_answers_what_python_answers(tmp_path: Path) -> None:
    weights = str(write_tiny_bert(tmp_path / "tiny-bert"))
    encoder = open_encoder(tmp_path / "cache", weights)
    learnt = distil(triage_examples(300), json_task(), encoder, tmp_path / "home")
    first = FirstTier(min_certainty=0.99, min_scope=0.9, n_served=1, errors=0, max_share=0.5)
    sha256 = Specialist.load(learnt.folder, encoder).sha256
    proven = certificate(artefact_sha256=sha256, min_certainty=0.8, min_scope=0.5, first=first)
    runtime, built = find_web_runtime(None, PACKAGES), built_encoder(tmp_path / "cache", weights)
    folder = export(learnt.folder, built, proven, tmp_path / "out", web_runtime=runtime).folder
    with browsing(folder, tmp_path / "profile") as heard:
        assert heard.get("error") is None
    said, expected = heard["said"], in_python(folder)
    labels = [[it.get("answer", it.get("guess")) for it in found] for found in (said, expected)]
    assert labels[0] == labels[1]
    assert [it["tier"] for it in said] == [it["tier"] for it in expected]
    assert {it["tier"] for it in said} == {1, 2}
    for score in ("certainty", "scope"):
        assert [it[score] for it in said] == pytest.approx([it[score] for it in expected], abs=TOLERANCE)
    assert json.loads(heard["shown"].splitlines()[0])["intent"] == "refund"
    assert {path for path in heard["asked"] if path not in ("/drive", "/texts", "/told", "/favicon.ico")} == {
        f"/{name}" for name in ("index.html", "specialist.js", "ort.wasm.min.mjs", "setup.json", "model.safetensors",
        "tokenizer.json", "encoder.onnx", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
    }  # fmt: skip
