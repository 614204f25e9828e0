"""Writes a certified specialist as a folder that answers without Pilotfish.

It copies the specialist's tensors and the encoder's graph byte for byte, so both can be checked against the hashes that
the certificate names, and adds a runner (`standalone/answer.py`) with what it needs in one `setup.json`. For a browser
`standalone/web/` and a build of onnxruntime-web that the user has go with it. What a runner computes is a second
writing of `specialist.py` and `ngrams.py`; tests hold both to the same bits. It learns and judges nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.core.certificate import Certificate
from pilotfish.core.errors import SpecialistError, UserError
from pilotfish.core.ids import sha256
from pilotfish.core.version import __version__
from pilotfish.specialists import encoder
from pilotfish.specialists.card import Card, Folder, read_folder
from pilotfish.specialists.specialist import TENSORS

GRAPH, TOKENIZER, SETUP = "encoder.onnx", "tokenizer.json", "setup.json"

STUDENTS = ("logistic regression", "n-gram SVM", "nearest neighbours")
"""What the runners can compute. A specialist of other students is refused: it would get other answers."""

WEB_RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""The files of onnxruntime-web that a page needs, the smallest build (no WebGPU)."""

_STANDALONE = Path(__file__).parent / "standalone"
_RUNNER = "answer.py"

_README = """# {task}: answers on its own

This folder answers texts of one task, without Pilotfish and without a network.

    python -m pip install numpy onnxruntime tokenizers
    python {runner} "a text"

or from Python: `from answer import answer; answer("a text")`. One line of JSON for each text:

* `decision` is `serve` where the certificate covers the answer, which stands in `answer`. Else it is `defer`: ask the
  large model. `guess` is what the specialist would have said; nothing is promised about it.
* `reason` is `certified`, `uncertain` (it is not sure enough) or `out-of-scope` (not a text of this task).
* `tier` is 1 where the n-grams alone answered, 2 where the text was encoded too.

Give it the input alone, without the instructions that went with it to the large model.

The promise: disagreement per {per} at most {max_risk:g}, with confidence {confidence:g}, for texts like those it was
certified on, on {coverage:.1%} of them. `certificate.json` holds all of it. Who changes a threshold in `{setup}` leaves
the promise. Nothing here audits it: where the texts may change with time, let a Pilotfish gateway watch.

`sha256sum -c SHA256SUMS` tells whether a file was changed. `certificate.json` names the hash of `specialist.json`
(`artefact_sha256`), which names that of `{tensors}`. Made by Pilotfish {version}.
{web}"""

_WEB_README = """
In a browser: serve this folder (`python -m http.server --bind 127.0.0.1`) and open it. The page loads nothing from
elsewhere. Its scores differ a little from those of `{runner}` on some texts, since WebAssembly rounds floating-point
numbers otherwise; near a threshold the decision may differ. What was certified is what `{runner}` computes.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A written folder: where it is, and the bytes of each file in it."""

    folder: Path
    files: dict[str, int]


def export(
    specialist: Path, encoder_folder: Path, certificate: Certificate, to: Path, *, web_runtime: Path | None = None
) -> Exported:
    """Writes the specialist in its folder, on the encoder in its own, with its certificate, as the new folder `to`.

    With `web_runtime`, a folder that holds the files of onnxruntime-web, a page for browsers goes with it. Raises
    `SpecialistError` where the certificate is another specialist's, a file was changed or the runners cannot compute
    it, `UserError` where `to` has something in it or the browser's tokenizer is of an unknown kind.
    """
    checked = read_folder(specialist)
    _require_known(checked, certificate)
    graph, tokenizer, card = _encoder(encoder_folder, checked.card)
    contents = {
        TENSORS: checked.contents[TENSORS],
        "specialist.json": (specialist / "specialist.json").read_bytes(),
        "certificate.json": _json(certificate.to_json()),
        SETUP: _json(_setup(checked, certificate, card, has_page=web_runtime is not None)),
        GRAPH: graph,
        TOKENIZER: json.dumps(tokenizer, ensure_ascii=False).encode(),
        _RUNNER: (_STANDALONE / _RUNNER).read_bytes(),
        "requirements.txt": b"numpy\nonnxruntime\ntokenizers\n",
    }
    if web_runtime is not None:
        _require_wordpiece(tokenizer)
        contents |= {path.name: path.read_bytes() for path in (_STANDALONE / "web").iterdir() if path.is_file()}
        contents |= {name: (web_runtime / name).read_bytes() for name in WEB_RUNTIME}
    contents["README.md"] = _readme(certificate, has_page=web_runtime is not None).encode()
    sums = "".join(f"{sha256(content)}  {name}\n" for name, content in sorted(contents.items()))
    contents["SHA256SUMS"] = sums.encode()
    _write(to, contents)
    return Exported(folder=to, files={name: len(content) for name, content in sorted(contents.items())})


