"""Settings to models: the one place where a key is read from the environment.

The key goes from here into the model's own headers and nowhere else: it stands in no settings, no log row and no
message of an error.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pilotfish.config.settings import LargeSettings
from pilotfish.core.errors import ConfigError
from pilotfish.models.base import Dialect, Model
from pilotfish.models.http import HttpModel


def large_model(settings: LargeSettings, environment: Mapping[str, str] | None = None) -> Model:
    """The reference model. Raises `ConfigError` where its address or name is missing."""
    if not settings.url:
        raise ConfigError(
            "No large model is configured.",
            hint="Give its base URL with --large URL, PILOTFISH_LARGE_URL or [large] url.",
        )
    if not settings.model:
        raise ConfigError(
            "The large model has no name.", hint="Give it with --model NAME, PILOTFISH_LARGE_MODEL or [large] model."
        )
    values = os.environ if environment is None else environment
    return HttpModel(
        url=settings.url,
        name=settings.model,
        dialect=Dialect(family=settings.family, has_responses=settings.responses, max_tokens=settings.max_tokens),
        key=values.get(settings.key_env, "").strip(),
        timeout_s=settings.timeout_s,
        connect_timeout_s=settings.connect_timeout_s,
        price=settings.price,
        is_local=settings.local,
    )
