"""The configuration of a model on the Hugging Face hub, by id; kept, so that what was seen once is there offline.

Only `config.json` and `tokenizer_config.json` are fetched, never weights, and only when they are not in the cache
folder yet. `huggingface_hub` does the talking (the `hub` extra), with its own settings (`HF_ENDPOINT`, `HF_TOKEN`).
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path

from pilotfish.core.errors import MissingExtraError, UserError

FILES = ("config.json", "tokenizer_config.json")
_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}")


def is_id(name: str) -> bool:
    """Whether the name has the form of a hub id, ORGANISATION/NAME."""
    return _ID.fullmatch(name) is not None and ".." not in name


def folder(cache: Path, name: str) -> Path:
    """Where the files of a hub id are kept."""
    return cache / "hub" / name.replace("/", "--")


def fetch(cache: Path, name: str) -> Path:
    """The folder with the model's `config.json`, fetched at the first call.

    Raises `MissingExtraError` without huggingface_hub, `UserError` where the hub cannot be reached or has no such file.
    """
    kept = folder(cache, name)
    if (kept / FILES[0]).is_file():
        return kept
    try:
        from huggingface_hub import hf_hub_download  # noqa: PLC0415  (0.3 s, and only for what was never seen)
        from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("hub", "huggingface_hub") from error
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".fetching-") as temporary:
        try:
            hf_hub_download(name, FILES[0], local_dir=temporary)
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise UserError(
                f"The hub did not give {FILES[0]} of {name!r}: {_first_line(error)}",
                hint="Check the id and the network (HF_HUB_OFFLINE forbids it), or give a local config.json.",
            ) from error
        # Not every model has the second, and it only tells the kind of the tokenizer.
        with contextlib.suppress(HfHubHTTPError, OSError, ValueError):
            hf_hub_download(name, FILES[1], local_dir=temporary)
        kept.mkdir(exist_ok=True)
        for file in reversed(FILES):  # config.json last: it says that the folder is complete
            if (Path(temporary) / file).is_file():
                (Path(temporary) / file).replace(kept / file)
    return kept


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".") + "."