def find_web_runtime(named: Path | None, beside: Path) -> Path:
    """The folder with the files of onnxruntime-web: the one `named`, or that of a `node_modules` in or above `beside`.

    `named` may be the package or its `dist`. Raises `UserError` where they are not there.
    """
    package = Path("node_modules") / "onnxruntime-web"
    places = [folder / package for folder in (beside, *beside.resolve().parents)] if named is None else [named]
    folders = [folder for place in places for folder in (place, place / "dist")]
    for folder in folders:
        if all((folder / name).is_file() for name in WEB_RUNTIME):
            return folder
    where = "in a node_modules here or above" if named is None else f"in {str(named)!r}"
    raise UserError(
        f"onnxruntime-web is not {where}: {', '.join(WEB_RUNTIME)} are needed.",
        hint="Get it with `npm install onnxruntime-web`, or name its folder with --web-runtime.",
    )


def _require_known(checked: Folder, certificate: Certificate) -> None:
    if checked.sha256 != certificate.artefact_sha256:
        raise SpecialistError(
            f"Certificate {certificate.id} is about specialist {certificate.artefact_sha256[:16]}, "
            f"not about {checked.sha256[:16]}."
        )
    card = checked.card
    if card.students != STUDENTS or set(card.files) != {TENSORS} or card.shape.kind not in ("label", "number", "json"):
        raise SpecialistError(
            f"This specialist cannot be exported: it answers {card.shape.kind!r} with {', '.join(card.students)} in "
            f"{', '.join(card.files)}. Closed answers by {', '.join(STUDENTS)} in {TENSORS} can.",
            hint="Run it in a gateway.",
        )


def _encoder(folder: Path, card: Card) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """The encoder's graph, its tokenizer without padding and truncation (the runner does its own), and its card."""
    loaded = encoder.Encoder.load(folder)
    if loaded.sha256 != card.encoder_sha256:
        raise SpecialistError(
            f"The specialist of {card.task_name} was learnt on another encoder than {loaded.name}.",
            hint="Distil the task again.",
        )
    tokenizer = json.loads((folder / encoder.TOKENIZER).read_bytes())
    tokenizer |= {"padding": None, "truncation": None}
    return (folder / encoder.GRAPH).read_bytes(), tokenizer, json.loads((folder / encoder.CARD).read_bytes())


def _setup(
    checked: Folder, certificate: Certificate, encoder_card: dict[str, Any], *, has_page: bool
) -> dict[str, Any]:
    """What the runners read: how answers are written, the thresholds, and what all of it is."""
    shape, style, first = checked.card.shape, dict(checked.card.shape.style), certificate.first
    is_object = shape.kind == "json"
    return {
        "fields": {
            str(index): {
                "before": style[field.name] if is_object else "",
                "says": [value if is_object else style.get(value, value) for value in classes],
            }
            for index, (field, classes) in enumerate(zip(shape.fields, checked.card.classes, strict=True))
        },
        "after": style[""] if is_object else "",
        "gates": {"min_certainty": certificate.min_certainty, "min_scope": certificate.min_scope},
        "first": first and {"min_certainty": first.min_certainty, "min_scope": first.min_scope},
        "max_tokens": encoder_card["max_tokens"],
        "task": checked.card.task_name,
        "specialist": checked.sha256,
        "encoder": checked.card.encoder_sha256,
        "certificate": certificate.id,
        **({"casefold": _casefold()} if has_page else {}),
    }


def _casefold() -> dict[str, str]:
    """Where `str.casefold`, which browsers lack, is not upper and then lower case."""
    characters = map(chr, range(0x20000))
    return {character: fold for character in characters if (fold := character.casefold()) != character.upper().lower()}


def _require_wordpiece(tokenizer: dict[str, Any]) -> None:
    known = {
        "model": ("WordPiece",),
        "normalizer": ("BertNormalizer",),
        "pre_tokenizer": ("BertPreTokenizer",),
        "post_processor": ("TemplateProcessing", "BertProcessing"),
    }
    found = {name: (tokenizer.get(name) or {}).get("type") for name in known}
    if not all(found[name] in kinds for name, kinds in known.items()):
        raise UserError(
            f"The page cannot split texts into tokens as this encoder does: {found}; it knows {known}.",
            hint="Export without --web, or learn on a BERT-family encoder with a WordPiece tokenizer.",
        )


def _readme(certificate: Certificate, *, has_page: bool) -> str:
    return _README.format(
        task=certificate.task_name,
        runner=_RUNNER,
        per=certificate.claim.per,
        max_risk=certificate.claim.max_risk,
        confidence=certificate.claim.confidence,
        coverage=certificate.coverage,
        setup=SETUP,
        tensors=TENSORS,
        version=__version__,
        web=_WEB_README.format(runner=_RUNNER) if has_page else "",
    )


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _write(to: Path, contents: dict[str, bytes]) -> None:
    """The folder appears complete or not at all."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{str(to)!r} is there already and is no empty folder.", hint="Name a new one.")
    to.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}-"))
    try:
        for name, content in contents.items():
            (temporary / name).write_bytes(content)
        temporary.chmod(0o777 & ~_umask())
        temporary.replace(to)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
