"""Ten pairs of models whose scores were recorded elsewhere: the verdicts agree with what is known of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.evals.candidates import Place, candidate
from pilotfish.evals.recordings import recorded_items
from pilotfish.evals.report import Report, report
from pilotfish.evals.run import Options, run
from pilotfish.evals.run_file import Head, RunFile
from pilotfish.evals.verdict import Rule
from pilotfish.scoring.scorers import scorer

GSM, CRUX, BBH, ALPACA = "gsm8k_43models", "cruxeval_51models", "bbh_direct_vs_cot", "alpacaeval_49models"
LLMROUTER = "llmrouter_9models"
# Data, candidate, baseline, mean scores of both from the table beside the data, verdict.
PAIRS = [
    (GSM, "gemma-2-2b-it", "gpt-4o-2024-08-06", 0.5167, 0.9606, "worse"),
    (GSM, "Meta-Llama-3.1-8B-Instruct", "claude-3-5-sonnet-20241022", 0.8318, 0.9636, "worse"),
    (GSM, "claude-3-5-sonnet-20241022", "Meta-Llama-3.1-8B-Instruct", 0.9636, 0.8318, "better"),
    (CRUX, "gemma-2-2b-it", "gpt-4o-2024-08-06", 0.2150, 0.8700, "worse"),
    (CRUX, "Qwen2.5-7B-Instruct", "gpt-4o-2024-08-06", 0.5275, 0.8700, "worse"),
    (CRUX, "claude-3-5-sonnet-20241022", "Meta-Llama-3.1-8B-Instruct", 0.8388, 0.3988, "better"),
    (BBH, "code-davinci-002 chain-of-thought", "code-davinci-002 direct", 0.7961, 0.5331, "better"),
    (ALPACA, "gemma-2b-it", "gpt4_1106_preview", 0.0339, 0.5000, "worse"),
    (LLMROUTER, "llama-3.1-8b-instruct", "llama-3.1-nemotron-51b-instruct", 0.5566, 0.6200, "worse"),
    ("gsm8k_gpt3_6b_175b", "175b_verification", "6b_verification", 0.5621, 0.4045, "better"),
]


def compared(path: Path, folder: Path, *names: str) -> Report:
    models = [candidate(f"{path}#{name}", Place()) for name in names]
    data = recorded_items([model.recordings[0] for model in models])
    head = Head(data=path.name, data_sha256="", prompts_sha256="", scorer="as recorded", n_items=len(data.items))
    with RunFile(folder / "run.jsonl", head) as file:
        run(data.items, models, scorer("exact"), file, Options())
        return report(data.items, file, [model.name for model in models], Rule(resamples=1000))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[1]} against {pair[2]}")
def test_the_verdict_agrees_with_the_recorded_truth(shared_data, tmp_path, pair):
    data, name, baseline, score, baseline_score, verdict = pair
    found = compared(shared_data / f"routing_{data}.jsonl.gz", tmp_path, baseline, name)
    first, second = found.models
    assert first.quality.value == pytest.approx(baseline_score, abs=1e-4)
    assert second.quality.value == pytest.approx(score, abs=1e-4)
    (comparison,) = found.comparisons
    assert comparison.verdict == verdict
    assert comparison.interval.low < score - baseline_score < comparison.interval.high


def test_three_hosts_of_one_model_are_not_told_apart(shared_data, tmp_path):
    hosts = ["Llama-3.1-405B-Inst@sambanova", "Llama-3.1-405B-Inst@hyperbolic", "Llama-3.1-405B-Inst-fp8@together"]
    found = compared(shared_data / f"routing_{GSM}.jsonl.gz", tmp_path, *hosts)
    assert {comparison.verdict for comparison in found.comparisons} <= {"non-inferior", "not enough data"}
