"""The lists of models that a gateway offers, in each family's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pilotfish.core.messages import Family
from pilotfish.models.wire.format import encode


def encode_list(names: Sequence[str], family: Family) -> bytes:
    """All models, in one page."""
    rows = [_row(name, family) for name in names]
    if family == "anthropic":
        return encode({"data": rows, "has_more": False, "first_id": names[0], "last_id": names[-1]})
    return encode({"object": "list", "data": rows})


def encode_one(name: str, family: Family) -> bytes:
    """One model."""
    return encode(_row(name, family))


def _row(name: str, family: Family) -> dict[str, Any]:
    """A model. When it was made is not known, which both families write as the beginning of time."""
    if family == "anthropic":
        return {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
    return {"id": name, "object": "model", "created": 0, "owned_by": "pilotfish"}
