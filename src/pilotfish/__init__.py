"""Pilotfish: every request goes to the smallest model that is good enough, with proof.

The public names, loaded when first used so that `import pilotfish` stays light. Code inside the
package never imports from here.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "__version__": "pilotfish.core.version",
    "Answer": "pilotfish.core.messages",
    "Certificate": "pilotfish.core.certificate",
    "ChatRequest": "pilotfish.core.messages",
    "Claim": "pilotfish.core.certificate",
    "Encoder": "pilotfish.specialists.encoder",
    "PilotfishError": "pilotfish.core.errors",
    "RecordedModel": "pilotfish.models.recording",
    "Refusal": "pilotfish.core.certificate",
    "ScriptedModel": "pilotfish.models.scripted",
    "Settings": "pilotfish.config.settings",
    "Specialist": "pilotfish.specialists.specialist",
    "backtest": "pilotfish.replay.backtest",
    "read_traffic": "pilotfish.store.traffic",
    "verify": "pilotfish.guarantees.verify",
}

__all__ = [*_HOMES]  # noqa: PLE0604 - the names stand in the table above


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public object
    if name not in _HOMES:
        raise AttributeError(f"module 'pilotfish' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
