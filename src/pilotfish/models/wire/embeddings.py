"""OpenAI's embeddings: bytes to nouns and back. A request for them belongs to no task."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pilotfish.core.errors import RequestError
from pilotfish.core.messages import Answer
from pilotfish.models.wire.chat import TokenCounts
from pilotfish.models.wire.format import ClientRequest, Format, encode, read_answer

MAX_TEXTS = 2048
"""In one request, as with OpenAI."""


class _Request(msgspec.Struct):
    input: Any = None
    model: str | None = None
    encoding_format: Any = None
    dimensions: Any = None


class _Reply(msgspec.Struct):
    data: list[Any]
    model: str | None = None
    usage: TokenCounts | None = None


_requests = msgspec.json.Decoder(_Request)
_replies = msgspec.json.Decoder(_Reply)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextsToEmbed:
    """What the shared encoder is asked: texts, and whether their vectors are wanted as base64."""

    texts: list[str]
    is_base64: bool


class Embeddings(Format):
    """`/embeddings`."""

    noun = "embeddings request"
    path = "/embeddings"
    is_text = False

    def decode_request(self, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> ClientRequest:
        """See `Format`."""
        request = self._read(_requests, body)
        return ClientRequest(format=self, messages=[], model=request.model or "", raw=body, headers=headers)

    def decode_answer(
        self, body: bytes, *, model: str, headers: tuple[tuple[str, str], ...] = (), latency_s: float = 0.0
    ) -> Answer:
        """Usage and bytes; the vectors are not read."""
        reply = read_answer(_replies, body, model=model, noun="list of embeddings")
        return Answer(
            text=None,
            model=reply.model or model,
            body=body,
            usage=reply.usage.to_usage() if reply.usage is not None else None,
            finish_reason="",
            headers=headers,
            latency_s=latency_s,
        )


EMBEDDINGS = Embeddings()


def texts_to_embed(raw: bytes, dimension: int) -> TextsToEmbed:
    """What a request asks of an encoder of `dimension`. Raises `RequestError` naming what it cannot honour."""
    request = _requests.decode(raw)
    if request.dimensions not in (None, dimension):
        raise RequestError(
            f"dimensions is {request.dimensions!r}, but the local encoder has {dimension} and cannot shorten them.",
            param="dimensions",
        )
    if request.encoding_format not in (None, "float", "base64"):
        raise RequestError(
            f"encoding_format must be 'float' or 'base64', but is {request.encoding_format!r}.",
            param="encoding_format",
        )
    texts = [request.input] if isinstance(request.input, str) else request.input
    if not isinstance(texts, list) or not texts or len(texts) > MAX_TEXTS:
        raise RequestError(f"input must be a text or a list of 1 to {MAX_TEXTS} texts.", param="input")
    if not all(isinstance(text, str) for text in texts):
        raise RequestError(
            "input must hold texts: the tokens of another model mean nothing to the local encoder.", param="input"
        )
    if not all(texts):
        raise RequestError("input must hold no empty text.", param="input")
    return TextsToEmbed(texts=texts, is_base64=request.encoding_format == "base64")


def encode_embeddings(vectors: Sequence[bytes], asked: TextsToEmbed, *, model: str, n_tokens: int) -> bytes:
    """The reply that holds `vectors`, each as little-endian float32. Base64 carries those very bytes."""
    values = [base64.b64encode(vector).decode() if asked.is_base64 else list(array("f", vector)) for vector in vectors]
    rows = [{"object": "embedding", "index": index, "embedding": value} for index, value in enumerate(values)]
    usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
    return encode({"object": "list", "data": rows, "model": model, "usage": usage})
