"""What learnt routes are worth on recorded outcomes of real models, beside every control, and what a decision costs.

    python benchmarks/routing/quality.py [--encoder | --finetune FOLDER] [--only SET]

Each pair is learnt on the `train` rows of its file and judged on its `dev` rows, which nothing has seen: for MMLU
these are other subjects. MMLU's unseen subjects: five groups of all its subjects, each judged by what the others
taught, ranked together. MMLU in domain: learnt from the rows of other subjects and 300 or 1,500 rows drawn from those
that are judged, judged on all others of these; judged are the `dev` subjects (1,005 rows, so 300 alone), or each half
of all. GSM8K also cross-validated over all its rows, by the prompt alone and with the weak answer read.

RouteLLM's .603 is its best published figure on the whole of MMLU, not on these rows. `over_hull` is by how much of a
score point (of 100) quality lies above mixing single models at equal cost; a claim is made where it is above 0 and the
interval of APGR lies above .5. Rankings "in hindsight" know of the very rows that are judged what no prompt tells: they
say how far a ranking can come. Costs of LLMRouter's models are their prices for 1,000 tokens each, since the rows have
no token counts.

With --encoder the frozen default encoder reads the prompts too; with --finetune its last layers learn from the rows
that teach first, as `pilotfish route train --finetune` lets them, and FOLDER keeps what is learnt (a second run finds
it there; in all about an hour of one core). Writes benchmarks/results/routing_quality-DATE.json
(routing_quality_SET-DATE.json with --only, routing_quality_mmlu_encoder-DATE.json with --encoder,
routing_quality_mmlu_finetuned-DATE.json with --finetune).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.config import load
from pilotfish.core.outcome import Outcome
from pilotfish.evals import routed
from pilotfish.evals.outcomes import read_outcomes
from pilotfish.evals.routed import Pair, Ranking
from pilotfish.guarantees.route_attempt import Finetuning, Tuned
from pilotfish.routing.gain import Gain
from pilotfish.routing.learn import Learnt, Material, learn
from pilotfish.routing.reader import Frozen
from pilotfish.routing.route import Route, Step
from pilotfish.specialists.encoder import Encoder
from pilotfish.students import weights
from pilotfish.students.encoder_cache import open_encoder
from pilotfish.students.outcome_reader import RECIPE
from pilotfish.students.recipe import Tuning

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import DATA, save, show

USD_PER_MTOK = {
    "gemma-2-9b-it": 0.10,
    "qwen2.5-7b-instruct": 0.20,
    "codegemma-7b": 0.20,
    "llama-3.1-8b-instruct": 0.20,
    "llama3-chatqa-1.5-8b": 0.20,
    "mistral-7b-instruct-v0.3": 0.20,
    "llama-3.3-nemotron-super-49b-v1": 0.90,
    "llama-3.1-nemotron-51b-instruct": 0.90,
    "llama3-chatqa-1.5-70b": 0.90,
}
PAIRS = (
    ("routing_mmlu", "", ""),
    ("routing_gsm8k", "", ""),
    ("routing_gsm8k_43models", "gemma-2-2b-it", "gpt-4o-2024-08-06"),
    ("routing_gsm8k_43models", "Meta-Llama-3.1-8B-Instruct", "claude-3-5-sonnet-20241022"),
    ("routing_cruxeval_51models", "gemma-2-2b-it", "gpt-4o-2024-08-06"),
    ("routing_cruxeval_51models", "Qwen2.5-7B-Instruct", "gpt-4o-2024-08-06"),
    ("routing_llmrouter_9models", "llama-3.1-8b-instruct", "llama-3.1-nemotron-51b-instruct"),
    ("routing_llmrouter_9models", "mistral-7b-instruct-v0.3", "llama-3.1-nemotron-51b-instruct"),
    ("routing_alpacaeval_49models", "Mixtral-8x7B-Instruct-v0.1_concise", "gpt4_1106_preview"),
    ("routing_alpacaeval_49models", "gemma-2b-it", "gpt4_1106_preview"),
    ("routing_bbh_direct_vs_cot", "", ""),
)
ROUTELLM_MMLU = 0.603


def outcomes(name: str, split: str = "") -> list[Outcome]:
    path = DATA / f"{name}.jsonl.gz"
    if not path.is_file():
        sys.exit(f"skipped: {path.name} is not there (it lies in ../shared/data of a development checkout)")
    found = read_outcomes([path], split=split)
    if name != "routing_llmrouter_9models":
        return found
    return [
        replace(
            outcome,
            tried={m: replace(tried, cost_usd=USD_PER_MTOK[m] / 1e3) for m, tried in outcome.tried.items()},
        )
        for outcome in found
    ]


def by_prompt(found: Sequence[Outcome]) -> list[Outcome]:
    """The same outcomes without anything of the answers but their scores."""
    return [
        replace(
            outcome,
            tried={m: replace(tried, text=None, output_tokens=None) for m, tried in outcome.tried.items()},
        )
        for outcome in found
    ]


def hindsight(name: str, pair: Pair) -> list[Ranking]:
    """What rankings would be worth that know of the judged outcomes what no prompt can tell: ends of the scale."""
    gains = np.array(pair.gains)
    if name == "routing_mmlu":
        subjects = np.array([outcome.tags["subject"] for outcome in pair.outcomes])
        means = {subject: gains[subjects == subject].mean() for subject in set(subjects)}
        return [Ranking(name="the subject's mean gain, in hindsight", needs=[float(means[one]) for one in subjects])]
    if name == "routing_gsm8k":
        others = {one.request_id: one.tried.values() for one in outcomes("routing_gsm8k_43models")}
        hard = [-statistics.fmean(tried.score for tried in others[one.request_id]) for one in pair.outcomes]
        return [Ranking(name="how few of 43 other models solve it, in hindsight", needs=hard)]
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """What a pair's outcomes taught, and the encoder that its heads go with, if it has any."""

    learnt: Learnt
    encoder: Encoder | None = None

    def needs(self, pair: Pair, gain: Gain | None = None) -> list[float]:
        """What the gain, or another of the same heads, says of a pair's outcomes. What nothing foretells is a coin."""
        gain = gain or self.learnt.gain
        if gain is None:
            return [0.0] * len(pair.outcomes)
        rows = [self.embedding(gain, row.prompt) for row in pair.outcomes]
        return [
            gain(row, row.tried[pair.small], embedding) or 0.0
            for row, embedding in zip(pair.outcomes, rows, strict=True)
        ]

    def embedding(self, gain: Gain, prompt: str) -> list[float] | None:
        """What the heads of a gain read."""
        if gain.heads is None or self.encoder is None:
            return None
        return self.encoder.encode([prompt])[0].tolist()


