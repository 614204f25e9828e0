"""What a user can meet is documented: settings, reasons, error codes, headers, commands, flags, links, the version."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest

from pilotfish.cli.main import COMMANDS, root
from pilotfish.config.settings import SECTIONS, Settings
from pilotfish.core import errors
from pilotfish.core.privacy import TYPES, WEAK_TYPES
from pilotfish.core.receipt import REASONS, Receipt
from pilotfish.core.version import __version__
from pilotfish.gateway import error_bodies, receipts, spans
from pilotfish.gateway.metrics import FAMILIES
from tools.measured import (
    backtest_lines,
    distillation_lines,
    export_lines,
    extraction_lines,
    install_sizes,
    latency_line,
    load_lines,
    newest,
    privacy_lines,
    quantize_lines,
    reading_lines,
    retrieved_lines,
)
from tools.pages import PAGES, ROOT, anchors, links, prose, rows

DOCS = ROOT / "docs"
KEYS = [(section, item) for section, kind in SECTIONS.items() for item in dataclasses.fields(kind)]


@pytest.mark.parametrize(("section", "item"), KEYS, ids=[f"{section}.{item.name}" for section, item in KEYS])
def test_every_key_stands_in_its_section_with_default_and_meaning(
    section: str, item: dataclasses.Field[object]
) -> None:
    text = prose(DOCS / "configuration.md")
    part = text.partition(f"### [{section}]\n")[2].partition("\n##")[0]
    value = {} if item.default_factory is dict else item.default
    shown = f'"{value}"' if isinstance(value, str) else str(value).lower()
    default = "unset" if value is None else "`[]`" if value == () else f"`{shown}`"
    variable = f"PILOTFISH_{section}_{item.name}".upper()
    assert f"| `{item.name}` | {default} | `{variable}` | {item.metadata['help']} |" in part.splitlines()


def test_no_key_is_documented_that_is_none() -> None:
    known = {item.name for _, item in KEYS} | {"home"}
    text = prose(DOCS / "configuration.md").partition("## Every key")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == known
    help_text = next(item.metadata["help"] for item in dataclasses.fields(Settings) if item.name == "home")
    assert help_text in text


def test_every_reason_is_documented_in_its_own_words() -> None:
    table = rows(DOCS / "http.md")
    assert {reason: table.get(reason) for reason in REASONS} == {reason: [text] for reason, text in REASONS.items()}


def test_every_header_is_documented() -> None:
    known = {"task_id": "t", "task_name": "n", "certificate_id": "c", "tier": 1, "privacy": "p", "route": "r"}
    receipt = Receipt(request_id="r", model="m", reason="certified", **known)
    names = {name.decode() for name, _ in receipts.headers(receipt)}
    assert names == {name for name in rows(DOCS / "http.md") if name.startswith("x-")}


def test_every_error_code_is_documented() -> None:
    ours = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    faults = [error_bodies.not_found("/"), error_bodies.wrong_method("PUT", "GET"), error_bodies.foreign_site("x")]
    gateway = {fault.code for fault in faults}
    internal = error_bodies.fault_of(ValueError()).code
    # Codes stand in the second column of the table of statuses, in the first of the others.
    assert {*ours, *gateway, internal} <= set(re.findall(r"\| `(\w+)` \|", prose(DOCS / "http.md")))


def test_every_metric_is_documented_in_its_own_words() -> None:
    table = rows(DOCS / "observability.md")
    assert {name: table.get(name) for name in FAMILIES} == {name: list(family) for name, family in FAMILIES.items()}
    assert {name for name in table if name.startswith("pilotfish_")} == set(FAMILIES)


def test_every_attribute_of_a_span_is_documented() -> None:
    names = set(re.findall(r'"([a-z_]+\.[a-z_.]+)":', inspect.getsource(spans.attributes)))
    assert len(names) > 15
    assert names == {name for name in rows(DOCS / "observability.md") if "." in name and "/" not in name}


def test_every_event_is_documented() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    names = {*re.findall(r'"event": "([a-z-]+)"', source), "error", "note"}
    part = prose(DOCS / "observability.md").partition("## Events")[2].partition("\n## ")[0]
    table = "".join(line.split("|")[1] for line in part.splitlines() if line.startswith("| `"))
    assert names == set(re.findall(r"`([a-z-]+)`", table))


def test_the_figures_of_the_observability_page_are_those_of_the_newest_results() -> None:
    found = newest("seen")
    text = prose(DOCS / "observability.md")
    for key, digits in (("counted_us", 1), ("span_us", 0)):
        values = [request[key] for request in found["requests"]]
        assert f"{min(values):.{digits}f} to {max(values):.{digits}f} µs" in text
    first, full = (scrape["told_ms"] for scrape in found["scrapes"])
    assert f"{first:.1f} ms at first and {full:.0f} ms with" in text
    assert max(request["counted_us"] for request in found["requests"]) <= 2


def test_the_figures_of_retrieved_answers_are_those_of_the_newest_results() -> None:
    lines = prose(DOCS / "retrieved.md").splitlines()
    assert [line for line in retrieved_lines() if line not in lines] == []


def test_every_command_is_in_the_readme_and_in_an_example() -> None:
    readme = prose(ROOT / "README.md")
    pages = "\n".join(page.read_text("utf-8") for page in PAGES)
    for name in COMMANDS:
        assert f"`{name}`" in readme or re.search(rf"`{name}`|`\w+`, `{name}`", readme), name
        assert re.search(rf"^(\.venv/bin/)?pilotfish {name}\b", pages, re.MULTILINE), name


def test_every_command_named_in_the_pages_exists_with_its_flags() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    for name, rest in re.findall(r"pilotfish ([a-z][a-z-]*)\b([^`\n]*)", re.sub(r"`pilotfish`", "", text)):
        if name not in COMMANDS:
            continue
        command = root.get_command(None, name)  # type: ignore[arg-type]
        known = {option for parameter in command.params for option in parameter.opts}
        for part in getattr(command, "commands", {}).values():
            known |= {option for parameter in part.params for option in parameter.opts}
        flags = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", rest.partition("#")[0]))
        assert flags <= known | {"--help"}, (name, rest)


def test_links_lead_somewhere() -> None:
    dead = []
    for page in PAGES:
        for target in links(page):
            if target.startswith("https://"):
                continue
            path, _, anchor = target.partition("#")
            goal = (page.parent / path).resolve() if path else page
            if not goal.exists() or (anchor and anchor not in anchors(goal)):
                dead.append(f"{page.name}: {target}")
    assert dead == []


def test_the_newest_version_of_the_changelog_is_the_package_and_the_readme_says_so() -> None:
    newest = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert next(name for name in newest if name != "Unreleased") == __version__
    assert f"Version {__version__}" in prose(ROOT / "README.md")


def test_the_agents_page_is_short() -> None:
    assert len((ROOT / "AGENTS.md").read_text("utf-8").splitlines()) < 120


def test_no_page_names_a_machine_or_a_registry() -> None:
    suspicious = re.compile(r"/(home|root|tmp|Users|work)/|pypi\.|files\.pythonhosted|index-url", re.IGNORECASE)
    assert [page.name for page in PAGES if suspicious.search(page.read_text("utf-8"))] == []


def test_the_figures_of_the_readme_are_those_of_the_newest_results() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    measured = backtest_lines()
    table = text.partition("| data, requests | promise |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(table) >= 4
    assert [line for line in table if line not in measured.values()] == [], "\n".join(measured.values())
    assert latency_line() in text
    sizes = {cells[0].strip("` ").replace("base", ""): cells[3].strip() for cells in _cells(text, "| part | brings |")}
    stated = {extra: size for extra, size in sizes.items() if size}
    assert stated == {extra: size for extra, size in install_sizes().items() if extra in stated}


def test_the_figures_of_the_extraction_page_are_those_of_the_newest_results() -> None:
    text = (DOCS / "extraction.md").read_text("utf-8").replace("\n", " ")
    assert [line for line in (*extraction_lines(), *reading_lines()) if line not in text] == []


def test_the_figures_of_the_page_on_faults_are_those_of_the_newest_results() -> None:
    text = " ".join((DOCS / "faults.md").read_text("utf-8").split())
    assert [line for line in load_lines() if line not in text] == []


def test_the_figures_of_the_privacy_page_are_those_of_the_newest_results() -> None:
    text = " ".join((DOCS / "privacy.md").read_text("utf-8").split())
    assert [line for line in privacy_lines() if line not in text] == []


def test_the_figures_of_the_export_page_are_those_of_the_newest_results() -> None:
    text = " ".join((DOCS / "export.md").read_text("utf-8").split())
    assert [line for line in export_lines() if line not in text] == []


def test_the_figures_of_the_quantize_page_are_those_of_the_newest_results() -> None:
    assert set(quantize_lines()) <= set((DOCS / "quantize.md").read_text("utf-8").splitlines())


def test_the_figures_of_the_routing_page_are_those_of_the_newest_results() -> None:
    text = " ".join((DOCS / "routing.md").read_text("utf-8").split())
    cells = newest("routing_certificate")["figures"]
    most = max(cell["broken"] for cell in cells)
    assert f"more than {100 * most:.1f} % of the certificates false" in text
    for name, data in (("MMLU", "mmlu"), ("GSM8K", "gsm8k"), ("LLMRouter", "llmrouter"), ("BIG-Bench Hard", "bbh")):
        kept = [cell["kept_by_small"] for cell in cells if cell["set"] == data and cell["margin"] == 0.02]
        assert f"{name} {' / '.join(f'{100 * share:.1f}' for share in kept)} %" in text
    figures = newest("routing_quality_gsm8k")["figures"] | {"mmlu": newest("routing_quality")["figures"]}
    shown = [*figures["gsm8k_cross_validated"], *(c for c in figures["train_to_dev"] if c["learnt_from"] == "answer")]
    shown += [cell for cell in figures["mmlu"]["train_to_dev"] if cell["ranking"] == "learnt" and cell["claim"]][2:]
    tuned = newest("routing_quality_mmlu_finetuned")["figures"]
    shown += [cell for cell in tuned["train_to_dev"] if cell["ranking"] == "learnt"]
    for found in (figures["mmlu"], tuned):
        shown += [cell for cell in found["mmlu_unseen_subjects"]["rankings"] if cell["ranking"] == "learnt"]
        for cell in found["mmlu_in_domain"]:
            assert f"{cell['apgr']:.3f}".removeprefix("0") in text, cell
    for cell in shown:
        low, value, high = (f"{cell[key]:.3f}".removeprefix("0") for key in ("low", "apgr", "high"))
        assert f"{value} ({low} to {high})" in text, cell


def test_the_figures_of_the_fine_tuning_page_are_those_of_the_newest_results() -> None:
    assert set(distillation_lines()) <= set((DOCS / "finetune.md").read_text("utf-8").splitlines())


def test_every_type_of_personal_data_is_documented_in_its_own_words() -> None:
    table = rows(DOCS / "privacy.md")
    for kind, meaning in TYPES.items():
        line = f"| `{kind}` | {meaning} | {'no' if kind in WEAK_TYPES else 'yes'} |"
        assert line in (DOCS / "privacy.md").read_text("utf-8").splitlines(), line
    assert set(TYPES) <= set(table)


def _cells(text: str, head: str) -> list[list[str]]:
    """The cells of the table that begins with `head`."""
    lines = text.partition(head)[2].partition("\n\n")[0].splitlines()[2:]
    return [line.strip("|").split("|") for line in lines if not line.startswith("| |")]
