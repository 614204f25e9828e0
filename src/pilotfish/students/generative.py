"""Small generative models: what they are shown, and what counts as a loss.

A model of transformers, causal or encoder-decoder, learns the reference's answers (sequence-level distillation, Kim and
Rush 2016: cross entropy on the answer's tokens alone), and from the probabilities of a teacher where its weights are at
hand (Hinton et al. 2015: T² KL(teacher || student) at temperature T, mixed with that cross entropy). All of it, or
adapters of low rank (LoRA, Hu et al. 2021). The loop that trains stands in `generative_training.py`.
"""

from __future__ import annotations

import dataclasses
import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pilotfish.core.errors import ConfigError, DataError, MissingExtraError
from pilotfish.core.ids import sha256
from pilotfish.core.messages import Message

try:
    import torch
    from jinja2 import TemplateError
    from torch.nn import functional
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar
except ImportError as error:
    raise MissingExtraError("train", error.name or "transformers") from error

disable_progress_bar()  # the command line has one of its own

MASKED = -100
"""The label of a token that is read and not learnt."""

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{{ eos_token if m['role'] == 'assistant' else '\\n' }}{% endfor %}"
"""Given to a causal model that has none, so that whoever runs it asks it as it was taught."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What was asked, and what the reference answered. Pairs of one `cluster` are held out together."""

    messages: Sequence[Message]
    answer: str
    cluster: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is trained. `lora` is the rank of the adapters, None for all weights.

    A step sees `batch` examples `accumulate` times over. `held_out` is the share that nothing learns from; training
    ends after `patience` epochs that did not lower its loss. `max_tokens` bounds an example, and is a text's block.
    `teacher_share` is the weight of the teacher's divergence, at `temperature`; the rest is the answers' cross entropy.
    """

    epochs: int = 3
    batch: int = 8
    accumulate: int = 1
    learning_rate: float | None = None
    max_tokens: int = 512
    lora: int | None = None
    checkpointing: bool = False
    device: Literal["cpu", "cuda"] = "cpu"
    held_out: float = 0.1
    patience: int = 2
    temperature: float = 2.0
    teacher_share: float = 0.5
    seed: int = 0

    @property
    def rate(self) -> float:
        """The highest learning rate: adapters begin at zero and take a higher one."""
        return self.learning_rate or (2e-4 if self.lora else 5e-5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One example as tokens. `labels` are one for each token of a causal model, the answer of an encoder-decoder."""

    ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What is learnt from and what is held out; `n_long` and `n_empty` examples were left out."""

    train: list[Shown]
    held_out: list[Shown]
    n_long: int = 0
    n_empty: int = 0


class Learner:
    """A model that can be trained, with its tokenizer. `source` is a folder or a hub id."""

    def __init__(self, source: str, device: str = "cpu") -> None:
        """Raises `ConfigError` where it cannot be loaded, or does not generate."""
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("torch finds no CUDA device here.", hint="Use --device cpu, or install torch for CUDA.")
        try:
            config = AutoConfig.from_pretrained(source)
            names = config.architectures or []
            self.is_encoder_decoder = bool(getattr(config, "is_encoder_decoder", False))
            if not any(n.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for n in names):
                raise ConfigError(
                    f"{source!r} is {', '.join(names) or 'of no stated architecture'}: it generates no text."
                )
            loader = AutoModelForSeq2SeqLM if self.is_encoder_decoder else AutoModelForCausalLM
            self.tokenizer: Any = AutoTokenizer.from_pretrained(source)
            self.model: Any = loader.from_pretrained(source, dtype=torch.float32).to(device)
        except (OSError, ValueError) as error:
            raise ConfigError(f"transformers cannot load {source!r}: {error}") from error
        self.source, self.device = source, device
        self._dtype = getattr(config, "dtype", None) or torch.float32

    @property
    def most(self) -> int | None:
        """How many tokens it reads, None where its configuration does not say."""
        found = getattr(self.model.config, "max_position_embeddings", None)
        return None if found is None else int(found)

    @property
    def n_parameters(self) -> int:
        """All of its parameters, tied ones once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def trained(self) -> dict[str, Any]:
        """The parameters that are trained, by name."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def prepare(self, recipe: Recipe) -> None:
        """Add the adapters and switch on checkpointing as the recipe says."""
        if recipe.checkpointing:
            # By its new name where it has one; the old one warns.
            enable = getattr(self.model, "activation_checkpointing_enable", self.model.gradient_checkpointing_enable)
            try:
                enable({"use_reentrant": False})
            except ValueError as error:
                raise ConfigError(f"{self.source!r} knows no gradient checkpointing: {error}") from error
        if recipe.lora is not None:
            self.model = _with_adapters(self.model, recipe.lora, is_encoder_decoder=self.is_encoder_decoder)

    def lessons(self, data: Sequence[Pair] | str, recipe: Recipe) -> Lessons:
        """Pairs, or a text in blocks, as tokens. Raises `DataError` where too few are left."""
        limit = min(recipe.max_tokens, self.most or recipe.max_tokens)
        found = self._blocks(data, limit, recipe) if isinstance(data, str) else self._pairs(data, limit, recipe)
        if not found.train or not found.held_out:
            n = len(found.train) + len(found.held_out)
            raise DataError(
                f"{n} example{'s' * (n != 1)} cannot be split into some to learn from and some held out; "
                f"{found.n_long} were longer than {limit} tokens, {found.n_empty} had no answer.",
                hint="Give more data, or other blocks with --max-tokens.",
            )
        return found

    def _blocks(self, text: str, size: int, recipe: Recipe) -> Lessons:
        if self.is_encoder_decoder:
            raise ConfigError(
                f"{self.source!r} is an encoder-decoder: it learns answers, not a text.",
                hint='Give pairs, one a line: {"input": ..., "output": ...}.',
            )
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        if self.tokenizer.eos_token_id is not None:
            ids = [*ids, self.tokenizer.eos_token_id]
        blocks = [ids[i : i + size] for i in range(0, len(ids), size) if len(ids) - i > 1]
        # The end of the text: its neighbours are learnt from, but it goes on where they stop.
        n_held_out = min(max(1, round(recipe.held_out * len(blocks))), len(blocks))
        shown = [Shown(ids=block, labels=block) for block in blocks]
        return Lessons(train=shown[:-n_held_out], held_out=shown[-n_held_out:])

    def _pairs(self, pairs: Sequence[Pair], limit: int, recipe: Recipe) -> Lessons:
        if not self.is_encoder_decoder and not self.tokenizer.chat_template:
            first = self.tokenizer("a").input_ids[:1]
            has_start = first and first[0] == self.tokenizer.bos_token_id
            self.tokenizer.chat_template = ("{{ bos_token }}" if has_start else "") + TEMPLATE
        groups: dict[str, list[Shown]] = {}
        n_long = n_empty = 0
        for pair in pairs:
            if not pair.answer.strip():
                n_empty += 1
                continue
            shown = self.show(pair)
            if max(len(shown.ids), len(shown.labels)) > limit:
                n_long += 1  # a part of it would teach to stop in the middle, or to answer what was not read
                continue
            groups.setdefault(pair.cluster or sha256(repr(pair.messages).encode()), []).append(shown)
        keys = sorted(groups)
        random.Random(recipe.seed).shuffle(keys)
        wanted = recipe.held_out * sum(map(len, groups.values()))
        train: list[Shown] = []
        held_out: list[Shown] = []
        for key in keys:
            (held_out if len(held_out) < wanted else train).extend(groups[key])
        return Lessons(train=train, held_out=held_out, n_long=n_long, n_empty=n_empty)

    def show(self, pair: Pair) -> Shown:
        """The tokens of a pair: the question as it will be asked, and the answer's tokens as what is to be learnt."""
        rows = [{"role": message.role, "content": message.text or ""} for message in pair.messages]
        if self.tokenizer.chat_template:
            asked = self._chat(rows, add_generation_prompt=True)
            prompt = self.tokenizer(asked, add_special_tokens=False).input_ids
        else:
            asked = "\n".join(row["content"] for row in rows)
            prompt = self.tokenizer(asked).input_ids
        if self.is_encoder_decoder:
            return Shown(ids=prompt, labels=self.tokenizer(text_target=pair.answer).input_ids)
        whole = self._chat([*rows, {"role": "assistant", "content": pair.answer}])
        # Apart from the question, since the model will find its tokens before it when it answers.
        said = self.tokenizer(whole.removeprefix(asked), add_special_tokens=False).input_ids
        end = next((i for i, token in enumerate(said) if token in self._ends()), None)
        if whole.startswith(asked) and end is not None:
            answer = said[: end + 1]
        else:  # the template marks no end of an answer, or shows it in some other way than it will be asked for
            answer = self.tokenizer(pair.answer, add_special_tokens=False).input_ids
            answer += [self.tokenizer.eos_token_id] * (self.tokenizer.eos_token_id is not None)
        return Shown(ids=prompt + answer, labels=[MASKED] * len(prompt) + answer)

    def _ends(self) -> set[int]:
        """The tokens that end an answer."""
        known, own = self.model.generation_config.eos_token_id, self.tokenizer.eos_token_id
        listed = known if isinstance(known, list) else [known]
        return {token for token in (*listed, own) if token is not None}

    def _chat(self, rows: list[dict[str, str]], *, add_generation_prompt: bool = False) -> str:
        try:
            return str(
                self.tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=add_generation_prompt)
            )
        except TemplateError as error:
            roles = ", ".join(row["role"] for row in rows)
            raise DataError(f"The chat template of {self.source!r} refuses messages of {roles}: {error}") from error

    def scores(self, shown: Sequence[Shown]) -> tuple[Any, Any]:
        """Logits [n, vocabulary] and labels [n] of every token that is to be learnt."""
        end = self.tokenizer.pad_token_id
        padding = end if end is not None else self.tokenizer.eos_token_id or 0
        ids = self._padded([one.ids for one in shown], padding)
        reads = self._padded([[1] * len(one.ids) for one in shown], 0)
        labels = self._padded([one.labels for one in shown], MASKED)
        if self.is_encoder_decoder:
            logits = self.model(input_ids=ids, attention_mask=reads, labels=labels, use_cache=False).logits
        else:
            logits = self.model(input_ids=ids, attention_mask=reads, use_cache=False).logits[:, :-1]
            labels = labels[:, 1:]
        learnt = labels != MASKED
        return logits[learnt].float(), labels[learnt]

    def _padded(self, rows: list[list[int]], value: int) -> Any:  # noqa: ANN401 - a tensor
        longest = max(map(len, rows))
        return torch.tensor([row + [value] * (longest - len(row)) for row in rows], device=self.device)

    def finished(self) -> Any:  # noqa: ANN401 - a torch module
        """The model to write: adapters merged into the weights, in the precision that the source had."""
        model = self.model.merge_and_unload() if hasattr(self.model, "merge_and_unload") else self.model
        if not self.is_encoder_decoder:
            ends = sorted(self._ends())  # among them what it learnt to end its answers with
            model.generation_config.eos_token_id = ends[0] if len(ends) == 1 else ends or None
        return model.to(self._dtype)


