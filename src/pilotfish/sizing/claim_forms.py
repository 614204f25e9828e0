"""Finds claims about models in a text: who, which quantity, which number, in a few fixed forms of sentence.

A form is a name, a verb and a number with its unit, in this order and with nothing else between; all other sentences
are left alone. So is every sentence with a word of doubt, denial or comparison: it may not claim what it says.
Code blocks of Markdown are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from pilotfish.sizing.catalogue import catalogue
from pilotfish.sizing.rounding import Said, parse

_NOT_SAID = Said(text="", value=0.0, unit=0.0)
_GUARD = re.compile(
    r"\?|\b(?:not|never|neither|nor|cannot|without|would|could|might|may|should|if|suppose|imagine|hypothe\w+|claim\w*|"
    r"rumou?r\w*|reportedly|allegedly|myth|wrong\w*|fals\w+|incorrect\w*|instead|mistak\w+|variants?|versions?|"
    r"fine-?tun\w+|pruned|compressed|quanti[sz]ed|our|my|custom\w*|extended|modified|like|similar|style|inspired|based|"
    r"previously|originally|initially|each|every|both|respectively|predecessor|successor)\b|n['\u2019]t\b",
    re.IGNORECASE,
)
_LARGER = re.compile(r"\b(?:than|smaller|larger|bigger|fewer|compared|versus|vs|unlike|whereas|times)\b", re.IGNORECASE)
_SUFFIX = (
    r"(?:turbo|mini|nano|pro|ultra|vision|tiny|small|medium|large|xl|xxl|base|coder?|math|vl|moe|guard|lite|flash|micro|"
    r"multilingual|long|v\d)"
)
_NUMBER = r"(?P<number>\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
_SCALE = r"(?:[\s-]?(?P<scale>thousand|million|billion|trillion|mn|bn|[KMBT])(?![\w%]))?"
_QUALIFIER = (
    r"(?:(?P<qualifier>over|more than|at least|above|exceeding|up to|under|less than|fewer than|at most|below|nearly|"
    r"almost|close to|about|around|roughly|approximately|approx\.|some|circa|~)\s*)?"
)
_HAS = r"(?:has|have|had|contains|comprises|features|packs|offers|boasts|counts|consists of|comes with|uses)"
_A = r"(?:only |just |exactly |a total of |a |an |the )*"
_END = r"(?!\s*(?:per|in (?:its|the|each)|for|each|after|when|more|fewer|less|times|of (?:which|its|the)|\())"
_TYPES = {
    "fp32": "fp32", "float32": "fp32", "32-bit": "fp32", "fp16": "fp16", "float16": "fp16", "half precision": "fp16",
    "16-bit": "fp16", "bf16": "bf16", "bfloat16": "bf16", "int8": "int8", "8-bit": "int8", "q4_k_m": "Q4_K_M",
    "q8_0": "Q8_0",
}  # fmt: skip
_TOKENIZERS = {"wordpiece": "WordPiece", "unigram": "unigram", "bpe": "BPE", "byte-pair encoding": "BPE"}
_TYPE = "|".join(map(re.escape, _TYPES))
_WORD = "|".join(_TOKENIZERS)
_PARAMETERS = r"(?:total |trainable |learnable |model )?parameters\b"
_N = _QUALIFIER + _NUMBER + _SCALE

# What may follow a model's name. Each begins right after it.
_FORMS: tuple[tuple[str, str], ...] = (
    ("active", rf"\s+(?:has|uses|activates) {_A}{_N}[\s-]+active {_PARAMETERS}"),
    ("active", rf"\s+(?:uses|activates) {_A}{_N} {_PARAMETERS} (?:per|for each) token"),
    ("parameters", rf"\s+{_HAS}\s+{_A}{_N}[\s-]+{_PARAMETERS}{_END}"),
    ("parameters", rf"\s+is {_A}{_N}[\s-]+parameters?\b(?: \w+){{0,2}} model"),
    (
        "parameters",
        rf"\s*\({_QUALIFIER}{_NUMBER}[\s-]?(?P<scale>million|billion|trillion|[MBT])(?:[\s-]+{_PARAMETERS})?\)",
    ),
    ("context", rf"\s+(?:{_HAS}|supports|handles|accepts)\s+{_A}context (?:window|length|size) of {_N}(?:\s+tokens)?"),
    ("context", rf"\s+(?:{_HAS}|supports|handles|accepts)\s+{_A}{_N}[\s-]tokens? context(?: window| length)?"),
    ("context", rf"['\u2019]s (?:maximum )?context (?:window|length|size) is {_A}{_N}(?:\s+tokens)?"),
    ("layers", rf"\s+{_HAS}\s+{_A}{_N} (?:transformer |encoder |decoder |hidden )?(?:layers|blocks)\b{_END}"),
    ("kv_heads", rf"\s+{_HAS}\s+{_A}{_N} (?:key[-/ ](?:and[- ])?value|KV) heads\b{_END}"),
    ("heads", rf"\s+{_HAS}\s+{_A}{_N} attention heads\b{_END}"),
    ("hidden", rf"\s+{_HAS}\s+{_A}hidden (?:size|dimension) of {_N}"),
    ("vocabulary", rf"\s+{_HAS}\s+{_A}vocabulary(?: size)? of {_N}(?:\s+(?:tokens|entries|words))?"),
    (
        "memory",
        rf"\s+(?:needs|requires|takes|takes up|uses|occupies) {_A}{_QUALIFIER}{_NUMBER}\s?(?P<bytes>GB|GiB)"
        rf"(?: of (?:memory|RAM|VRAM|GPU memory))? (?:in|at|with) (?P<detail>{_TYPE})\b",
    ),
    ("kind", r"\s+is an? (?P<detail>encoder-decoder|encoder-only|decoder-only)\b"),
    ("tokenizer", rf"\s+uses (?:a |an |the )?(?:byte-level )?(?P<detail>{_WORD})\b"),
)
_SMALLER = r"\s+is {a}{n}\s?(?:%|percent|per cent) smaller than "


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What was claimed: the models the name can mean, the quantity, the number, or a word (`detail`)."""

    line: int
    text: str
    models: tuple[str, ...]
    quantity: str
    said: Said
    detail: str = ""
    others: tuple[str, ...] = ()


