"""Every setting of Pilotfish with its default, as plain records.

One table: the TOML file, the environment (`PILOTFISH_SECTION_KEY`), `config show` and the docs are
all derived from these records and their `help` texts. Nothing here reads a file or the environment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_type_hints

from pilotfish.core.certificate import RISK_KINDS, Claim, RiskKind
from pilotfish.core.errors import ConfigError
from pilotfish.core.messages import FAMILIES, Family, Price
from pilotfish.core.privacy import MODES, TYPES, PrivacyMode


def setting(default: Any, text: str) -> Any:  # noqa: ANN401 - the type is the field's own
    """A dataclass field with its help text."""
    return field(default=default, metadata={"help": text})


def table(text: str) -> Any:  # noqa: ANN401
    """A dataclass field that holds a table of names and texts, empty unless set."""
    return field(default_factory=dict, metadata={"help": text})


LocalTask = Literal["generate", "classify", "answer", "embed"]
"""What weights in this process do: go on with a text, label it, answer a question from a context, embed texts."""

WhenSpent = Literal["small", "refuse"]
WHEN_SPENT: tuple[WhenSpent, ...] = ("small", "refuse")

FinetuneMode = Literal["auto", "never", "always"]
FINETUNE_MODES: tuple[FinetuneMode, ...] = ("auto", "never", "always")

NO_ENCODER = "none"
"""In place of an encoder's name: n-grams learn and answer alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """[server]"""

    host: str = setting("127.0.0.1", "Address to listen on. Loopback unless told otherwise.")
    port: int = setting(8710, "Port to listen on; 0 picks a free one.")
    max_body_mb: float = setting(32.0, "Largest request body in megabytes; larger ones get 413.")
    workers: int = setting(1, "Processes that serve the port, one a core at most; the first one also learns.")
    require_keys: bool = setting(
        False, "Answer nobody without a virtual key, also before one was made; with one it is always so."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """A further server of a model: a URL, or a table with a `key_env` of its own (unset: the model's)."""

    url: str
    key_env: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """[models.NAME]: a model that clients may name; what [large] has in common with it."""

    url: str = setting("", "Base URL of the large model, up to and including /v1.")
    model: str = setting("", "Model name sent to it.")
    weights: str = setting(
        "", "Instead of `url`: transformers weights (a folder or hub id) or a .gguf file, run in this process."
    )
    task: LocalTask = setting("generate", "What such weights do: generate, classify, answer or embed.")
    family: Family = setting("openai", "What the large model's server speaks: openai or anthropic.")
    responses: bool = setting(True, "Whether a server of the openai family speaks /responses; translated if not.")
    max_tokens: int | None = setting(
        None,
        "Answer tokens where a client names no limit, asked of an anthropic server (refused where unset) or made by "
        "weights (256 where unset, 1,024 of a GGUF file).",
    )
    key_env: str = setting("", "Environment variable with its key; where unset the client's key is passed on.")
    endpoints: tuple[EndpointSettings, ...] = setting(
        (), "Further servers of the same model, tried in this order: URLs, or tables with `url` and `key_env`."
    )
    timeout_s: float = setting(600.0, "Seconds until a whole answer must have come, all tries together.")
    connect_timeout_s: float = setting(10.0, "Seconds until a connection must stand.")
    stream_idle_s: float = setting(300.0, "Seconds of silence inside a stream after which it is given up.")
    retry_wait_s: float = setting(
        0.5, "Seconds to wait in all for a server to come back, where nothing was billed and no other is left."
    )
    max_answer_mb: float = setting(128.0, "Largest answer in megabytes, its stream included.")
    input_usd_per_mtok: float | None = setting(None, "Price of a million prompt tokens in US dollars.")
    output_usd_per_mtok: float | None = setting(None, "Price of a million answer tokens in US dollars.")
    cached_usd_per_mtok: float | None = setting(
        None, "Price of a million prompt tokens read from the server's cache; that of the others where unset."
    )
    price_source: str = setting("", "Where and when the prices were read.")
    local: bool = setting(False, "It runs on your own machines: requests that must stay local may go to it.")

    @property
    def price(self) -> Price | None:
        """The price, or None where none was stated: unknown price means unknown cost."""
        if self.input_usd_per_mtok is None or self.output_usd_per_mtok is None:
            return None
        return Price(
            input_usd_per_mtok=self.input_usd_per_mtok,
            output_usd_per_mtok=self.output_usd_per_mtok,
            cached_usd_per_mtok=self.cached_usd_per_mtok,
            source=self.price_source,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeSettings(ModelSettings):
    """[large]: the reference model."""

    key_env: str = setting(
        "OPENAI_API_KEY", "Environment variable with its key; where unset the client's key is passed on."
    )
    degraded: str = setting(
        "", "Who may answer while it is down: a name of [models], or `specialist` for answers it was unsure of."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QualitySettings:
    """[quality]: the tolerated loss. Without `max_risk` the gateway only observes."""

    max_risk: float | None = setting(None, "Tolerated disagreement with the large model, 0 < max_risk < 0.5.")
    confidence: float = setting(0.95, "Confidence with which the promise must hold.")
    per: RiskKind = setting(
        "answer", "What the risk is counted on: each local answer, each of its fields, or all traffic of the task."
    )
    audit_rate: float | None = setting(
        None,
        "Share of requests whose local answer is also asked of the large model; chosen by the promise where unset, "
        "0 turns audits off.",
    )

    @property
    def claim(self) -> Claim | None:
        """The promise asked for, or None where the user has stated no tolerated risk."""
        if self.max_risk is None:
            return None
        return Claim(max_risk=self.max_risk, confidence=self.confidence, per=self.per)


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningSettings:
    """[learning]"""

    encoder: str = setting(
        "all-MiniLM-L6-v2",
        "Sentence encoder: this name, a local folder, a hub id (BERT family), or `none` for n-grams alone.",
    )
    finetune: FinetuneMode = setting(
        "auto", "Fine-tune its last layers: auto (where torch is installed and it pays), never, or always."
    )
    first_after: int = setting(300, "Answers of a task to collect before the first attempt.")
    growth: float = setting(1.5, "Another attempt when the known answers have grown by this factor.")
    check_every_s: float = setting(5.0, "Seconds between looks for a task that is ready to be learnt.")
    niceness: int = setting(10, "Priority of the learning process: 0 normal to 19 lowest.")
    answer_overlap: float = setting(
        1.0, "Share of words (ROUGE-L F) by which two answers given again as whole texts agree; 1: all of them."
    )
    share_answers: bool = setting(
        False,
        "Past answers that are given again as whole texts may go to every key, not only to the one that got them.",
    )
    answer_days: float | None = setting(
        None,
        "Days after which a past answer that the large model has not given again is given no more; never when unset.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencySettings:
    """[consistency]: asking the large model the same again. Without `calls` it is never asked."""

    calls: int = setting(0, "Extra calls that each task may spend on asking the large model the same again; 0: none.")
    usd: float | None = setting(None, "Most US dollars that these calls may cost, over all tasks.")
    answers: int = setting(2, "How often such a request is asked in all; with 3 the majority is the standard.")

    @property
    def n_votes(self) -> int:
        """How many answers make the one that a promise is about: 1, or 3 where their majority is asked for."""
        return self.answers if self.calls and self.answers > 2 else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingSettings:
    """[routing]: smaller models for open-ended requests. Without `margin` the large one answers them all."""

    models: tuple[str, ...] = setting(
        (), "Names of [models] that may answer open-ended requests in place of the large model, the smallest first."
    )
    margin: float | None = setting(
        None, "Tolerated loss against always asking the large model, in score, 0 < margin < 1."
    )
    confidence: float = setting(0.95, "Confidence with which this margin must hold.")
    judge: str = setting("", "Who grades audits: a name of [models], or the large model's. Its calls cost money.")
    samples: int = setting(
        0, "Further answers asked of a smaller model for each that is collected, audited, or decided on by them."
    )
    verifier: str = setting(
        "", "Who is asked how likely a smaller model's answer is right: a name of [models], or the large model's."
    )
    audit_rate: float | None = setting(
        None,
        "Share of routed requests on which both models are heard and graded; chosen by the promise where unset, 0 "
        "turns audits off.",
    )
    deadline_s: float | None = setting(
        None, "Seconds an answer may take: what a cascade is expected to miss goes straight to the large model."
    )
    usd_per_day: float | None = setting(
        None,
        "Most US dollars that requests under a route may cost a day (UTC), finding out included; as they run short, "
        "the large model is asked where that brings most.",
    )
    when_spent: WhenSpent = setting(
        "small", "Once they are spent: small (the smallest model answers, without a promise), or refuse."
    )
    collect: float = setting(0.0, "Share of open-ended requests that the smaller models answer too, unseen; 0: none.")
    collect_usd_per_day: float | None = setting(None, "Most US dollars that collecting may cost a day (UTC).")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """[log]"""

    keep_text: bool = setting(True, "Write messages and answers to the log. Without them nothing can be learnt.")
    keep_days: float | None = setting(None, "Days after which rows are pruned at start; never when unset.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacySettings:
    """[privacy]: what may leave. Without it nothing is looked at."""

    mode: PrivacyMode = setting("allow", "What is done with personal data: allow, mask, or local (never leaves).")
    detect: tuple[str, ...] | None = setting(
        None, "Types to look for; when unset, all with a checksum or a strong shape (not ADDRESS, PERSON)."
    )
    timeout_s: float = setting(1.0, "Seconds for looking at one request; one that takes longer counts as sensitive.")
    patterns: dict[str, str] = table("Your own regular expressions, by name; a match counts as a finding of that type.")
    tasks: dict[str, PrivacyMode] = table(
        "Modes of single tasks, by name or id; the stricter of this and `mode` holds."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    """[telemetry]: nothing is told to anybody unless it says to whom."""

    otlp_url: str = setting("", "Base URL of an OpenTelemetry collector (OTLP over HTTP); none is told when empty.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. `home` is the folder of log, registry and specialists (empty: the user's data folder).

    `models` are the tables [models.NAME], further models that clients may name; `aliases` the names in [aliases] with
    what each stands for.
    """

    home: str = setting("", "Folder of log, registry and specialists; the user's data folder when empty.")
    server: ServerSettings = field(default_factory=ServerSettings)
    large: LargeSettings = field(default_factory=LargeSettings)
    quality: QualitySettings = field(default_factory=QualitySettings)
    learning: LearningSettings = field(default_factory=LearningSettings)
    consistency: ConsistencySettings = field(default_factory=ConsistencySettings)
    routing: RoutingSettings = field(default_factory=RoutingSettings)
    log: LogSettings = field(default_factory=LogSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    models: Mapping[str, ModelSettings] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)


SECTIONS: dict[str, type[Any]] = {
    name: kind
    for name, kind in get_type_hints(Settings).items()
    if dataclasses.is_dataclass(kind) and isinstance(kind, type)
}
"""Section name to its record, in the order of `Settings`."""

# (section, key): smallest and largest allowed value, both included.
_RANGES: dict[tuple[str, str], tuple[float, float]] = {
    ("server", "port"): (0, 65535),
    ("server", "max_body_mb"): (0.001, 4096),
    ("server", "workers"): (1, 256),
    ("quality", "max_risk"): (1e-6, 0.4999),
    ("quality", "confidence"): (0.5, 0.99999),
    ("quality", "audit_rate"): (0.0, 1.0),
    ("learning", "first_after"): (1, 10_000_000),
    ("learning", "growth"): (1.01, 100),
    ("learning", "check_every_s"): (0.05, 86400),
    ("learning", "niceness"): (0, 19),
    ("learning", "answer_days"): (0, 36500),
    ("learning", "answer_overlap"): (0.5, 1.0),
    ("consistency", "calls"): (0, 10_000_000),
    ("consistency", "usd"): (0, 1e6),
    ("consistency", "answers"): (2, 3),
    ("routing", "margin"): (1e-6, 0.9999),
    ("routing", "confidence"): (0.5, 0.99999),
    ("routing", "samples"): (0, 8),
    ("routing", "audit_rate"): (0.0, 1.0),
    ("routing", "deadline_s"): (0.001, 86400),
    ("routing", "collect"): (0.0, 1.0),
    ("routing", "collect_usd_per_day"): (0, 1e6),
    ("routing", "usd_per_day"): (0, 1e6),
    ("log", "keep_days"): (0, 36500),
    ("privacy", "timeout_s"): (0.001, 600),
}


# The same of every model, [large] and [models.NAME].
_MODEL_RANGES: dict[str, tuple[float, float]] = {
    "max_tokens": (1, 10_000_000),
    "timeout_s": (0.001, 86400),
    "connect_timeout_s": (0.001, 600),
    "stream_idle_s": (0.001, 86400),
    "retry_wait_s": (0, 60),
    "max_answer_mb": (0.001, 65536),
    "input_usd_per_mtok": (0, 1e6),
    "output_usd_per_mtok": (0, 1e6),
    "cached_usd_per_mtok": (0, 1e6),
}


def check_ranges(settings: Settings) -> None:
    """Raise a `ConfigError` naming the first value that lies outside its range."""
    for (section, key), bounds in _RANGES.items():
        _check_range(section, key, getattr(getattr(settings, section), key), bounds)
    models = {"large": settings.large, **{f"models.{name}": model for name, model in settings.models.items()}}
    for section, model in models.items():
        _check_model(section, model)
    if settings.learning.finetune not in FINETUNE_MODES:
        raise ConfigError(
            f"[learning] finetune must be one of {', '.join(FINETUNE_MODES)}, but is {settings.learning.finetune!r}."
        )
    if settings.quality.per not in RISK_KINDS:
        raise ConfigError(f"[quality] per must be one of {', '.join(RISK_KINDS)}, but is {settings.quality.per!r}.")
    _check_privacy(settings.privacy)
    otlp_url = settings.telemetry.otlp_url
    if otlp_url:
        _check_url("telemetry", "otlp_url", otlp_url, "A key goes into OTEL_EXPORTER_OTLP_HEADERS.")


def _check_model(section: str, model: ModelSettings) -> None:
    for key, bounds in _MODEL_RANGES.items():
        _check_range(section, key, getattr(model, key), bounds)
    if model.family not in FAMILIES:
        raise ConfigError(f"[{section}] family must be one of {', '.join(FAMILIES)}, but is {model.family!r}.")
    if model.task not in get_args(LocalTask):
        raise ConfigError(f"[{section}] task must be one of {', '.join(get_args(LocalTask))}, but is {model.task!r}.")
    if model.weights and (model.url or model.endpoints):
        raise ConfigError(f"[{section}] has weights and a server.", hint="A model is one or the other.")
    for key, url in [("url", model.url), *(("endpoints", endpoint.url) for endpoint in model.endpoints)]:
        if url or key != "url":
            _check_url(section, key, url, f"A key goes into [{section}] key_env.")


def _check_url(section: str, key: str, url: str, hint: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"[{section}] {key} must start with http:// or https://, but is {url!r}.")
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ConfigError(f"[{section}] {key} must hold no user name and no password.", hint=hint)


def _check_privacy(privacy: PrivacySettings) -> None:
    for place, mode in [("mode", privacy.mode), *((f"tasks: {name}", mode) for name, mode in privacy.tasks.items())]:
        if mode not in MODES:
            raise ConfigError(f"[privacy] {place} must be one of {', '.join(MODES)}, but is {mode!r}.")
    unknown = [kind for kind in privacy.detect or () if kind not in TYPES]
    if unknown:
        raise ConfigError(f"[privacy] detect knows no {unknown[0]!r}.", hint=f"Known types: {', '.join(TYPES)}.")


def _check_range(section: str, key: str, value: float | None, bounds: tuple[float, float]) -> None:
    low, high = bounds
    if value is not None and not low <= value <= high:
        raise ConfigError(f"[{section}] {key} must lie between {low:g} and {high:g}, but is {value!r}.")
