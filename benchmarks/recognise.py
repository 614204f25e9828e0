"""Learning prompt templates from a log: Pilotfish's learner against drain3, on logs with a known truth.

Inputs are texts of public data sets put into 3, 30 and 300 prompt templates (constant text before, after or around
the input; openings, layouts and all but one word or two of the job shared between templates), mixed with free chat.
drain3 gets two chances: whole messages, as it is meant to be used, and the first words only, since it never groups
messages of unlike length.

    python benchmarks/recognise.py [--seeds 3]

Needs ../shared/data. Writes benchmarks/results/recognise-DATE.json.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from drain3 import TemplateMiner
from drain3.template_miner_config import TemplateMinerConfig
from sklearn.metrics import adjusted_rand_score, v_measure_score

from pilotfish.core.messages import ChatRequest, Message
from pilotfish.core.task import Template
from pilotfish.tasks.recognise import Recogniser
from pilotfish.tasks.templates import MIN_SUPPORT, learn

from record import read, save

CHAT = -1
DRAIN_WORDS = 16
"""With DRAIN_DEPTH and DRAIN_SIMILARITY the best of 8, 12, 16 words, depth 4, 8, 12 and similarity 0.4 to 0.9."""
DRAIN_DEPTH = 12
DRAIN_SIMILARITY = 0.7
INPUTS = ("cls_banking77", "cls_snips", "cls_sst2", "cls_ag_news_7600", "cls_sms_spam", "qa_squad_24_articles")
CHATS = ("prompts_arena_hard", "routing_alpacaeval_49models")

OPENINGS = (
    "",
    "You are a helpful assistant. ",
    "You are an expert annotator working for a support team.\n\n",
    "Read the following text carefully. ",
    "### Instruction\n",
    "I want you to act as a careful data analyst. ",
)
JOBS = (
    "Classify the {domain} message as positive or negative.",
    "Classify the {domain} message as positive, negative or neutral.",
    "Classify the {domain} message as spam or ham. Answer with one word.",
    "Decide which department of {domain} should answer: billing, cards, transfers or other.",
    "Extract the product and the urgency from this {domain} note as a JSON object.",
    "Extract all names of people, one per line. The text is from {domain}.",
    "Translate the {domain} text into German.",
    "Translate the {domain} text into French.",
    "Summarize the {domain} text in one sentence of at most 20 words.",
    "Rate how angry the writer to {domain} is on a scale from 1 to 5. Answer with the number only.",
    "Does the text, which came to {domain}, mention a place? Answer yes or no.",
    "Does the text, which came to {domain}, mention a person? Answer yes or no.",
    "Rewrite the text so that a customer of {domain} understands it.",
    "Name the topic: World, Sports, Business, {domain} or Sci/Tech.",
    "Correct all spelling mistakes in the {domain} text and change nothing else.",
    "Turn the {domain} text into a question that it answers.",
    "Is the writer asking {domain} for a refund? Answer yes or no.",
)
DOMAINS = (
    "retail banking", "travel", "insurance", "the help desk", "mobile phones", "energy", "streaming", "grocery",
    "parcel delivery", "car rental", "health care", "housing", "payroll", "the webshop", "airline", "legal",
    "human resources", "public transport", "gaming", "software", "furniture", "press", "university", "tax",
)  # fmt: skip
LAYOUTS = (
    ("{opening}{job}\n\nText: ", ""),
    ("{opening}{job}\n\nText: ", "\n\nAnswer:"),
    ('{opening}{job}\n\n"""', '"""'),
    ("", "\n\n---\n{opening}{job}"),
    ("Text: ", "\n\nTask: {opening}{job}"),
)


@dataclass(frozen=True, slots=True)
class Request:
    """One message of a log, its true input and the number of its template."""

    message: str
    input: str
    group: int


Grouping = tuple[list[Any], list[str]]
"""A group and an input for each request."""


def texts_of(name: str) -> list[str]:
    rows = read(name)
    key = next(key for key in ("text", "question", "prompt") if key in rows[0])
    return list(dict.fromkeys(row[key] for row in rows))


def make_log(n_templates: int, seed: int) -> list[Request]:
    """40 requests a template on average, the most frequent about four times as many as the rarest; free chat."""
    rng = random.Random(seed)
    jobs = rng.sample([job.format(domain=domain) for job in JOBS for domain in DOMAINS], n_templates)
    chosen = []
    for job in jobs:
        opening, layout = rng.choice(OPENINGS), rng.choice(LAYOUTS)
        chosen.append([part.format(opening=opening, job=job) for part in layout])
    texts = [texts_of(name) for name in INPUTS]
    weights = [(rank + 1 + n_templates / 10) ** -0.6 for rank in range(n_templates)]
    groups = rng.choices(range(n_templates), weights, k=max(40 * n_templates, 400))
    requests = []
    for group in groups:
        prefix, suffix = chosen[group]
        text = rng.choice(texts[group % len(texts)])
        requests.append(Request(prefix + text + suffix, text, group))
    chat = [text for name in CHATS for text in texts_of(name)]
    requests += [Request(text, text, CHAT) for text in chat]
    rng.shuffle(requests)
    return requests


def pilotfish(messages: Sequence[str]) -> Grouping:
    recogniser = Recogniser(learn("log", messages))
    split = [recogniser.split("log", message) for message in messages]
    return [item.task_id for item in split], [item.text or "" for item in split]


def drain(messages: Sequence[str], n_words: int | None) -> Grouping:
    """drain3's clusters; the words of a cluster that are constant at both ends are taken off the input."""
    config = TemplateMinerConfig()
    config.drain_depth = DRAIN_DEPTH
    config.drain_sim_th = DRAIN_SIMILARITY
    config.parametrize_numeric_tokens = False
    miner = TemplateMiner(config=config)
    groups = []
    for message in messages:
        words = message.split()[:n_words]
        words += [""] * ((n_words or 0) - len(words))
        groups.append(miner.drain.add_log_message(" ".join(words))[0].cluster_id)
    constants = {cluster.cluster_id: cluster.log_template_tokens for cluster in miner.drain.clusters}
    inputs = [
        strip(message, constants[group], n_words is None) for message, group in zip(messages, groups, strict=True)
    ]
    sizes = Counter(groups)
    return [group if sizes[group] >= MIN_SUPPORT else "chat" for group in groups], inputs


