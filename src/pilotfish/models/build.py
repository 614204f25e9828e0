"""Settings to models: the one place where a key is read from the environment.

The key goes from here into the model's own headers and nowhere else: it stands in no settings, no log row and no
message of an error.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from pilotfish.config.settings import EndpointSettings, LargeSettings, ModelSettings, Settings
from pilotfish.core.errors import ConfigError
from pilotfish.models.base import Dialect, Model, ModelCard
from pilotfish.models.exchange import Limits
from pilotfish.models.failover import FailoverModel
from pilotfish.models.http import HttpModel


def large_model(settings: LargeSettings, environment: Mapping[str, str] | None = None) -> Model:
    """The reference model. Raises `ConfigError` where its address or name is missing."""
    if not (settings.url or settings.weights):
        raise ConfigError(
            "No large model is configured.",
            hint="Give its base URL with --large URL, PILOTFISH_LARGE_URL or [large] url.",
        )
    if not settings.model:
        raise ConfigError(
            "The large model has no name.", hint="Give it with --model NAME, PILOTFISH_LARGE_MODEL or [large] model."
        )
    return configured_model(settings.model, settings, client_url=settings.url, environment=environment)


def further_models(settings: Settings) -> dict[str, Model]:
    """The models of [models.NAME] by name. Raises `ConfigError` where a URL or a key cannot be used."""
    client_url = settings.large.url
    return {name: configured_model(name, it, client_url=client_url) for name, it in settings.models.items()}


def configured_model(
    name: str, settings: ModelSettings, *, client_url: str, environment: Mapping[str, str] | None = None
) -> Model:
    """The model that clients call `name`, with all its servers; without a `model` of its own it is asked by `name`.

    `client_url` is the address that the clients' own keys are meant for: no other host is ever sent one. Raises
    `ConfigError` where a URL or a key cannot be used.
    """
    if settings.weights:
        return _local_model(name, settings)
    values = os.environ if environment is None else environment
    limits = Limits(
        connect_timeout_s=settings.connect_timeout_s,
        stream_idle_s=settings.stream_idle_s,
        max_answer_bytes=int(settings.max_answer_mb * 1e6),
    )

    dialect = Dialect(family=settings.family, has_responses=settings.responses, max_tokens=settings.max_tokens)

    def server(endpoint: EndpointSettings) -> HttpModel:
        key_env = settings.key_env if endpoint.key_env is None else endpoint.key_env
        return HttpModel(
            url=endpoint.url,
            name=settings.model or name,
            dialect=dialect,
            key=values.get(key_env, "").strip(),
            timeout_s=settings.timeout_s,
            limits=limits,
            takes_client_keys=_origin(endpoint.url) == _origin(client_url),
        )

    return FailoverModel(
        [server(EndpointSettings(url=settings.url)), *map(server, settings.endpoints)],
        card=ModelCard(name=name, price=settings.price, is_local=settings.local),
        timeout_s=settings.timeout_s,
        retry_wait_s=settings.retry_wait_s,
    )


def _local_model(name: str, settings: ModelSettings) -> Model:
    """Weights in this process. Imported here, so that nobody needs their libraries who asks servers."""
    if settings.weights.endswith(".gguf"):
        gguf = importlib.import_module("pilotfish.models.local_gguf")
        opened: Model = gguf.LocalGguf(
            Path(settings.weights), name=name, task=settings.task, max_tokens=settings.max_tokens, price=settings.price
        )
        return opened
    if settings.task == "generate":
        weights = importlib.import_module("pilotfish.models.local_weights")
        made: Model = weights.LocalWeights(
            settings.weights, name=name, max_tokens=settings.max_tokens, price=settings.price
        )
        return made
    tasks = importlib.import_module("pilotfish.models.local_tasks")
    found: Model = tasks.TASKS[settings.task](settings.weights, name=name, price=settings.price)
    return found


def _origin(url: str) -> tuple[str, str]:
    """Scheme, and host with its port; what cannot be split is refused where a connection is to be made to it."""
    scheme, _, rest = url.partition("://")
    return scheme, re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2].lower()
