"""Who answers while the reference is down, where the user allowed it: a configured model, or the task's specialist.

Such an answer promises nothing: its receipt says `degraded`, it stands under no certificate, and its row can neither
teach nor certify. A tool loop, or a conversation that a model has begun, stays with the model that is down.
"""

from __future__ import annotations

from collections.abc import Mapping

from pilotfish.config.catalogue import SPECIALIST
from pilotfish.core.errors import (
    ModelConnectionError,
    ModelDownError,
    ModelStatusError,
    ModelTimeoutError,
    PilotfishError,
)
from pilotfish.core.task import NO_PAST_ANSWER
from pilotfish.gateway.rows import Turn
from pilotfish.models.base import Model
from pilotfish.routing.cascade import Prediction


class Degraded:
    """The user's choice, applied to one failed request at a time."""

    def __init__(self, choice: str, models: Mapping[str, Model]) -> None:
        """`choice` is `[large] degraded`: empty for nobody, `specialist`, or a name among `models`."""
        self._is_specialist = choice == SPECIALIST
        self._model = models.get(choice)

    def model(self, turn: Turn, error: PilotfishError) -> Model | None:
        """The model that may answer instead, None where none may."""
        if self._model is None or not self._may_replace(turn, error):
            return None
        return self._model if self._model.card.is_local or not turn.privacy.is_local_only else None

    def prediction(self, turn: Turn, error: PilotfishError) -> Prediction | None:
        """What the task's certified specialist said and would have deferred as uncertain, None where it may not."""
        said = turn.decision.prediction
        is_allowed = self._is_specialist and turn.mode == "serve" and turn.decision.reason == "uncertain"
        # Of past answers none may suit.
        is_answer = said is not None and said.values != (NO_PAST_ANSWER,)
        return said if is_allowed and is_answer and self._may_replace(turn, error) else None

    def _may_replace(self, turn: Turn, error: PilotfishError) -> bool:
        if turn.decision.reason in ("other-model", "tool-loop") or not is_down(error):
            return False
        # A task that is known was learnt with the turns it carries: they are its examples, not a conversation.
        return turn.live is not None or not turn.request.has_begun


def is_down(error: PilotfishError) -> bool:
    """Whether the error says that the model answers nobody right now; a rate limit or a bad answer does not say so."""
    if isinstance(error, ModelStatusError):
        return error.status >= 500
    return isinstance(error, ModelConnectionError | ModelTimeoutError | ModelDownError)