def strip(message: str, tokens: Sequence[str], has_ending: bool) -> str:
    """The message without the words before its first and, `has_ending`, after its last parameter."""
    first = next((index for index, token in enumerate(tokens) if token == "<*>"), len(tokens))
    pieces = message.split(None, first)
    text = pieces[first] if len(pieces) > first else ""
    if has_ending:
        last = next((index for index, token in enumerate(reversed(tokens)) if token == "<*>"), 0)
        text = text.rsplit(None, last)[0] if last and text else text
    return text


def grouping_accuracy(truth: Sequence[int], found: Sequence[Any]) -> float:
    """The share of templated requests whose group holds exactly the requests of their template, no more and no less."""
    by_truth, by_found = defaultdict(set), defaultdict(set)
    for index, (true, group) in enumerate(zip(truth, found, strict=True)):
        by_truth[true].add(index)
        by_found[group].add(index)
    templated = [index for index, true in enumerate(truth) if true != CHAT]
    return sum(by_truth[truth[index]] == by_found[found[index]] for index in templated) / len(templated)


def measure(requests: Sequence[Request], method: Callable[[Sequence[str]], Grouping]) -> dict[str, float]:
    messages = [request.message for request in requests]
    start = time.perf_counter()
    groups, inputs = method(messages)
    seconds = time.perf_counter() - start
    truth = [request.group for request in requests]
    templated = [index for index, group in enumerate(truth) if group != CHAT]
    chat = [index for index, group in enumerate(truth) if group == CHAT]
    common = Counter(groups[index] for index in chat).most_common(1)[0][0]
    return {
        "grouping_accuracy": grouping_accuracy(truth, groups),
        "adjusted_rand": adjusted_rand_score(truth, [str(group) for group in groups]),
        "v_measure": v_measure_score(truth, [str(group) for group in groups]),
        "inputs_exact": sum(inputs[i].strip() == requests[i].input.strip() for i in templated) / len(templated),
        "chat_kept_apart": sum(groups[index] == common for index in chat) / len(chat),
        "seconds": seconds,
    }


