"""From a configuration to an architecture, by its `model_type`.

A family that is not in the tables is unknown, which is an answer (None) and no error: guessing its shape from sizes
that look familiar would give a wrong number that looks like a right one.
"""

from __future__ import annotations

from dataclasses import replace

from pilotfish.sizing.architecture import Architecture
from pilotfish.sizing.decoders import DECODERS
from pilotfish.sizing.encoder_decoders import ENCODER_DECODERS
from pilotfish.sizing.encoders import ENCODERS
from pilotfish.sizing.mixtures import MIXTURES
from pilotfish.sizing.reading import Config
from pilotfish.sizing.skeleton import build
from pilotfish.sizing.sparse_encoders import SPARSE_ENCODERS

_WHOLE = {**ENCODERS, **SPARSE_ENCODERS, **ENCODER_DECODERS}

KNOWN = tuple(sorted([*DECODERS, *MIXTURES, *_WHOLE]))
"""The model types whose parameters are counted exactly."""


def architecture(config: Config) -> Architecture | None:
    """The architecture, or None where the family is unknown. Raises `UserError` where a known family's sizes are
    missing or absurd."""
    kind = config.model_type
    whole = _WHOLE.get(kind)
    if whole is not None:
        return whole(config)
    options = DECODERS.get(kind) or MIXTURES.get(kind)
    if options is not None:
        return build(options(config))
    return _text_part(config)


def _text_part(config: Config) -> Architecture | None:
    """The language model inside a model of several modalities, named as such."""
    inner = config.part("text_config")
    found = architecture(inner) if inner is not None and inner.model_type != config.model_type else None
    if found is None:
        return None
    return replace(
        found, notes=(*found.notes, f"the text part of a {config.model_type} model; the rest is not counted")
    )