def loss_of(
    student: Learner, shown: Sequence[Shown], recipe: Recipe, teacher: Learner | None = None
) -> tuple[Any, int]:
    """The loss summed over the tokens that are learnt, in nats, and how many there are.

    Sums, so that parts of a batch weigh by their tokens and add up to what the whole batch would have been.
    """
    logits, labels = student.scores(shown)
    entropy = functional.cross_entropy(logits, labels, reduction="sum")
    if teacher is None:
        return entropy, len(labels)
    with torch.no_grad():
        known, _ = teacher.scores(shown)
    n = min(known.shape[1], logits.shape[1])  # beyond the vocabulary, rows only fill up a round number
    heat = recipe.temperature
    divergence = functional.kl_div(
        (logits[:, :n] / heat).log_softmax(dim=1),
        (known[:, :n] / heat).log_softmax(dim=1),
        reduction="sum",
        log_target=True,
    )
    return (1 - recipe.teacher_share) * entropy + recipe.teacher_share * heat**2 * divergence, len(labels)


def check_teacher(student: Learner, teacher: Learner) -> None:
    """Raises `ConfigError` where the two do not say the same tokens."""
    if student.is_encoder_decoder != teacher.is_encoder_decoder:
        raise ConfigError(
            f"{teacher.source!r} and {student.source!r} are of different kinds: one of them is an encoder-decoder.",
            hint="A teacher's probabilities need the same kind; its answers, as data, do not.",
        )
    if student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
        raise ConfigError(
            f"{teacher.source!r} and {student.source!r} have different vocabularies.",
            hint="A teacher's probabilities need the same tokenizer; its answers, as data, do not.",
        )


def _with_adapters(model: Any, rank: int, *, is_encoder_decoder: bool) -> Any:  # noqa: ANN401 - torch modules
    try:
        import peft  # noqa: PLC0415 - seconds, and only for adapters
    except ImportError as error:
        raise MissingExtraError("train", "peft") from error
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        task_type="SEQ_2_SEQ_LM" if is_encoder_decoder else "CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that GPT-2's layers stand the other way round, which it sees to
        return peft.get_peft_model(model, config)


def recipe_sha256(recipe: Recipe, *more: str) -> str:
    """What makes a run the same run: the recipe, and the names and hashes of what it works on."""
    return sha256(repr([*sorted(dataclasses.asdict(recipe).items()), *more]).encode())
