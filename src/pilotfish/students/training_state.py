"""The state of a training run on disk: weights, AdamW's moments, random numbers, and where it stands.

Tensors as safetensors, the rest as JSON; no pickle, which is why torch's own format is not used. A state is written
beside the last one and takes its place in one rename, so whatever ends the process leaves a whole one.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pilotfish.core.errors import ConfigError, MissingExtraError

try:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file
except ImportError as error:
    raise MissingExtraError("train", error.name or "torch") from error

_FILE = "progress.json"


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a run is: the next step, held-out losses by epoch (the first before training), the best epoch so far."""

    run: str
    step: int = 0
    losses: list[float]
    best_epoch: int = 0
    is_done: bool = False


class States:
    """The states of one run below `folder`: the last one, and the weights of its best epoch."""

    def __init__(self, folder: Path, run: str) -> None:
        self._folder, self.run = folder, run

    def load(self, trained: dict[str, Any], optimizer: Any) -> Progress | None:  # noqa: ANN401 - torch's
        """Put the last state in place; None where there is none.

        Raises `ConfigError` where it is that of another run, or cannot be read.
        """
        last = self._folder / "last"
        if not last.is_dir() and (self._folder / "previous").is_dir():
            last = self._folder / "previous"  # the process ended between the two renames
        if not last.is_dir():
            return None
        try:
            found = Progress(**json.loads((last / _FILE).read_text("utf-8")))
            if found.run != self.run:
                raise ConfigError(
                    f"{str(self._folder)!r} holds an unfinished run with another model, data or recipe.",
                    hint="Repeat the command as it was, name another folder with --to, or delete this one.",
                )
            _fill(trained, load_file(last / "weights.safetensors"))
            _fill_moments(trained, optimizer, load_file(last / "optimizer.safetensors"))
            random = load_file(last / "random.safetensors")
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise ConfigError(f"The state in {str(last)!r} cannot be read: {error}", hint="Delete it.") from error
        torch.set_rng_state(random["cpu"])
        if "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"])
        return found

    def save(self, progress: Progress, trained: dict[str, Any], optimizer: Any) -> None:  # noqa: ANN401 - torch's
        """Write the state in place of the last one."""
        new, last, previous = (self._folder / name for name in ("new", "last", "previous"))
        for folder in (new, previous):
            shutil.rmtree(folder, ignore_errors=True)
        new.mkdir(parents=True)
        save_file(_copied(trained), new / "weights.safetensors")
        save_file(_moments(trained, optimizer), new / "optimizer.safetensors")
        random = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            random["cuda"] = torch.cuda.get_rng_state()
        save_file(random, new / "random.safetensors")
        (new / _FILE).write_text(json.dumps(asdict(progress)), "utf-8")
        if last.is_dir():
            last.rename(previous)
        new.rename(last)
        shutil.rmtree(previous, ignore_errors=True)
        for path in self._folder.glob("best-*.safetensors"):
            if path.name != _best(progress.best_epoch):
                path.unlink()

    def save_best(self, trained: dict[str, Any], epoch: int) -> None:
        """Keep these weights as those of the best epoch."""
        self._folder.mkdir(parents=True, exist_ok=True)
        new = self._folder / "best-new.safetensors"
        save_file(_copied(trained), new)
        new.rename(self._folder / _best(epoch))

    def load_best(self, trained: dict[str, Any], epoch: int) -> None:
        """Put the weights of the best epoch in place."""
        _fill(trained, load_file(self._folder / _best(epoch)))


def _best(epoch: int) -> str:
    return f"best-{epoch}.safetensors"


def _copied(trained: dict[str, Any]) -> dict[str, Any]:
    return {name: value.detach().cpu().contiguous() for name, value in trained.items()}


def _fill(trained: dict[str, Any], values: dict[str, Any]) -> None:
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(values[name])


def _moments(trained: dict[str, Any], optimizer: Any) -> dict[str, Any]:  # noqa: ANN401
    found = {}
    for name, parameter in trained.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            found[f"{key}/{name}"] = value.detach().cpu().contiguous()
    return found


def _fill_moments(trained: dict[str, Any], optimizer: Any, values: dict[str, Any]) -> None:  # noqa: ANN401
    for name, parameter in trained.items():
        for key in ("step", "exp_avg", "exp_avg_sq"):
            if (value := values.get(f"{key}/{name}")) is not None:
                # torch counts steps on the CPU.
                place = "cpu" if key == "step" else parameter.device
                optimizer.state[parameter][key] = value.to(place)
