"""Makes the pictures of docs/pages.md: the web pages over a made-up month, in the system's Chromium.

    python benchmarks/gateway/screenshots.py [--rows 20000] [--folder docs]

It measures nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from filled import TASKS, fill

from pilotfish.config.settings import LargeSettings, LearningSettings, QualitySettings, ServerSettings, Settings
from pilotfish.core.key import ADMIN_PREFIX, new_secret
from pilotfish.gateway.new_tasks import FOLDER, NewTask
from pilotfish.gateway.serve import serving
from pilotfish.models.scripted import ScriptedModel, Step
from pilotfish.store.build import open_keys

# Without a stream of events: the browser would wait for its end.
PICTURES = {
    "overview": ("/?days=7", 1180),
    "task": ("/tasks/" + TASKS[0], 900),
    "request": ("/requests/ID", 1000),
    "new": ("/new/" + "0" * 16, 1100),
}
WIDTH = 1000
ASKED = "You charged my card two times for one bag of beans. Please give one back."
EXAMPLES = Path(__file__).parents[2] / "examples" / "support_desk"


def learn(home: Path) -> None:
    """A new task of the bundled examples, learnt for real by n-grams alone, as the gateway keeps it."""
    found = sorted(EXAMPLES.glob("*.jsonl"))
    command = [
        sys.executable,
        "-m",
        "pilotfish",
        "distil",
        "--max-risk",
        "0.05",
        "--home",
        str(home),
        "--encoder",
        "none",
    ]
    command += ["--progress-json", *(word for file in found for word in ("--on", str(file)))]
    done = subprocess.run(command, check=False, capture_output=True, timeout=300)
    n_examples = sum(len(file.read_bytes().splitlines()) for file in found)
    task = NewTask(id="0" * 16, made_s=time.time(), file="support-desk.jsonl", instructions="", state="done",
                   n_examples=n_examples, told=json.loads(done.stdout.splitlines()[-1]))  # fmt: skip
    folder = home / FOLDER / task.id
    folder.mkdir(parents=True)
    (folder / "about.json").write_bytes(msgspec.json.encode(task))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=Path("docs"))
    options = parser.parse_args()
    chromium = (
        shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("skipped: no chromium is installed")
    )
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        shown = fill(home, options.rows)
        learn(home)
        settings = Settings(
            home=str(home),
            server=ServerSettings(port=0),
            large=LargeSettings(model="large-model", input_usd_per_mtok=0.3, output_usd_per_mtok=1.2),
            quality=QualitySettings(max_risk=0.05),
            learning=LearningSettings(first_after=10_000_000, encoder="none"),
        )
        large = ScriptedModel([Step("charged_twice", delay_s=0.4)], name="large-model")
        with serving(settings, reference=large) as port:
            for name, (path, height) in PICTURES.items():
                url = f"http://127.0.0.1:{port}{path.replace('ID', shown)}"
                take(chromium, url, options.folder / f"pages-{name}.png", height)
        key = make_admin(home)
        with serving(settings, reference=large) as port:
            page = Path(folder) / "bench.html"
            page.write_bytes(asked_on_the_bench(f"http://127.0.0.1:{port}", key))
            take(chromium, page.as_uri(), options.folder / "pages-bench.png", 760)


def take(chromium: str, url: str, file: Path, height: int) -> None:
    """The picture of a page."""
    subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--window-size={WIDTH},{height}", f"--screenshot={file.absolute()}", url,
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


def make_admin(home: Path) -> str:
    """A new admin key of the home."""
    secret = new_secret(ADMIN_PREFIX)
    with closing(open_keys(home)) as keys:
        keys.set_admin(sha256(secret.encode()).hexdigest())
    return secret


def asked_on_the_bench(start: str, key: str) -> bytes:
    """The page after a click on the bench, by somebody who has signed in, with its looks in it: a picture is taken of a
    file, since the browser has no session, and other places may not use the gateway's own."""
    opener = build_opener(HTTPCookieProcessor())

    def send(path: str, **fields: str) -> str:
        with opener.open(f"{start}{path}", urlencode(fields).encode(), timeout=30) as reply:
            return reply.read().decode()

    token = re.search(r'name="csrf" value="(\w+)"', send("/login", key=key, next="/bench"))
    assert token is not None
    [first, *_] = next(iter(sorted(EXAMPLES.glob("*.jsonl")))).read_text("utf-8").splitlines()
    system = json.loads(first)["messages"][0]["content"]
    page = send("/bench", csrf=token[1], system=system, text=ASKED, **{"use:large-model": "on"})
    style = (files("pilotfish.gateway.site") / "static" / "site.css").read_text("utf-8")
    return page.replace("</head>", f"<style>{style}</style></head>", 1).encode()


if __name__ == "__main__":
    main()