def read(text: str) -> Iterator[Claim]:
    """The claims of a text, in order."""
    for line, sentence in _sentences(text):
        if _GUARD.search(sentence):
            continue
        names, whole = _names()
        mentions = list(whole.finditer(sentence))
        if _LARGER.search(_without_bounds(sentence)):
            yield from _smaller(line, sentence, mentions)
            continue
        for mention in mentions:
            yield from _claims(line, sentence, mention, names)


def _claims(line: int, sentence: str, mention: re.Match[str], names: dict[str, tuple[str, ...]]) -> Iterator[Claim]:
    """The claim right after a name, if any."""
    for quantity, pattern in _forms():
        found = pattern.match(sentence, mention.end())
        if found is None:
            continue
        groups = found.groupdict()
        number = groups.get("number")
        said = parse(number, groups.get("scale") or "", groups.get("qualifier") or "") if number else _NOT_SAID
        yield Claim(
            line=line,
            text=sentence[mention.start() : found.end()].strip(),
            models=names[_key(mention[0])],
            quantity=quantity,
            said=said,
            detail=_detail(quantity, groups.get("detail") or ""),
        )
        return


def _smaller(line: int, sentence: str, mentions: list[re.Match[str]]) -> Iterator[Claim]:
    """`A is 40 % smaller than B`, where nothing else is compared."""
    if len(mentions) != 2:
        return
    first, second = mentions
    pattern = re.compile(_SMALLER.format(a=_A, n=_N) + "$", re.IGNORECASE)
    found = pattern.match(sentence[: second.start()], first.end())
    if found is None:
        return
    names, _ = _names()
    yield Claim(
        line=line,
        text=sentence[first.start() : second.end()],
        models=names[_key(first[0])],
        quantity="smaller",
        said=parse(found["number"], "", found["qualifier"] or ""),
        others=names[_key(second[0])],
    )


def _detail(quantity: str, word: str) -> str:
    word = word.lower()
    if quantity == "memory":
        return _TYPES[word]
    if quantity == "kind":
        return word.removesuffix("-only")
    return _TOKENIZERS.get(word, "")


def _without_bounds(sentence: str) -> str:
    """`more than 1 billion` compares nothing."""
    return re.sub(r"\b(?:more|less|fewer) than (?=~?\d)", "", sentence, flags=re.IGNORECASE)


def _sentences(text: str) -> Iterator[tuple[int, str]]:
    """Sentences with the line they begin in; Markdown's emphasis is taken off, code blocks are left out."""
    is_code = False
    block: list[str] = []
    started = 1
    for number, line in enumerate([*text.splitlines(), ""], 1):
        is_fence = line.lstrip().startswith(("```", "~~~"))
        is_code ^= is_fence
        if is_code or is_fence or not line.strip() or line.lstrip().startswith(("#", "|", "- ", "* ", ">")):
            yield from _split(started, block)
            block = []
        if not (is_code or is_fence or not line.strip()):
            if not block:
                started = number
            block.append(line)


def _split(started: int, block: list[str]) -> Iterator[tuple[int, str]]:
    text = re.sub(r"[*_]{2}|`", "", "\n".join(block))
    start = 0
    for end in re.finditer(r"[.!?;](?=\s|$)|$", text):
        sentence = text[start : end.end()]
        lead = len(sentence) - len(sentence.lstrip())
        if sentence.strip():
            yield started + text[: start + lead].count("\n"), " ".join(sentence.split())
        start = end.end()


@cache
def _forms() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((quantity, re.compile(pattern, re.IGNORECASE)) for quantity, pattern in _FORMS)


@cache
def _names() -> tuple[dict[str, tuple[str, ...]], re.Pattern[str]]:
    """What each name can mean, groups first, and a pattern for all of them, the longest first."""
    known = catalogue()
    names: dict[str, tuple[str, ...]] = {}
    for entry in known.entries.values():
        for name in (entry.title, entry.name, *(alias for alias in entry.aliases if "/" not in alias)):
            names[_key(name)] = (entry.name,)
    names.update({_key(name): members for name, members in known.groups.items()})
    written = sorted(names, key=len, reverse=True)
    either = "|".join(r"[\s_-]?".join(map(re.escape, name.split())) for name in written)
    after = rf"(?![\w]|[.-]\w|[\s-]+{_SUFFIX}\b|\s+\d+(?:\.\d+)?\s?[MBT]\b)"
    return names, re.compile(rf"(?<![\w.-])(?:{either}){after}", re.IGNORECASE)


def _key(name: str) -> str:
    """Letters and digits in runs: `Llama-3 8B` and `llama 3 8b` are `llama 3 8 b`, however they are separated."""
    return " ".join(re.findall(r"[a-z]+|\d+(?:\.\d+)?", name.lower()))
