"""What the model name of a request means: our choice, a task, a configured model, or another of the same server.

An alias stands for its target. A task is known by its name, its id, or `pilotfish/NAME`, as its answers are signed; a
request that names one must carry its instructions, since nobody could answer it without them. An unknown name is
passed on to the reference's server as long as that is the only one; beside [models] it is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pilotfish.config.catalogue import OWN_NAMES, TASK_PREFIX
from pilotfish.core.errors import RequestError, UnknownModelError
from pilotfish.core.messages import Price
from pilotfish.gateway.live_tasks import LiveTasks
from pilotfish.models.base import Model
from pilotfish.models.failover import FailoverModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a name means. `model` is what the receipt calls it, `sent` what the request names on its way, empty
    where the model fills in its own. `task_id` is the only task the request may be of.
    """

    target: Model
    model: str
    sent: str = ""
    is_own: bool = False
    task_id: str = ""
    price: Price | None = None


class Names:
    """The names of one gateway."""

    def __init__(
        self,
        *,
        reference: Model,
        models: Mapping[str, Model],
        aliases: Mapping[str, str],
        tasks: LiveTasks,
    ) -> None:
        """`models` are the configured ones by name."""
        self._reference = reference
        self._aliases = aliases
        self._tasks = tasks
        self._is_only = not models
        name, price = reference.card.name, reference.card.price
        self._own = Named(target=reference, model=name, is_own=True, price=price)
        self._fixed = dict.fromkeys(OWN_NAMES, self._own)
        self._fixed[name] = Named(target=reference, model=name, sent=name, is_own=True, price=price)
        for name, model in models.items():
            self._fixed[name] = Named(target=model, model=name, price=model.card.price)

    @property
    def own(self) -> Named:
        """Our choice."""
        return self._own

    @property
    def models(self) -> dict[str, Model]:
        """Every configured model by its name, the reference first."""
        models = [self._reference, *(found.target for found in self._fixed.values() if not found.is_own)]
        return {model.card.name: model for model in models}

    def kept_here(self, named: Named) -> Named:
        """The same for a request that must stay here: a configured local model in place of one that is not."""
        if named.target.card.is_local:
            return named
        models = (found.target for found in self._fixed.values() if not found.is_own)
        local = next((model for model in models if model.card.is_local), None)
        if local is None:
            return named
        return dataclasses.replace(named, target=local, model=local.card.name, sent="", price=local.card.price)

    def resolve(self, name: str) -> Named:
        """What `name` means. Raises `UnknownModelError` (404) where it means nothing."""
        found = self._fixed.get(name)
        if found is not None:
            return found
        target = self._aliases.get(name)
        found = self._task(name) if target is None else self._resolve_alias(target)
        if found is not None:
            return found
        if self._is_only and target is None and not name.startswith(TASK_PREFIX):
            return Named(target=self._reference, model=name, sent=name)
        raise UnknownModelError(f"The model {name!r} is not known here.", hint="GET /v1/models lists the names.")

    def listed(self) -> list[str]:
        """Every name a client may use, in the order of `/v1/models`."""
        tasks = [f"{TASK_PREFIX}{live.record.name}" for live in self._tasks.all()]
        fixed = [name for name, found in self._fixed.items() if not found.is_own]
        return list(dict.fromkeys([self._reference.card.name, "auto", *fixed, *self._aliases, *tasks]))

    def states(self) -> dict[str, list[dict[str, Any]]]:
        """The servers of every model that has some, with their circuit breakers, for the status page."""
        return {name: model.state for name, model in self.models.items() if isinstance(model, FailoverModel)}

    def _resolve_alias(self, target: str) -> Named | None:
        found = self._fixed.get(target)
        if found is None:
            return self._task(target)
        # The alias is no name of the server's.
        return self._own if found.is_own else found

    def _task(self, name: str) -> Named | None:
        live = self._tasks.find(name.removeprefix(TASK_PREFIX))
        return None if live is None else dataclasses.replace(self._own, task_id=live.record.task_id)


def check_task(named: Named, task_id: str) -> None:
    """Raise `RequestError` (400) where a request names a task and is of another, or of none."""
    if named.task_id and named.task_id != task_id:
        raise RequestError(
            "The request names a task, but does not carry its instructions.",
            hint="Send the messages the task was learnt from, or use the model 'auto'.",
        )