def ids_kept(requests: Sequence[Request]) -> dict[str, float]:
    """Of the templates learnt from the first 60 % of a log the share learnt again from all of it: of all, and of the
    true ones (the others are what rare templates share, and give way when those become frequent enough)."""
    messages = [request.message for request in requests]
    before = {(item.prefix, item.suffix) for item in learn("log", messages[: int(0.6 * len(messages))])}
    after = {(item.prefix, item.suffix) for item in learn("log", messages)}
    cuts = [(item.message.partition(item.input), item.message.rpartition(item.input)) for item in requests]
    true = before & {(head[0], tail[2]) for head, tail in cuts}
    return {
        "ids_kept": len(before & after) / max(len(before), 1),
        "true_ids_kept": len(true & after) / max(len(true), 1),
    }


def look_up_s(n_templates: int) -> float:
    """Seconds to recognise one request of 300 characters among `n_templates` of one instructions id, best of 5."""
    names = [f"{word} {number}" for word in ("orders", "refunds", "cards") for number in range(n_templates)]
    templates = [
        Template(instructions_id=RECOGNISED_ID, prefix=f"You are an agent for {name}. Classify the text: ", suffix=end)
        for name, end in zip(names[:n_templates], itertools.cycle(("", "\n\nAnswer:")), strict=False)
    ]
    recogniser = Recogniser(templates)
    rng = random.Random(0)
    requests = [
        ChatRequest(messages=[Message(role="user", content=template.prefix + "some words " * 22 + template.suffix)])
        for template in rng.choices(templates, k=1000)
    ]
    assert all(recogniser.recognise(request).task_id != RECOGNISED_ID for request in requests)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for request in requests:
            recogniser.recognise(request)
        best = min(best, (time.perf_counter() - start) / len(requests))
    return best


RECOGNISED_ID = Recogniser([]).recognise(ChatRequest(messages=[Message(role="user", content="")])).instructions_id


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    methods: dict[str, Callable[[Sequence[str]], Grouping]] = {
        "pilotfish": pilotfish,
        "drain3, whole messages": lambda messages: drain(messages, None),
        f"drain3, first {DRAIN_WORDS} words": lambda messages: drain(messages, DRAIN_WORDS),
    }
    rows: list[dict[str, Any]] = []
    print(f"{'templates':>9} {'requests':>8} {'method':24} groups   ARI     V inputs   chat     s")
    for n_templates in (3, 30, 300):
        logs = [make_log(n_templates, seed) for seed in range(arguments.seeds)]
        for name, method in methods.items():
            runs = [measure(log, method) for log in logs]
            mean = {key: round(sum(run[key] for run in runs) / len(runs), 4) for key in runs[0]}
            row = {"templates": n_templates, "requests": len(logs[0]), "method": name, **mean}
            if name == "pilotfish":
                kept = [ids_kept(log) for log in logs]
                row |= {key: round(sum(share[key] for share in kept) / len(kept), 4) for key in kept[0]}
            rows.append(row)
            print(
                f"{n_templates:9} {len(logs[0]):8} {name:24} {mean['grouping_accuracy']:6.1%} "
                f"{mean['adjusted_rand']:5.3f} {mean['v_measure']:5.3f} {mean['inputs_exact']:6.1%} "
                f"{mean['chat_kept_apart']:6.1%} {mean['seconds']:5.2f}"
            )
    look_ups = {str(n): round(look_up_s(n) * 1e6, 2) for n in (10, 100, 1000, 10_000)}
    print("look-up, µs a request, by number of templates:", look_ups)
    save("recognise", rows=rows, look_up_us=look_ups)


if __name__ == "__main__":
    main()
