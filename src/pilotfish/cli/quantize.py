"""`pilotfish quantize MODEL --on DATA`: what does this model lose in fewer bits, and what does that save?

MODEL is a task with a specialist, a classifier or causal language model that transformers loads, or a GGUF file. Flags
in, a table or JSON out; quantizing is known to `students/`, what the figures are worth to `guarantees/quantized.py`.
Exit code 1 where nothing is shown to be harmless.
"""

from __future__ import annotations

import dataclasses
import functools
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilotfish.cli import options, output
from pilotfish.core.errors import ConfigError, TaskError

if TYPE_CHECKING:
    from pilotfish.config.settings import Settings
    from pilotfish.core.item import Item
    from pilotfish.guarantees.quantized import Change, Loaded, Run, Subject
    from pilotfish.store.base import TaskRecord

FEWEST_ITEMS = 20
CALIBRATION_SHARE = 0.1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What is to be measured, the model before first, and on what: texts with what is expected, less those that
    calibrated. `divergence` tells how far a language model of a kind is from the one before, in nats."""

    subjects: list[Subject]
    items: list[tuple[str, Any]]
    divergence: Callable[[str], float] | None = None


@click.command("quantize", help="What does MODEL lose in fewer bits, on my data, and what does that save?")
@click.argument("model")
@click.option("--on", "source", required=True, help="The data: a file or a known set, as for `compare`.")
@click.option("--kind", "kinds", multiple=True, help="Only this kind (may be repeated); default all that fit MODEL.")
@options.items_options
@options.margin_option
@click.option("--seed", default=0, show_default=True, help="Seed of choices and resamples.")
@click.option(
    "--to", type=click.Path(path_type=Path), help="Keep a task's encoders, or GGUF files, in this new folder."
)
@options.place_options
@options.json_option
def command(model: str, source: str, **flags: Any) -> int:  # noqa: ANN401
    from pilotfish.evals.data import load as load_data
    from pilotfish.evals.verdict import Rule
    from pilotfish.guarantees.quantized import judge, measure

    settings = options.settings_from(flags["config_path"], flags["home"])
    data = load_data(source, limit=flags["limit"], split=flags["split"] or "", seed=flags["seed"])
    rows = list(data.items)
    random.Random(flags["seed"]).shuffle(rows)
    items = [(_text(item), item.expected) for item in rows]
    if len(items) < FEWEST_ITEMS:
        raise ConfigError(
            f"{len(items)} items show nothing about a quantized model; at least {FEWEST_ITEMS} are needed.",
            hint="Give more with --on.",
        )
    with tempfile.TemporaryDirectory() as temporary, output.Progress() as progress:
        work = _work(model, items, settings, flags, Path(temporary))
        runs = []
        for number, subject in enumerate(work.subjects):
            progress("measure", number, len(work.subjects))
            runs.append(measure(subject, work.items))
        kl = {run.kind: work.divergence(run.kind) for run in runs[1:]} if work.divergence else {}
        progress("measure", len(runs), len(runs))
    rule = Rule(margin=flags["margin"], seed=flags["seed"])
    clusters = [item.cluster for item in rows[-len(work.items) :]]
    changes = judge(runs[0], runs[1:], rule, kl, clusters if any(clusters) else None)
    if flags["as_json"]:
        output.print_json({"data": data.name, "before": _row(runs[0]), "after": [_change(found) for found in changes]})
    else:
        _print(runs[0], changes, len(work.items))
    return 0 if any(found.is_harmless for found in changes) else 1


def _text(item: Item) -> str:
    text = item.messages[-1].text
    if not text:
        raise ConfigError(f"Item {item.id!r} has no text to read.", hint="Leave it out of the data.")
    return text


def _work(
    model: str, items: list[tuple[str, Any]], settings: Settings, flags: dict[str, Any], temporary: Path
) -> _Work:
    from pilotfish.config import load
    from pilotfish.store.home import open_home

    source = model.removeprefix("weights:")
    if source.endswith(".gguf"):
        return _of_gguf(Path(source), items, flags, temporary)
    if source != model or (Path(model) / "config.json").is_file() or model.count("/") == 1:
        if flags["to"] is not None:
            raise click.UsageError("--to keeps the encoders of a task; dynamic int8 of torch exists in memory only.")
        return _of_weights(source, items, flags["kinds"])
    place = open_home(load.home(settings))
    record = options.find_task(place.registry, model)
    if not record.specialist_sha256:
        raise TaskError(
            f"Task {record.name!r} has no specialist.", hint=f"`pilotfish distil {record.name} --max-risk 0.05` tries."
        )
    folder = place.specialists / record.specialist_sha256[:16]
    return _of_specialist(folder, record, items, settings.learning.encoder, flags, temporary)


def _of_weights(model: str, items: list[tuple[str, Any]], wanted: Sequence[str]) -> _Work:
    from pilotfish.guarantees.quantized import Loaded, Said, Subject
    from pilotfish.students import quantize_torch as weights

    def opened(kind: str) -> Loaded:
        found = weights.Weights(model, kind)

        def ask(text: str, expected: object) -> Said:
            heard = found.ask(text, expected)
            return Said(answers=heard.answers, confidence=heard.confidence, score=heard.score, loss=heard.loss)

        return Loaded(ask=ask, size_bytes=found.size_bytes)

    kinds = [weights.FP32, *_chosen(wanted, weights.KINDS)]
    is_language = weights.job_of(model) == "language model"
    texts = [text for text, _ in items]
    return _Work(
        subjects=[Subject(kind=kind, open=functools.partial(opened, kind)) for kind in kinds],
        items=items,
        divergence=(lambda kind: weights.divergence(model, kind, texts)) if is_language else None,
    )


def _of_gguf(model: Path, items: list[tuple[str, Any]], flags: dict[str, Any], temporary: Path) -> _Work:
    from pilotfish.guarantees.quantized import Loaded, Said, Subject
    from pilotfish.students import quantize_gguf as gguf

    files = {gguf.BEFORE: model}
    where = _new_folder(flags["to"] or temporary / "gguf")
    for kind in _chosen(flags["kinds"], gguf.KINDS):
        files[kind] = where / f"{model.stem}-{kind.removeprefix('gguf-')}.gguf"
        gguf.quantize(model, kind, files[kind])

    def opened(kind: str) -> Loaded:
        found = gguf.Gguf(files[kind])

        def ask(text: str, _expected: object) -> Said:
            return Said(**dataclasses.asdict(found.ask(text)))

        return Loaded(ask=ask, size_bytes=found.size_bytes)

    texts = [text for text, _ in items]
    return _Work(
        subjects=[Subject(kind=kind, open=functools.partial(opened, kind)) for kind in files],
        items=items,
        divergence=lambda kind: gguf.divergence(model, files[kind], texts),
    )


def _new_folder(where: Path) -> Path:
    if where.exists():
        raise ConfigError(f"{str(where)!r} is there already.", hint="Name a new folder with --to.")
    where.mkdir(parents=True)
    return where


def _of_specialist(
    folder: Path,
    record: TaskRecord,
    items: list[tuple[str, Any]],
    encoder: str,
    flags: dict[str, Any],
    temporary: Path,
) -> _Work:
    from pilotfish.guarantees.quantized import Loaded, Said, Subject
    from pilotfish.scoring.answers import disagreement, parse
    from pilotfish.specialists.card import read_folder
    from pilotfish.specialists.encoder import Encoder
    from pilotfish.specialists.specialist import Specialist
    from pilotfish.students import quantize

    kinds = [quantize.FP32, *_chosen(flags["kinds"], quantize.KINDS)]
    # Calibrating texts are seen by the static kind, so nothing is measured on them.
    n_calibration = round(CALIBRATION_SHARE * len(items))
    calibration, held_out = items[:n_calibration], items[n_calibration:]
    where = flags["to"] or temporary / "encoders"
    if where.exists():
        raise ConfigError(f"{str(where)!r} is there already.", hint="Name a new folder with --to.")

    sizes = {
        kind: quantize.quantize_encoder(encoder, kind, where / kind, [t for t, _ in calibration]) for kind in kinds
    }
    checked = read_folder(folder)

    def opened(kind: str) -> Loaded:
        specialist = Specialist(checked, Encoder.load(where / kind))

        def ask(text: str, expected: object) -> Said:
            found = specialist.predict([text])
            right = None if expected is None else 1 - disagreement(found.answers[0], parse(record.shape, str(expected)))
            return Said(answers=["\t".join(found.answers[0])], confidence=[float(found.certainty[0])], score=right)

        return Loaded(ask=ask, size_bytes=sizes[kind])

    subjects = [Subject(kind=kind, open=functools.partial(opened, kind)) for kind in kinds]
    return _Work(subjects=subjects, items=held_out)


def _chosen(wanted: Sequence[str], known: dict[str, str]) -> list[str]:
    unknown = [kind for kind in wanted if kind not in known]
    if unknown:
        raise ConfigError(f"There is no kind {unknown[0]!r} for this model.", hint=f"Known are {', '.join(known)}.")
    return list(wanted or known)


def _row(run: Run) -> dict[str, Any]:
    return {
        "kind": run.kind,
        "size_bytes": run.size_bytes,
        "memory_bytes": run.memory.to_json(),
        "latency_s": {f"p{100 * share:g}": run.latency(share).to_json() for share in (0.5, 0.95, 0.99)},
        "score": run.score,
        "perplexity": run.perplexity,
    }


def _change(found: Change) -> dict[str, Any]:
    return {
        **_row(found.run),
        "n_answers": found.n_answers,
        "n_flipped": found.n_flipped,
        "n_confident": found.n_confident,
        "n_confident_flipped": found.n_confident_flipped,
        "kl_nats": found.kl,
        "is_harmless": found.is_harmless,
        "verdict": None if found.comparison is None else found.comparison.verdict,
        "sentence": found.sentence,
    }


def _print(before: Run, changes: Sequence[Change], n_items: int) -> None:
    for found in changes:
        click.echo(found.sentence)
    is_language = before.perplexity is not None
    columns = ["kind", "MB", "memory MB", "p50 ms", "p95 ms", "score", "flips", "of the surest 85 %"]
    rows = [_cells(before, None), *(_cells(found.run, found) for found in changes)]
    if is_language:
        columns += ["perplexity", "KL nats"]
        rows[0] += [before.perplexity, None]
        for row, found in zip(rows[1:], changes, strict=True):
            row += [found.run.perplexity, found.kl]
    click.echo()
    output.print_table(columns, rows)
    click.echo(f"\n{n_items:,} items. A flip is an answer that is not what it was; it may be a better one.")


def _cells(run: Run, found: Change | None) -> list[object]:
    def share(n: int, of: int) -> str:
        return f"{n} of {of:,}"

    median, tail = run.latency(0.5).value, run.latency(0.95).value
    return [
        run.kind,
        f"{run.size_bytes / 1e6:.2f}",
        None if run.memory.value is None else f"{run.memory.value / 1e6:.0f}",
        None if median is None else f"{1e3 * median:.2f}",
        None if tail is None else f"{1e3 * tail:.2f}",
        output.percent(run.score, 2),
        share(found.n_flipped, found.n_answers) if found else None,
        share(found.n_confident_flipped, found.n_confident) if found else None,
    ]
