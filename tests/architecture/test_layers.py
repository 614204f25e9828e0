"""The house of the design: layers, no sideways imports, no cycles, light front doors."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "pilotfish"

LAYERS = {
    "core": 0,
    "stats": 1,
    "scoring": 1,
    "config": 1,
    "specialists": 1,
    "pages": 1,
    "privacy": 1,
    "models": 2,
    "store": 2,
    "meters": 2,
    "jobs": 2,
    "sizing": 3,
    "tasks": 3,
    "students": 3,
    "routing": 3,
    "evals": 3,
    "guarantees": 4,
    "advice": 4,
    "gateway": 5,
    "replay": 5,
    "cli": 6,
}

# Foreign packages and the only places that may import them.
OWNERS = {
    "sklearn": ["students/fit.py", "routing/fit.py"],
    "scipy": ["students/fit.py"],
    "onnx": ["students/encoder_graph.py"],
    "httptools": ["models/exchange.py"],
    "uvicorn": ["gateway/serve.py", "gateway/connections.py"],
    "click": ["cli/"],
    "sqlite3": ["store/"],
    "onnxruntime": [
        "specialists/encoder.py",
        "specialists/standalone/",
        "students/encoder_graph.py",
        "students/quantize.py",
    ],
    "tokenizers": ["specialists/encoder.py", "specialists/standalone/"],
    "safetensors": ["specialists/", "students/"],
    "numpy": [
        "specialists/",
        "students/",
        "guarantees/",
        "replay/",
        "routing/fit.py",
        "routing/learn.py",
        "routing/reader.py",
        "sizing/bandwidth.py",
        "stats/resampled_curves.py",
        "stats/resampled_pairs.py",
    ],
    "huggingface_hub": ["students/weights.py", "sizing/hub.py"],
    "openai": ["cli/demo"],
    "regex": ["privacy/own_patterns.py", "scoring/scorers.py"],
    "rouge_score": ["scoring/text_overlap.py"],
    "sacrebleu": ["scoring/text_overlap.py"],
    "pyarrow": ["evals/files.py"],
    "datasets": ["evals/hub.py"],
    "lm_eval": ["evals/harness.py"],
    "torch": [
        "models/local_tasks.py",
        "models/local_writing.py",
        "students/finetune.py",
        "students/finetune_scores.py",
        "students/finetune_spans.py",
        "students/generative.py",
        "students/generative_training.py",
        "students/last_layers.py",
        "students/quantize_torch.py",
        "students/training_state.py",
    ],
    "transformers": [
        "models/local_tasks.py",
        "models/local_weights.py",
        "students/generative.py",
        "students/quantize_torch.py",
    ],
    "peft": ["students/generative.py"],
    "jinja2": ["students/generative.py"],
    "xllamacpp": ["models/llama_library.py", "models/local_gguf.py"],
    "opentelemetry": ["gateway/spans.py"],
    "graphql": ["gateway/site/graphql_limits.py", "gateway/site/graphql_schema.py"],
    "strawberry": ["gateway/site/graphql_money.py", "gateway/site/graphql_schema.py"],
}

NEVER = ("pandas", "httpx", "requests", "pydantic", "starlette", "pickle")


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


@cache
def is_module(name: str) -> bool:
    parts = name.split(".")
    return parts[0] == "pilotfish" and (SOURCE / Path(*parts[1:])).with_suffix(".py").is_file()


def imports(path: Path, nodes: list[ast.AST]) -> list[tuple[str, int]]:
    """Every imported module name with its line, inside functions too."""
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            # `from pilotfish.stats import binomial` names a module, nothing that a package's __init__ holds.
            names = [f"{module}.{alias.name}" for alias in node.names if is_module(f"{module}.{alias.name}")]
            found += [(name, node.lineno) for name in names or [module]]
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parsed:
    """What the rules are about. `imports` are all modules with their line, `needed` those of the module's own level."""

    imports: tuple[tuple[str, int], ...]
    needed: frozenset[str]
    docstring: str
    long: tuple[str, ...]


@cache
def parsed(path: Path) -> Parsed:
    tree = ast.parse(path.read_text("utf-8"))
    needed: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            needed |= {found for found in {node.module, *named} if is_module(found)}
    nodes = list(ast.walk(tree))
    long = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and n_lines(node) >= 50]
    return Parsed(
        imports=tuple(imports(path, nodes)),
        needed=frozenset(needed),
        docstring=ast.get_docstring(tree) or "",
        long=tuple(f"{node.name} in line {node.lineno}" for node in long),
    )


def n_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    start = node.body[1].lineno if is_docstring and len(node.body) > 1 else first.lineno
    return (node.end_lineno or 0) - start


def relative(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def test_every_folder_has_a_layer() -> None:
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name[0] not in "._"}
    assert folders - {"examples"} == set(LAYERS)


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_a_file_imports_only_lower_layers_or_its_own_folder(path: Path) -> None:
    parts = path.relative_to(SOURCE).parts
    if len(parts) == 1:
        return
    wrong = []
    for name, line in parsed(path).imports:
        if not name.startswith("pilotfish"):
            continue
        target = name.split(".")
        if len(target) < 3:
            wrong.append(f"line {line}: {name} goes through a package's __init__")
        elif target[1] != parts[0] and LAYERS[target[1]] >= LAYERS[parts[0]]:
            wrong.append(f"line {line}: {name} is not below {parts[0]}")
    assert not wrong, wrong


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_foreign_packages_stay_where_they_belong(path: Path) -> None:
    wrong = []
    for name, line in parsed(path).imports:
        package = name.split(".")[0]
        if package in NEVER:
            wrong.append(f"line {line}: {package}")
        if package in OWNERS and not any(relative(path).startswith(owner) for owner in OWNERS[package]):
            wrong.append(f"line {line}: {package} belongs to {OWNERS[package]}")
    assert not wrong, wrong


def test_no_module_level_cycles() -> None:
    graph: dict[str, set[str]] = {}
    for path in modules():
        name = "pilotfish." + relative(path)[:-3].replace("/", ".")
        graph[name] = set(parsed(path).needed)
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"cycle: {' -> '.join([*trail, name])}"
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_files_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 400
    if path.name != "__init__.py":
        assert parsed(path).docstring, "every module opens with a docstring"
    assert path.stem not in {"utils", "helpers", "common", "misc", "manager", "handler", "processor"}


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_function_bodies_are_at_most_fifty_lines(path: Path) -> None:
    assert not parsed(path).long, parsed(path).long


@pytest.mark.parametrize("call", ["import pilotfish", "from pilotfish.cli.main import main; main(['--help'])"])
def test_front_doors_load_nothing_heavy(call: str) -> None:
    code = (
        "import sys\ntry:\n    " + call + "\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'onnxruntime', 'sklearn', 'uvicorn', 'tokenizers', 'msgspec', 'asyncio'}\n"
        "found = heavy & set(sys.modules)\nassert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_the_gateway_starts_without_what_only_some_requests_need() -> None:
    code = (
        "import sys, pilotfish.gateway.serve, pilotfish.gateway.app\n"
        "found = {'numpy', 'onnxruntime', 'strawberry', 'graphql', 'opentelemetry'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_test_files_have_names_of_their_own() -> None:
    # pytest imports them by name, so two of one name cannot be collected together.
    names = [path.name for path in Path(__file__).parents[1].rglob("test_*.py")]
    assert len(names) == len(set(names))
