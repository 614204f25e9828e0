"""The names that clients may use for a model: which are ours, which are configured, and which cannot be.

A name that means two things, or nothing, is refused when the settings are read: a request must never go to another
model than the one its name promises. Tasks get their names later, from what is learnt; here they stand behind a prefix.
"""

from __future__ import annotations

from pilotfish.config.settings import WHEN_SPENT, Settings
from pilotfish.core.errors import ConfigError

OWN_NAMES = frozenset(("", "auto", "pilotfish"))
"""Names by which a client leaves the choice to Pilotfish."""

TASK_PREFIX = "pilotfish/"
"""What stands before a task's name in the `model` of its answers, and may in that of a request."""

SPECIALIST = "specialist"
"""`[large] degraded`: the task's own specialist."""


def check_names(settings: Settings) -> None:
    """Raise a `ConfigError` that names the first key of [models], [aliases], [routing] or `degraded` that cannot be
    used."""
    for name, model in settings.models.items():
        _check_name(f"[models.{name}]", name)
        if name == settings.large.model:
            raise ConfigError(f"[models.{name}] has the name of the large model.", hint="[large] describes that one.")
        if not (model.url or model.weights):
            raise ConfigError(
                f"[models.{name}] url is missing.",
                hint="It is a base URL, up to and including /v1; or give weights, which run in this process.",
            )
    for name, target in settings.aliases.items():
        _check_name(f"[aliases] {name}", name)
        if name in settings.models or name == settings.large.model:
            raise ConfigError(f"[aliases] {name} is the name of a configured model already.")
        if not _is_target(settings, target):
            raise ConfigError(
                f"[aliases] {name} stands for {target!r}, which is no name here.",
                hint=f"Use auto, a configured model's name, or a task as {TASK_PREFIX}NAME.",
            )
    degraded = settings.large.degraded
    if degraded not in ("", SPECIALIST, *settings.models):
        raise ConfigError(
            f"[large] degraded names {degraded!r}, which is not configured.",
            hint=f"Use the NAME of a [models.NAME] table, or {SPECIALIST}.",
        )
    _check_routing(settings)


def _check_routing(settings: Settings) -> None:
    routing = settings.routing
    unknown = [name for name in routing.models if name not in settings.models]
    if unknown or len(set(routing.models)) < len(routing.models):
        raise ConfigError(
            f"[routing] models must be different names of [models], but is {list(routing.models)!r}.",
            hint="The large model is not among them: it comes last by itself.",
        )
    for key, name in (("judge", routing.judge), ("verifier", routing.verifier)):
        if name and name not in (*settings.models, settings.large.model):
            raise ConfigError(f"[routing] {key} names {name!r}, which is not configured.")
    if routing.collect and routing.collect_usd_per_day is None:
        raise ConfigError("[routing] collect asks further models.", hint="Set collect_usd_per_day beside it.")
    if (routing.collect or routing.margin is not None) and not routing.models:
        raise ConfigError("[routing] models is missing: which smaller models may be tried?")
    if routing.when_spent not in WHEN_SPENT:
        raise ConfigError(f"[routing] when_spent must be one of {', '.join(WHEN_SPENT)}, not {routing.when_spent!r}.")
    if routing.usd_per_day is not None:
        asked = {settings.large.model: settings.large, **{name: settings.models[name] for name in routing.models}}
        for name in filter(None, (routing.judge, routing.verifier)):
            asked[name] = settings.models.get(name, settings.large)
        unpriced = [name for name, model in asked.items() if model.price is None]
        if unpriced:
            raise ConfigError(
                f"[routing] usd_per_day needs the price of {unpriced[0]!r}.",
                hint="State input_usd_per_mtok and output_usd_per_mtok, 0 where it costs nothing.",
            )


def _check_name(place: str, name: str) -> None:
    if not name or name != name.strip() or not (name.isascii() and name.isprintable()):
        raise ConfigError(f"{place} must have a name of printable ASCII characters, without spaces around it.")
    if name in OWN_NAMES or name == SPECIALIST or name.startswith(TASK_PREFIX):
        raise ConfigError(f"{place} has a name that Pilotfish keeps for itself.")


def _is_target(settings: Settings, target: str) -> bool:
    if target in settings.models or (target in OWN_NAMES and target):
        return True
    is_task = target.startswith(TASK_PREFIX) and len(target) > len(TASK_PREFIX)
    return is_task or bool(target and target == settings.large.model)
