"""Every error Pilotfish raises, as one tree. The first fork is who must act.

    PilotfishError
    ├── UserError                 your input or settings; exit code 2
    │   ├── ConfigError           a key, value or file of the configuration
    │   ├── TrafficError          a traffic file that cannot be read
    │   ├── DataError             items to measure on that cannot be read
    │   ├── TaskError             a task or request id that the log does not know
    │   ├── RequestError          a request the gateway refuses (HTTP 4xx)
    │   │   ├── TooLargeError     its body is larger than the limit (HTTP 413)
    │   │   ├── LocalOnlyError    it must stay here and no local model answers it (HTTP 451)
    │   │   ├── UnmaskableError   it would have to be masked and cannot be (HTTP 451)
    │   │   ├── KeyRefusedError   no valid key came with it (HTTP 401)
    │   │   ├── NotAllowedError   its key may not do this (HTTP 403)
    │   │   ├── LimitError        its key has used up a limit (HTTP 429, 402)
    │   │   └── UnknownModelError it names a model that is none here (HTTP 404)
    │   └── MissingExtraError     an optional part that is not installed
    ├── ModelError                a model server failed; exit code 3
    │   ├── ModelConnectionError  it could not be reached, or hung up
    │   ├── ModelTimeoutError     it did not answer in time
    │   ├── ModelStatusError      it answered with an error status
    │   ├── ModelFormatError      it answered something that is no answer
    │   ├── ModelDownError        it failed so often that it is left alone for a moment
    │   └── NotRecordedError      a recording was asked what it never heard
    ├── StoreError                the log or the registry cannot be read or written
    └── SpecialistError           a specialist folder is corrupt, tampered or too new

Anything else that escapes is our own fault (exit code 4). A refusal to certify is a value
(`core.certificate.Refusal`), not an error.
"""

from __future__ import annotations

_UNBILLED = frozenset((429, 500, 502, 503, 529))
"""Error statuses by which a server says that it did not answer, for reasons of its own."""


class PilotfishError(Exception):
    """Root. `code` is stable and documented; `hint` says what to do next."""

    code = "pilotfish_error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UserError(PilotfishError):
    """The user must act: what was expected, what came, what to do."""

    code = "user_error"


class ConfigError(UserError):
    """A configuration key, value or file that cannot be used."""

    code = "config_error"


class TrafficError(UserError):
    """A traffic file without a single usable row, or of no known format."""

    code = "traffic_error"


class DataError(UserError):
    """Items to measure models on that cannot be read: a file, a row, a layout, a split or a name."""

    code = "data_error"


class TaskError(UserError):
    """A task, request, certificate or specialist that is not known here."""

    code = "unknown_name"


class RequestError(UserError):
    """A request the gateway refuses before any model sees it. `status` is the HTTP status.

    `param` names what in the request is to blame, where that is one thing; `headers` go with the reply.
    """

    code = "invalid_request"

    def __init__(self, message: str, *, status: int = 400, hint: str = "", param: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.param = param
        self.headers: tuple[tuple[str, str], ...] = ()


class TooLargeError(RequestError):
    """A request body larger than the limit."""

    code = "too_large"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, status=413, hint=hint)


class UnknownModelError(RequestError):
    """A request that names a model which is neither ours nor configured (HTTP 404, as OpenAI's own)."""

    code = "model_not_found"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, status=404, hint=hint)


class LocalOnlyError(RequestError):
    """A request that only a local model may see, and none can answer it."""

    code = "privacy_local_only"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, status=451, hint=hint)


class UnmaskableError(RequestError):
    """A request whose personal data would have to be masked, and cannot be found with certainty."""

    code = "privacy_unmaskable"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, status=451, hint=hint)


class KeyRefusedError(RequestError):
    """A request without a valid key. Why it is not valid is not said: whoever guesses must learn nothing."""

    code = "invalid_api_key"

    def __init__(self) -> None:
        super().__init__(
            "A valid key is needed.", status=401, hint="Send it as `authorization: Bearer KEY` or `x-api-key: KEY`."
        )
        self.headers = (("www-authenticate", "Bearer"),)


