"""Pilotfish: every request goes to the smallest model that is good enough, with proof.

The public names, loaded when first used so that `import pilotfish` stays light. Code inside the
package never imports from here.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Answer": "pilotfish.core.messages",
    "Certificate": "pilotfish.core.certificate",
    "ChatRequest": "pilotfish.core.messages",
    "Claim": "pilotfish.core.certificate",
    "Encoder": "pilotfish.specialists.encoder",
    "Exchange": "pilotfish.store.traffic",
    "Message": "pilotfish.core.messages",
    "ModelError": "pilotfish.core.errors",
    "Options": "pilotfish.replay.backtest",
    "PilotfishError": "pilotfish.core.errors",
    "Price": "pilotfish.core.messages",
    "RecordedModel": "pilotfish.models.recording",
    "Refusal": "pilotfish.core.certificate",
    "ScriptedModel": "pilotfish.models.scripted",
    "ServerSettings": "pilotfish.config.settings",
    "Settings": "pilotfish.config.settings",
    "Specialist": "pilotfish.specialists.specialist",
    "Step": "pilotfish.models.scripted",
    "Traffic": "pilotfish.store.traffic",
    "__version__": "pilotfish.core.version",
    "backtest": "pilotfish.replay.backtest",
    "open_encoder": "pilotfish.students.encoder_cache",
    "read_traffic": "pilotfish.store.traffic",
    "serving": "pilotfish.gateway.serve",
    "verify": "pilotfish.guarantees.verify",
}

__all__ = [*_HOMES]  # noqa: PLE0604 - the names stand in the table above


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public object
    if name not in _HOMES:
        raise AttributeError(f"module 'pilotfish' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
