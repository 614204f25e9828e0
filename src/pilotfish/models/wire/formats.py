"""Every wire format that the gateway speaks, and the one a request is answered in."""

from __future__ import annotations

from pilotfish.core.messages import ChatRequest
from pilotfish.models.wire.chat import CHAT
from pilotfish.models.wire.completions import COMPLETIONS
from pilotfish.models.wire.embeddings import EMBEDDINGS
from pilotfish.models.wire.format import ClientRequest, Format
from pilotfish.models.wire.messages import COUNT_TOKENS, MESSAGES
from pilotfish.models.wire.responses import RESPONSES

FORMATS: tuple[Format, ...] = (CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS, MESSAGES, COUNT_TOKENS)


def format_of(request: ChatRequest) -> Format:
    """The format `request` came in; one that was made in process is a chat request."""
    return request.format if isinstance(request, ClientRequest) else CHAT
