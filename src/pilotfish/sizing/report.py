"""All facts of one model under one use: how long the context, how many at once, which number type.

It only asks `architecture`, `memory`, `flops` and `machine` and puts what they say in order; a quantity that does not
exist (the cache of an encoder) is there with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pilotfish.sizing import flops, memory
from pilotfish.sizing.architecture import PARTS, Architecture
from pilotfish.sizing.facts import Fact, Section, size
from pilotfish.sizing.machine import Memory, Speed
from pilotfish.sizing.sources import Subject

DEFAULT_CONTEXT = 8192
TRAINING_TOKENS = "training tokens"
NO_CACHE = "an encoder reads the whole text at once and keeps no cache"
NO_ACTIVATIONS = "the hidden size is not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How the model would be used. `training_tokens` None: as many as its makers published."""

    batch: int = 1
    number_type: str = "bf16"
    cache_bits: int = 16
    training_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The facts of one model; `context` is the one they hold for."""

    subject: Subject
    use: Use
    context: int
    facts: tuple[Fact, ...]

    def fact(self, key: str) -> Fact | None:
        """The fact of that key."""
        return next((fact for fact in self.facts if fact.key == key), None)


def common_context(subjects: Sequence[Subject]) -> int:
    """The context for models side by side where none was asked for: what all of them can hold, at most
    `DEFAULT_CONTEXT`."""
    own = [s.architecture.context for s in subjects if s.architecture and s.architecture.context]
    return min([DEFAULT_CONTEXT, *own])


def describe(subject: Subject, use: Use, context: int, here: Memory, speed: Speed) -> Sheet:
    """The sheet of a model on this machine, at `context` tokens."""
    a = subject.architecture
    facts = _origin(subject)
    if a is None:
        facts += _unknown(subject)
    else:
        facts += _shape(a, subject)
        facts += _parameters(a)
    facts += _stored(subject)
    if a is not None:
        facts += _memory(a, use, context)
        facts += _training(a, use, context)
        facts += _computing(a, subject, use, context)
        facts += _machine(a, use, context, here, speed)
    return Sheet(subject=subject, use=use, context=context, facts=tuple(facts))


def _origin(subject: Subject) -> list[Fact]:
    found = Section("source")
    found.word("source", "source", subject.source, how="published")
    found.word("date", "entered on" if subject.entry else "read on", subject.date, how="published")
    if subject.entry is not None:
        found.word("released", "released", subject.entry.released, how="published")
    if subject.entry is not None and subject.entry.config is not None:
        found.word(
            "checked", "checked against", subject.entry.checked or None, "entered from memory, held against nothing"
        )
    return found.facts


def _unknown(subject: Subject) -> list[Fact]:
    """What is left where the architecture is not known: nothing but the reason, and published facts."""
    found = Section("shape")
    found.word("family", "family", None, subject.why_none)
    published = subject.entry.fact("context") if subject.entry else None
    if published is not None:
        found.published("published_context", "context window, as published", published.value, published.cited)
    if subject.stored is not None:
        return found.facts
    parameters = Section("parameters")
    parameters.count("parameters", "parameters", None, subject.why_none)
    return found.facts + parameters.facts


def _shape(a: Architecture, subject: Subject) -> list[Fact]:
    found, why = Section("shape"), "the source does not tell"
    found.word("family", "family", a.family)
    found.word("kind", "kind", a.kind)
    if a.n_encoder_layers is not None:
        found.count("encoder_layers", "encoder layers", a.n_encoder_layers)
    found.count("layers", "layers" if a.n_encoder_layers is None else "decoder layers", a.n_layers, why)
    found.count("hidden_size", "hidden size", a.hidden, why)
    found.count("heads", "attention heads", a.n_heads, why)
    cached = a.attention[0].cached if a.attention else 0
    latent = f"latent attention keeps one vector of {cached:,} values for all heads"
    found.count("kv_heads", "key and value heads", a.n_kv_heads, latent)
    found.count("head_dim", "head dimension", a.head_dim, why)
    found.count("feed_forward_size", "feed-forward size", a.d_ff, why)
    found.count("vocabulary", "vocabulary", a.vocab, why)
    found.word("tokenizer", "tokenizer", a.tokenizer, why)
    published = subject.entry.fact("context") if subject.entry else None
    found.count("context", "context window", a.context, "nothing in its shape limits it")
    if published is not None and published.value != a.context:
        found.published("published_context", "context window, as published", published.value, published.cited)
    found.word("position", "positions", a.position)
    found.word("attention", "attention", a.attention_kinds())
    for i, note in enumerate(a.notes):
        found.word(f"note_{i + 1}", "note", note)
    return found.facts


def _parameters(a: Architecture) -> list[Fact]:
    found, parts = Section("parameters"), a.by_part()
    found.count("parameters", "parameters", a.parameters)
    found.count("active_parameters", "active for one token", a.active_parameters)
    for part in PARTS:
        if part in parts:
            found.count(f"parameters_{part.replace('-', '_')}", f"  {part}", parts[part])
    for head in a.heads:
        key = "parameters_with_" + head.name.replace(" ", "_").replace("-", "_")
        found.count(key, f"with {head.name}", head.parameters)
    return found.facts


def _stored(subject: Subject) -> list[Fact]:
    """What the file itself holds, beside what its configuration says."""
    stored = subject.stored
    if stored is None:
        return []
    found = Section("file")
    found.count("stored_parameters", "parameters in the file", stored.parameters)
    found.size("stored_bytes", "bytes of its tensors", stored.n_bytes)
    types = ", ".join(f"{name} {count:,}" for name, count in stored.by_type().items())
    found.word("stored_types", "number types", types or None, "it holds no tensors")
    bits = stored.bits_per_weight
    found.word("stored_bits", "bits a weight", f"{bits:.4f}" if bits else None, "it holds no parameters")
    if subject.architecture is None:
        for part, count in stored.by_part().items():
            found.count(f"stored_{part.replace('-', '_')}", f"  {part}", count)
    if stored.missing:
        found.word("missing_shards", "shards not there", ", ".join(stored.missing))
    return found.facts


def _memory(a: Architecture, use: Use, context: int) -> list[Fact]:
    found = Section("memory")
    for name in dict.fromkeys((*memory.SHOWN, use.number_type)):
        mixed = name in ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q2_K", "F16")
        label = f"weights in {name}" + (" (GGUF)" if mixed else "")
        n_bytes = memory.weights_bytes(a.parameters, name)
        found.size(f"weights_{name}", label, n_bytes, how="estimate" if mixed else "exact")
    bits, n = use.cache_bits, use.batch
    per_token = memory.cache_values_per_token(a) * bits // 8
    has_cache = a.kind != "encoder"
    found.size("cache_per_token", f"KV cache a token, {bits} bits", per_token if has_cache else None, NO_CACHE)
    whole = memory.cache_bytes(a, context, n, bits) if has_cache else None
    found.size("cache", f"KV cache, {n} x {context:,} tokens", whole, NO_CACHE)
    activations = memory.activation_bytes(a, context, n)
    found.size("activations", f"activations, {n} x {context:,}", activations, NO_ACTIVATIONS, "estimate")
    peak = memory.serving_bytes(a, use.number_type, context, n, bits)
    found.size("serving", f"peak to serve in {use.number_type}", peak, NO_ACTIVATIONS, "estimate")
    return found.facts


def _training(a: Architecture, use: Use, context: int) -> list[Fact]:
    found = Section("fine-tuning")
    for name in memory.OPTIMISERS:
        span = memory.training_bytes(a, name)
        key = "training_" + name.lower().replace("-", "").replace(" ", "_")
        found.span(key, f"all weights, {name}", span.low, span.high)
    lora = memory.lora_bytes(a)
    found.span("training_lora", f"LoRA, rank {memory.LORA_RANK}, AdamW", lora.low, lora.high)
    found.count("lora_parameters", "parameters of the adapters", memory.lora_parameters(a))
    extra = memory.training_activation_bytes(a, context, use.batch)
    label = f"and activations, {use.batch} x {context:,}"
    found.size("training_activations", label, extra, NO_ACTIVATIONS, "estimate")
    return found.facts


def _computing(a: Architecture, subject: Subject, use: Use, context: int) -> list[Fact]:
    found = Section("computing")
    if a.kind == "encoder-decoder":
        found.work("linear", "matrices, a source token", flops.linear(a, "encoder"))
        found.work("linear_decoder", "matrices, a target token", flops.linear(a, "decoder"))
    else:
        found.work("linear", "matrices, a token", flops.linear(a))
    whole = flops.prefill(a, context)
    found.work("prefill", f"reading {context:,} tokens", whole)
    found.work("prefill_per_token", "the same, a token", whole // context)
    full = flops.prefill(a, context, causal_half=False) // context
    found.work("prefill_full_square", "the same, scores unmasked", full)
    writes = "an encoder writes no tokens"
    found.work("decode", f"one new token after {context:,}", flops.decode(a, context), writes)
    tokens = use.training_tokens
    fact = subject.entry.fact(TRAINING_TOKENS) if subject.entry else None
    why = "its number of training tokens is not known; give --tokens"
    if tokens is None and fact is not None:
        tokens = int(fact.value)
        found.published("training_tokens", "training tokens", tokens, fact.cited)
    else:
        found.count("training_tokens", "training tokens", tokens, why)
    thumb = flops.rule_of_thumb(a, tokens) if tokens else None
    found.work("training_6nd", "training, 6 N D", thumb, why, "estimate")
    exact = flops.training(a, tokens, context) if tokens else None
    found.work("training", f"training, summed at {context:,}", exact, why)
    return found.facts


def _machine(a: Architecture, use: Use, context: int, here: Memory, speed: Speed) -> list[Fact]:
    found, name = Section("this machine"), use.number_type
    found.size("memory_available", f"memory free ({here.limited_by})", here.available_bytes, _why(here), "measured")
    found.size(
        "memory_total", "memory in all", here.total_bytes, here.why_none or "the system does not tell", "measured"
    )
    free = here.available_bytes if here.available_bytes is not None else here.total_bytes
    found.word(
        "fits", f"fits here in {name}", _fits(a, use, context, free), here.why_none or NO_ACTIVATIONS, "estimate"
    )
    largest = _largest(a, use, context, free)
    found.word("fits_in", "finest type that fits", largest, "none of the types fits", "estimate")
    for i, (gpu, n_bytes) in enumerate(speed.gpus):
        found.word(
            f"gpu_{i}", f"fits {gpu} ({size(n_bytes)})", _fits(a, use, context, n_bytes), NO_ACTIVATIONS, "estimate"
        )
    if not speed.gpus:
        found.word("gpu", "GPU", None, "nvidia-smi names none")
    rate = None if speed.bandwidth is None else f"{speed.bandwidth / 1e9:.1f} GB/s on {speed.measured}"
    found.word("bandwidth", "memory bandwidth", rate, speed.why_none or "not measured", "measured")
    bound, why = at_most_tokens_per_s(a, use, context, speed)
    text = None if bound is None else f"{bound:,.1f} tokens/s"
    found.word("tokens_per_s_bound", f"at most, in {name} on the CPU", text, why, "estimate")
    return found.facts


def _why(here: Memory) -> str:
    return here.why_none or "the system does not tell"


def _fits(a: Architecture, use: Use, context: int, free: int | None) -> str | None:
    peak = memory.serving_bytes(a, use.number_type, context, use.batch, use.cache_bits)
    if peak is None or free is None:
        return None
    return f"yes, {size(free - peak)} to spare" if peak <= free else f"no, {size(peak - free)} short"


def _largest(a: Architecture, use: Use, context: int, free: int | None) -> str | None:
    """The first number type, from the finest, whose peak fits."""
    for name in memory.SHOWN:
        peak = memory.serving_bytes(a, name, context, use.batch, use.cache_bits)
        if peak is not None and free is not None and peak <= free:
            return name
    return None


def at_most_tokens_per_s(a: Architecture, use: Use, context: int, speed: Speed) -> tuple[float | None, str]:
    """Tokens a second if reading memory were all that takes time: each step reads the active weights once and every
    sequence's cache, and writes one token for each sequence. Else None and why."""
    if a.kind == "encoder":
        return None, "an encoder writes no tokens"
    if speed.bandwidth is None:
        return None, speed.why_none or "the bandwidth was not measured"
    looked_up = sum(w.elements * w.active for w in a.weights if w.part == "embeddings" and not w.multiplied)
    tied = sum(w.elements for w in a.weights if w.part == "head" and not w.stored)
    read = memory.weights_bytes(a.active_parameters - looked_up + tied, use.number_type)
    read += memory.cache_bytes(a, context, use.batch, use.cache_bits)
    return use.batch * speed.bandwidth / max(1, read), ""