class Bench:
    """Learns and judges, without an encoder, with the default one, or with one that learns too, in a folder."""

    def __init__(self, encoder: Encoder | None, folder: Path | None) -> None:
        self.encoder, self.folder = encoder, folder
        self.taught: dict[str, tuple[Pair, Taught]] = {}
        self.known: dict[str, Any] = {}
        self.started = time.process_time()

    def learn(self, pair: Pair) -> Taught:
        """What a pair's outcomes teach."""
        encoder, reader = self.encoder, None
        if encoder is not None and self.folder is not None:
            tuning = Tuning(weights=weights.find(), recipe=RECIPE)
            models = [pair.small, pair.reference]
            reader = Tuned(pair.outcomes, models, Finetuning(encoder=encoder, tuning=tuning, folder=self.folder))
        elif encoder is not None:
            reader = Frozen(pair.outcomes, self.embed(encoder, pair), encoder.sha256)
        learnt = learn(Material(outcomes=pair.outcomes, smaller=pair.small, larger=pair.reference, reader=reader))
        if isinstance(reader, Tuned) and reader.files:
            encoder = Encoder.of(reader.files, "route")
        told = "" if learnt.apgr is None else f", out of fold APGR {learnt.apgr:.3f}"
        cpu_s = time.process_time() - self.started
        print(f"learnt from {len(pair.outcomes):,} outcomes{told} ({cpu_s:,.0f} CPU-seconds so far)", flush=True)
        return Taught(learnt=learnt, encoder=encoder)

    def embed(self, encoder: Encoder, pair: Pair) -> Any:
        """Embeddings of the prompts by the default encoder."""
        for row in pair.outcomes:
            if row.prompt not in self.known:
                self.known[row.prompt] = encoder.encode([row.prompt])[0]
        return np.array([self.known[row.prompt] for row in pair.outcomes])

    def foreign(self, name: str, small: str, reference: str, *, prompt_only: bool) -> list[dict[str, Any]]:
        """Learnt on train, judged on dev, with the controls."""
        strip = by_prompt if prompt_only else list
        fit = routed.pair(strip(outcomes(name, "train")), small, reference)
        dev = routed.pair(strip(outcomes(name, "dev")), small, reference)
        taught = self.learn(fit)
        learnt = taught.learnt
        if not prompt_only:
            self.taught[name] = fit, taught
        for worth in learnt.worths:
            if worth.name == "encoder":
                print(f"the encoder alone, out of fold: APGR {worth.apgr:.3f}, p = {worth.p:.2g}", flush=True)
        rankings = [*routed.controls(dev), *hindsight(name, dev)]
        if learnt.gain is not None and learnt.gain.heads is not None:
            heads = replace(learnt.gain, trees=(), intercept=0.0, tasks={})
            rankings.insert(0, Ranking(name="heads of the encoder alone", needs=taught.needs(dev, heads)))
        if learnt.gain is not None:
            reads = bool(learnt.gain.signals)
            own = Ranking(name="learnt", needs=taught.needs(dev), reads_answer=reads, is_control=False)
            rankings.insert(0, own)
        best = max(routed.singles(dev).values(), key=lambda point: point.quality)
        cells = []
        for ranking in rankings:
            figures = routed.measure(dev, ranking)
            low = figures.apgr.low
            cells.append(
                {
                    "set": f"{name.removeprefix('routing_')}{', prompt only' if prompt_only else ''}",
                    "pair": f"{dev.small} > {dev.reference}",
                    "n": len(dev.outcomes),
                    "ranking": ranking.name,
                    "learnt_from": learnt.kind if not ranking.is_control else "",
                    "out_of_fold": None if ranking.is_control else learnt.apgr,
                    "apgr": figures.apgr.value,
                    "low": low,
                    "high": figures.apgr.high,
                    "cpt50": figures.cpt50,
                    "cpt80": figures.cpt80,
                    "aiq": figures.aiq,
                    "over_hull": figures.over_hull,
                    "best_single": best.quality,
                    "claim": bool(not ranking.is_control and low and low > 0.5 and (figures.over_hull or 0.0) > 0.0),
                }
            )
        if learnt.gain is None:
            print(f"{name} {small}: nothing is learnt: {learnt.why_none}")
        return cells

    def unseen_subjects(self) -> dict[str, Any]:
        """MMLU: every subject judged by what others taught, five groups of them; the first are the `dev` subjects."""
        pair = routed.pair(outcomes("routing_mmlu"))
        subjects = np.array([outcome.tags["subject"] for outcome in pair.outcomes])
        is_dev = np.array([outcome.split == "dev" for outcome in pair.outcomes])
        others = np.random.default_rng(7).permutation(sorted(set(subjects[~is_dev])))
        needs, apgrs = np.empty(len(subjects)), []
        for wanted in [set(subjects[is_dev]), *(set(others[start::4]) for start in range(4))]:
            own = np.flatnonzero([subject in wanted for subject in subjects])
            fit, rest = (routed.subset(pair, rows) for rows in (np.setdiff1d(np.arange(len(subjects)), own), own))
            needs[own] = self.learn(fit).needs(rest)
            apgrs.append(routed.measure(rest, Ranking(name="learnt", needs=needs[own].tolist())).apgr.value)
        cells = {
            "learnt": needs.tolist(),
            **{one.name: one.needs for one in (*routed.controls(pair), *hindsight("routing_mmlu", pair))},
        }
        figures = {name: routed.measure(pair, Ranking(name=name, needs=one)) for name, one in cells.items()}
        return {
            "n": len(subjects),
            "groups": apgrs,
            "rankings": [
                {
                    "ranking": name,
                    "apgr": one.apgr.value,
                    "low": one.apgr.low,
                    "high": one.apgr.high,
                    "over_hull": one.over_hull,
                }
                for name, one in figures.items()
            ],
        }

    def in_domain(self, n: int, judged: str, repeats: int) -> dict[str, Any]:
        """MMLU: learnt from all other subjects and n rows of those that are judged, judged on their other rows."""
        pair = routed.pair(outcomes("routing_mmlu"))
        subjects = [outcome.tags["subject"] for outcome in pair.outcomes]
        dev = {subject for outcome, subject in zip(pair.outcomes, subjects, strict=True) if outcome.split == "dev"}
        halves = [set(sorted(set(subjects))[start::2]) for start in (0, 1)]
        values, lows, highs = [], [], []
        for seed in range(repeats):
            for wanted in [dev] if judged == "dev" else halves:
                own = [i for i, subject in enumerate(subjects) if subject in wanted]
                drawn = np.random.default_rng(seed).permutation(own).tolist()
                others = sorted(set(range(len(subjects))) - set(own))
                fit, rest = (routed.subset(pair, rows) for rows in (others + drawn[:n], drawn[n:]))
                needs = self.learn(fit).needs(rest)
                figures = routed.measure(rest, Ranking(name="learnt", needs=needs)).apgr
                values.append(figures.value)
                lows.append(figures.low)
                highs.append(figures.high)
        return {
            "judged": judged,
            "labels": n,
            "repeats": len(values),
            "apgr": statistics.fmean(values),
            "mean_low": statistics.fmean(lows),
            "mean_high": statistics.fmean(highs),
            "lowest": min(values),
            "highest": max(values),
        }

    def cross_validated(self, *, prompt_only: bool) -> dict[str, Any]:
        """GSM8K out of fold, over all its rows."""
        pair = routed.pair((by_prompt if prompt_only else list)(outcomes("routing_gsm8k")))
        learnt = self.learn(pair).learnt
        figures = routed.measure(pair, Ranking(name="learnt", needs=learnt.needs))
        return {
            "set": "gsm8k, all rows",
            "reads": "prompt" if prompt_only else learnt.kind,
            "n": len(pair.outcomes),
            "apgr": figures.apgr.value,
            "low": figures.apgr.low,
            "high": figures.apgr.high,
            "signals": ", ".join(worth.name for worth in learnt.worths if worth.is_used),
        }

    def decision(self, only: str) -> list[dict[str, Any]]:
        """CPU time of one decision; the encoder's own included where there is one."""
        cells = []
        for name in ("routing_mmlu", "routing_gsm8k"):
            if only not in name:
                continue
            pair, taught = self.taught[name]
            gain = taught.learnt.gain
            assert gain is not None
            reads = bool(gain.signals)
            step = Step(model=pair.small, gain=gain, reads_answer=reads)
            route = Route(steps=(step,), reference=pair.reference, threshold=0.1)
            times = []
            for row in pair.outcomes[:400]:
                started = time.process_time_ns()
                embedding = taught.embedding(gain, row.prompt)
                if reads:
                    route.after(0, row, row.tried[pair.small], embedding)
                else:
                    route.first(row, embedding)
                times.append((time.process_time_ns() - started) / 1e3)
            times.sort()
            goal = 300.0 if gain.heads is None else 5000.0
            cells.append(
                {
                    "set": name.removeprefix("routing_"),
                    "reads": taught.learnt.kind,
                    "with_encoder": gain.heads is not None,
                    "p50_us": statistics.median(times),
                    "p95_us": times[int(0.95 * len(times))],
                    "goal_us": goal,
                    "met": statistics.median(times) <= goal,
                }
            )
        return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", action="store_true", help="MMLU alone, with the frozen default encoder")
    parser.add_argument(
        "--finetune", type=Path, metavar="FOLDER", help="MMLU alone, with the default encoder fine-tuned on `train`"
    )
    parser.add_argument(
        "--only", default="", metavar="SET", help="sets of this name alone, written to a file of its own"
    )
    options = parser.parse_args()
    reads = options.encoder or options.finetune is not None
    only = "mmlu" if reads else options.only
    bench = Bench(open_encoder(load.cache()) if reads else None, options.finetune)
    foreign = [
        cell
        for name, small, reference in PAIRS
        if only in name
        for cell in bench.foreign(name, small, reference, prompt_only=False)
    ]
    if only in "gsm8k":
        foreign += bench.foreign("routing_gsm8k", "", "", prompt_only=True)
    show("learnt on train, judged on dev", foreign)
    figures: dict[str, Any] = {"routellm_mmlu": ROUTELLM_MMLU, "train_to_dev": foreign}
    if only in "mmlu":
        unseen = bench.unseen_subjects()
        figures["mmlu_unseen_subjects"] = unseen
        show(f"MMLU, all {unseen['n']:,} rows, each judged by what other subjects taught", unseen["rankings"])
        plans = (
            [(300, "halves"), (1500, "halves")]
            if options.finetune
            else [(300, "dev"), (300, "halves"), (1500, "halves")]
        )
        figures["mmlu_in_domain"] = [bench.in_domain(*plan, 1 if reads else 2) for plan in plans]
        show("MMLU, with labels of the subjects judged", figures["mmlu_in_domain"])
    if only in "gsm8k":
        figures["gsm8k_cross_validated"] = [bench.cross_validated(prompt_only=one) for one in (True, False)]
        show("GSM8K, cross-validated", figures["gsm8k_cross_validated"])
    figures["decision"] = bench.decision(only)
    show("a decision, CPU time", figures["decision"])
    how = "encoder" if options.encoder else "finetuned" if options.finetune else ""
    save("_".join(part for part in ("routing_quality", only, how) if part), figures=figures)


if __name__ == "__main__":
    main()