class NotAllowedError(RequestError):
    """A request for what its key may not have. `param` names the field of the request or the limit."""

    code = "not_allowed"

    def __init__(self, message: str, *, param: str, hint: str = "") -> None:
        super().__init__(message, status=403, hint=hint)
        self.param = param


class LimitError(RequestError):
    """A request beyond a limit of its key, which `param` names.

    429 where waiting for at most a minute helps, which clients do by themselves; else 402, after which they do not try
    again. `retry_after_s` is when the limit begins anew, None where it does not.
    """

    code = "limit_reached"

    def __init__(self, message: str, *, param: str, status: int, retry_after_s: int | None, hint: str = "") -> None:
        super().__init__(message, status=status, hint=hint)
        self.param = param
        self.headers = () if retry_after_s is None else (("retry-after", str(retry_after_s)),)


class MissingExtraError(UserError):
    """An optional part is not installed; the message carries the install command."""

    code = "missing_extra"

    def __init__(self, extra: str, module: str) -> None:
        super().__init__(
            f"This needs the {extra!r} extra ({module} is not installed).",
            hint=f"Install it with: pip install 'pilotfish[{extra}]'",
        )
        self.extra = extra


class ModelError(PilotfishError):
    """A model server failed. `model` names it; `status` is the HTTP status to pass on.

    `may_be_billed` is False only where the server surely did no work for the request: only then may it be asked
    again, here or elsewhere. `is_brief` says that the same server may answer a moment later.
    """

    code = "model_error"

    def __init__(
        self,
        message: str,
        *,
        model: str = "",
        status: int = 502,
        hint: str = "",
        may_be_billed: bool = True,
        is_brief: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.model = model
        self.status = status
        self.may_be_billed = may_be_billed
        self.is_brief = is_brief


class ModelConnectionError(ModelError):
    """The server could not be reached, or closed the connection before it had answered."""

    code = "model_unreachable"


class ModelTimeoutError(ModelError):
    """The server did not answer in time (HTTP 504, since the client is not to blame)."""

    code = "model_timeout"

    def __init__(self, message: str, *, model: str = "", hint: str = "", may_be_billed: bool = True) -> None:
        super().__init__(message, model=model, status=504, hint=hint, may_be_billed=may_be_billed)


class ModelStatusError(ModelError):
    """The server answered with an error status; its body and headers are kept as they came.

    An error is not billed, but one that only a proxy speaks for a server it lost sight of (504 and its like) may be.
    """

    code = "model_status"

    def __init__(
        self,
        *,
        model: str,
        status: int,
        body: bytes,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(
            f"{model or 'The model'} answered with HTTP {status}.",
            model=model,
            status=status,
            may_be_billed=status not in _UNBILLED and status >= 500,
            is_brief=status in (429, 503),
        )
        self.body = body
        self.headers = headers

    @property
    def is_elsewhere(self) -> bool:
        """Whether the failure is the server's and not the request's: another one may answer."""
        return self.status in _UNBILLED

    @property
    def retry_after_s(self) -> float | None:
        """The seconds its `retry-after` names, None where there is none (or a date)."""
        text = next((value for name, value in self.headers if name == "retry-after"), "")
        return float(text) if text.isascii() and text.isdecimal() else None


class ModelFormatError(ModelError):
    """The server answered with status 200 and something that is no answer."""

    code = "model_format"


class ModelDownError(ModelError):
    """The server failed so often that it is left alone until `retry_after_s` have passed (HTTP 503)."""

    code = "model_down"

    def __init__(self, message: str, *, model: str = "", retry_after_s: float, hint: str = "") -> None:
        super().__init__(message, model=model, status=503, hint=hint, may_be_billed=False)
        self.retry_after_s = retry_after_s


class NotRecordedError(ModelError):
    """A recording was asked for an answer it does not hold."""

    code = "not_recorded"

    def __init__(self, message: str, *, model: str = "", hint: str = "") -> None:
        super().__init__(message, model=model, status=404, hint=hint)


class StoreError(PilotfishError):
    """The log or the registry cannot be opened, read or written."""

    code = "store_error"


class SpecialistError(PilotfishError):
    """A specialist folder whose content does not match its card."""

    code = "specialist_error"
