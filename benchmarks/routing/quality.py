"""What learnt routes are worth on recorded outcomes of real models, beside every control, and what a decision costs.

    python benchmarks/routing/quality.py [--encoder | --finetune FOLDER] [--only SET]

Each pair is learnt on the `train` rows of its file and judged on its `dev` rows, which nothing has seen: for MMLU
these are other subjects. MMLU in domain: learnt from the rows of other subjects and 300 or 1,500 rows drawn from those
that are judged, judged on all others of these, several times; judged are the `dev` subjects (1,005 rows, so 300
alone), or each half of all. GSM8K also cross-validated over all its rows, by the prompt alone and with the weak answer
read. RouteLLM's .603 is its best published figure on the whole of MMLU, not on
these rows. `over_hull` is by how much of a score point (of 100) quality lies above mixing single models at equal
cost; a claim is made where it is above 0 and the interval of APGR lies above .5. Costs of LLMRouter's models are
their prices for 1,000 tokens each, since the rows have no token counts. With --encoder the frozen default encoder
reads the prompts too; with --finetune its last layers learn from the `train` rows first, as `pilotfish route train
--finetune` lets them, and FOLDER keeps what is learnt (a second run finds it there); in domain is then each half of the
`train` rows by what the other taught. Writes
benchmarks/results/routing_quality-DATE.json (routing_quality_SET-DATE.json with --only,
routing_quality_mmlu_encoder-DATE.json with --encoder, routing_quality_mmlu_finetuned-DATE.json with --finetune).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
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


class Bench:
    """Learns and judges, with the encoder or without."""

    def __init__(self, encoder: Encoder | None) -> None:
        self.encoder = encoder
        self.finetuning_s = 0.0
        self.tuned: dict[int, Tuned] = {}
        self.learnt: dict[str, tuple[Pair, Learnt]] = {}
        self.known: dict[str, Any] = {}

    def embed(self, pair: Pair) -> Any:
        """Embeddings of the prompts."""
        assert self.encoder is not None
        for row in pair.outcomes:
            if row.prompt not in self.known:
                self.known[row.prompt] = self.encoder.encode([row.prompt])[0]
        return np.array([self.known[row.prompt] for row in pair.outcomes])

    def learn(self, pair: Pair) -> Learnt:
        """What a pair's outcomes teach."""
        reader = self.tuned.pop(id(pair.outcomes), None)
        if reader is None and self.encoder is not None:
            reader = Frozen(pair.outcomes, self.embed(pair), self.encoder.sha256)
        return learn(Material(outcomes=pair.outcomes, smaller=pair.small, larger=pair.reference, reader=reader))

    def finetune(self, pair: Pair, folder: Path) -> None:
        """Let the last layers of the encoder learn from the outcomes; from then on that encoder reads."""
        assert self.encoder is not None
        tuning = Finetuning(encoder=self.encoder, tuning=Tuning(weights=weights.find(), recipe=RECIPE), folder=folder)
        reader = Tuned(pair.outcomes, [pair.small, pair.reference], tuning)
        for n in range(1 + reader.n_folds):
            started = time.process_time()
            rows = np.arange(len(pair.outcomes))
            print(f"fine-tuning {n + 1} of {1 + reader.n_folds}", flush=True)
            folds = np.random.default_rng(0).permutation(len(rows)) % reader.n_folds
            reader.heads(rows[folds != n], pair.small, pair.reference)
            # The last one is on all rows; what FOLDER holds of it already is not counted.
            self.finetuning_s = time.process_time() - started
        self.encoder = Encoder.of(reader.files, "route")
        self.tuned[id(pair.outcomes)] = reader

    def needs(self, gain: Gain, pair: Pair) -> list[float]:
        """What a gain says of a pair's outcomes."""
        embeddings = self.embed(pair) if gain.heads is not None else [None] * len(pair.outcomes)
        return [
            gain(row, row.tried[pair.small], None if one is None else one.tolist()) or 0.0
            for row, one in zip(pair.outcomes, embeddings, strict=True)
        ]

    def foreign(
        self, name: str, small: str, reference: str, *, prompt_only: bool, folder: Path | None = None
    ) -> list[dict[str, Any]]:
        """Learnt on train, judged on dev, with the controls."""
        strip = by_prompt if prompt_only else list
        fit = routed.pair(strip(outcomes(name, "train")), small, reference)
        dev = routed.pair(strip(outcomes(name, "dev")), small, reference)
        if folder is not None:
            self.finetune(fit, folder)
        learnt = self.learn(fit)
        if not prompt_only:
            self.learnt[name] = fit, learnt
        for worth in learnt.worths:
            if worth.name == "encoder":
                print(f"the encoder alone, out of fold: APGR {worth.apgr:.3f}, p = {worth.p:.2g}", flush=True)
        rankings = routed.controls(dev)
        if learnt.gain is not None and learnt.gain.heads is not None:
            heads = replace(learnt.gain, trees=(), intercept=0.0, tasks={})
            rankings.insert(0, Ranking(name="heads of the encoder alone", needs=self.needs(heads, dev)))
        if learnt.gain is not None:
            reads = bool(learnt.gain.signals)
            own = Ranking(name="learnt", needs=self.needs(learnt.gain, dev), reads_answer=reads, is_control=False)
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
                learnt = self.learn(fit)
                # What nothing foretells is not routed: a coin.
                needs = [0.0] * len(rest.outcomes) if learnt.gain is None else self.needs(learnt.gain, rest)
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
        learnt = self.learn(pair)
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
            pair, learnt = self.learnt[name]
            assert learnt.gain is not None
            reads = bool(learnt.gain.signals)
            step = Step(model=pair.small, gain=learnt.gain, reads_answer=reads)
            route = Route(steps=(step,), reference=pair.reference, threshold=0.1)
            times = []
            for row in pair.outcomes[:400]:
                started = time.process_time_ns()
                embedding = None
                if learnt.gain.heads is not None and self.encoder is not None:
                    embedding = self.encoder.encode([row.prompt])[0].tolist()
                if reads:
                    route.after(0, row, row.tried[pair.small], embedding)
                else:
                    route.first(row, embedding)
                times.append((time.process_time_ns() - started) / 1e3)
            times.sort()
            goal = 300.0 if learnt.gain.heads is None else 5000.0
            cells.append(
                {
                    "set": name.removeprefix("routing_"),
                    "reads": learnt.kind,
                    "with_encoder": learnt.gain.heads is not None,
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
    bench = Bench(open_encoder(load.cache()) if reads else None)
    foreign = [
        cell
        for name, small, reference in PAIRS
        if only in name
        for cell in bench.foreign(name, small, reference, prompt_only=False, folder=options.finetune)
    ]
    if only in "gsm8k":
        foreign += bench.foreign("routing_gsm8k", "", "", prompt_only=True)
    show("learnt on train, judged on dev", foreign)
    figures: dict[str, Any] = {"routellm_mmlu": ROUTELLM_MMLU, "train_to_dev": foreign}
    # The encoder that has learnt from the training subjects knows those of the halves.
    if only in "mmlu" and not options.finetune:
        repeats = 1 if options.encoder else 2
        plans = [(300, "dev", repeats), (300, "halves", repeats), (1500, "halves", repeats)]
        figures["mmlu_in_domain"] = [bench.in_domain(*plan) for plan in plans]
        show("MMLU, with labels of the subjects judged", figures["mmlu_in_domain"])
    if only in "gsm8k":
        figures["gsm8k_cross_validated"] = [bench.cross_validated(prompt_only=one) for one in (True, False)]
        show("GSM8K, cross-validated", figures["gsm8k_cross_validated"])
    if options.finetune:
        fit, learnt = bench.learnt["routing_mmlu"]
        told = routed.measure(fit, Ranking(name="learnt", needs=learnt.needs)).apgr
        halves = {"labels": len(fit.outcomes) // 2, "apgr": told.value, "low": told.low, "high": told.high}
        halves["encoder_alone"] = next(worth.apgr for worth in learnt.worths if worth.name == "encoder")
        figures["mmlu_in_domain_halves_of_train"] = halves
        show("MMLU, each half of the train rows by what the other taught", [halves])
        figures["finetuning_on_all_rows_cpu_s"] = bench.finetuning_s
    figures["decision"] = bench.decision(only)
    show("a decision, CPU time", figures["decision"])
    how = "encoder" if options.encoder else "finetuned" if options.finetune else ""
    save("_".join(part for part in ("routing_quality", only, how) if part), figures=figures)


if __name__ == "__main__":
    main()
