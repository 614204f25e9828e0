"""Makes the pictures of docs/pages.md: the web pages over a made-up month, in the system's Chromium.

    python benchmarks/gateway/screenshots.py [--rows 20000] [--folder docs]

It measures nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from filled import TASKS, fill

from pilotfish.config.settings import LargeSettings, LearningSettings, QualitySettings, ServerSettings, Settings
from pilotfish.gateway.new_tasks import FOLDER, NewTask
from pilotfish.gateway.serve import serving
from pilotfish.models.scripted import ScriptedModel

# Without a stream of events: the browser would wait for its end.
PICTURES = {
    "overview": ("/?days=7", 1180),
    "task": ("/tasks/" + TASKS[0], 900),
    "request": ("/requests/ID", 1000),
    "new": ("/new/" + "0" * 16, 1100),
}
WIDTH = 1000
EXAMPLES = Path(__file__).parents[2] / "examples" / "support_desk"


def learn(home: Path) -> None:
    """A new task of the bundled examples, learnt for real by n-grams alone, as the gateway keeps it."""
    files = sorted(EXAMPLES.glob("*.jsonl"))
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
    command += ["--progress-json", *(word for file in files for word in ("--on", str(file)))]
    done = subprocess.run(command, check=False, capture_output=True, timeout=300)
    n_examples = sum(len(file.read_bytes().splitlines()) for file in files)
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
        with serving(settings, reference=ScriptedModel(["refund"], name="large-model")) as port:
            for name, (path, height) in PICTURES.items():
                file = options.folder / f"pages-{name}.png"
                url = f"http://127.0.0.1:{port}{path.replace('ID', shown)}"
                subprocess.run(
                    [
                        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                        f"--window-size={WIDTH},{height}", f"--screenshot={file.absolute()}", url,
                    ],
                    check=True, capture_output=True, timeout=120,
                )  # fmt: skip
                print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
