"""Comparisons and models, with the very pieces of their HTML exports (`evals/page.py`, `sizing/page.py`).

Nothing is asked of a network and no path is taken from an address: reports are those kept in the home, models those of
the catalogue, of the configuration, and files of weights that lie in the home.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pilotfish.config import load
from pilotfish.core.errors import MissingExtraError, UserError
from pilotfish.gateway.site import words
from pilotfish.gateway.site.page import Page, Seen
from pilotfish.gateway.site.tables import Column, Table
from pilotfish.pages.elements import Child, Html, element
from pilotfish.sizing import machine, memory, sources
from pilotfish.sizing import page as inspect_page
from pilotfish.sizing import report as inspect_report
from pilotfish.sizing.catalogue import catalogue

if TYPE_CHECKING:  # where the gateway only observes, none of the numerical libraries need be installed
    from pilotfish.evals.report import Report

COMPARE, INSPECT = "/compare", "/inspect"
MOST_DISAGREEMENTS = 20
"""Of the fifty in a report: the first are those that part widest."""

MOST_FILES = 50
_MOST_LOOKED_AT = 5000
_WEIGHTS = (".gguf", ".safetensors")
_NOT_MEASURED = "not measured yet; `pilotfish inspect` measures it once"


def compare(seen: Seen, name: str) -> Page | None:
    """The comparisons, or the one of that name; None where there is none."""
    try:
        return compared(seen, name) if name else runs(seen)
    except MissingExtraError as error:
        return Page(path=COMPARE, title="Compare", parts=(element("p", str(error), role="alert"),))


def runs(seen: Seen) -> Page:
    """The comparisons of the home. Raises `MissingExtraError` where nothing could have been compared."""
    from pilotfish.evals.kept_reports import kept_runs  # noqa: PLC0415 - loads the numerical libraries

    rows = [
        {
            "run": run.name,
            "has_report": run.has_report,
            "data": run.head.data,
            "items": run.head.n_items,
            "scorer": run.head.scorer,
            "changed": words.moment(run.changed_s),
        }
        for run in kept_runs(load.home(seen.running.settings))
    ]
    shown = {row["run"] for row in rows if row["has_report"]}
    columns = (
        Column(key="run", head="Run", show=lambda name: _run_link(name) if name in shown else name),
        Column(key="data", head="Data"),
        Column(key="items", head="Items", show=words.count, is_number=True),
        Column(key="scorer", head="Judged by"),
        Column(key="changed", head="Written (UTC)"),
        Column(key="has_report", head="Report", show=lambda has: "yes" if has else "run it again"),
    )
    none = "No comparison has been run with this home."
    table = Table(name="", caption="Comparisons", columns=columns, rows=rows, none=none)
    said = element(
        "p",
        element("code", "pilotfish compare LARGE SMALL --on DATA"),
        " measures models side by side on your own data; what it found stands here.",
    )
    return Page(path=COMPARE, title="Compare", parts=(said, table.html(COMPARE)), tables=(table,))


def compared(seen: Seen, name: str) -> Page | None:
    """One report; None where the home has none of that name. Raises `MissingExtraError` like `runs`."""
    from pilotfish.evals import page as compare_page  # noqa: PLC0415 - loads the numerical libraries
    from pilotfish.evals.kept_reports import kept_report  # noqa: PLC0415

    report = kept_report(load.home(seen.running.settings), name)
    if report is None:
        return None
    n = len(report.disagreements)
    shown = _without_texts(report) if not seen.keeps_text else _first(report)
    cut = f"The {MOST_DISAGREEMENTS} items that part widest are shown; "
    more = element("p", cut, element("code", "pilotfish compare --html FILE"), f" shows {n}.", class_="soft")
    parts = (
        _report(compare_page.parts(shown)),
        more if len(shown.disagreements) < n and seen.keeps_text else None,
        element("p", element("a", "All comparisons", href=COMPARE)),
    )
    return Page(path=f"{COMPARE}/", title=compare_page.title(report), parts=parts)


def inspected(seen: Seen) -> Page:
    """The form, and what is known of the models it names."""
    wanted = [name for key in ("model", "beside") if (name := seen.query.get(key, "").strip())]
    known = _known(seen)
    parts: list[Child] = [_inspect_form(seen, known)]
    status = 200
    if wanted:
        try:
            subjects = [_subject(seen, name) for name in wanted]
            parts.append(_report(inspect_page.parts(_sheets(seen, subjects))))
        except UserError as error:
            parts.insert(0, element("p", str(error), role="alert"))
            status = 404
    title = f"Inspect {', '.join(wanted)}" if wanted else "Inspect"
    return Page(path=INSPECT, title=title, parts=tuple(parts), status=status)


def _report(parts: Iterable[str]) -> Html:
    """The pieces of an export, which are HTML."""
    return element("div", Html("\n".join(part for part in parts if part)), class_="report")


def _run_link(name: str) -> Html:
    return element("a", name, href=f"{COMPARE}/{quote(name, safe='')}")


def _first(report: Report) -> Report:
    return replace(report, disagreements=report.disagreements[:MOST_DISAGREEMENTS])


def _without_texts(report: Report) -> Report:
    """The figures alone, where the settings keep no texts."""
    robustness = [replace(row, flips=[]) for row in report.robustness]
    return replace(report, disagreements=[], robustness=robustness)


def _known(seen: Seen) -> list[str]:
    """Every name that the form takes."""
    settings = seen.running.settings
    configured = [name for name in (settings.large.model, *settings.models) if name]
    return [*configured, *_files(load.home(settings)), *catalogue().entries]


def _files(home: Path) -> dict[str, Path]:
    """Files of weights in the home, by their place in it. A link that leads out of it is none."""
    root = home.resolve()
    found: dict[str, Path] = {}
    for number, path in enumerate(_walk(home)):
        if number >= _MOST_LOOKED_AT or len(found) >= MOST_FILES:
            break
        if path.suffix in _WEIGHTS and path.resolve().is_relative_to(root) and path.is_file():
            found[path.relative_to(home).as_posix()] = path
    return found


def _walk(home: Path) -> Iterable[Path]:
    return sorted(home.glob("specialists/*/*")) + sorted(home.glob("models/**/*"))


def _subject(seen: Seen, name: str) -> sources.Subject:
    """The model of a name, looked up where nothing has to be fetched. Raises `UserError` where there is none."""
    settings = seen.running.settings
    files = _files(load.home(settings))
    if name in files:
        return sources.find(str(files[name]), load.cache())
    configured = settings.models.get(name, settings.large if name == settings.large.model else None)
    if configured is not None and configured.weights and Path(configured.weights).is_dir():
        return sources.find(configured.weights, load.cache())
    for known in (name, configured.model if configured else "", configured.weights if configured else ""):
        entry = catalogue().find(known) if known else None
        if entry is not None:
            return sources.from_entry(entry)
    near = catalogue().nearest(name)
    raise UserError(
        f"Expected a name of the catalogue or of the configuration, or a file of the home, got {name!r}.",
        hint=f"Nearest: {', '.join(near)}." if near else "The list below holds every name.",
    )


def _sheets(seen: Seen, subjects: Sequence[sources.Subject]) -> list[inspect_report.Sheet]:
    """The sheets, on what is known of this machine already: measuring it would keep pages waiting."""
    asked = seen.query.get("dtype", "")
    use = inspect_report.Use(number_type=asked if asked in memory.SHOWN else "bf16")
    cache = load.cache()
    speed = machine.Speed(bandwidth=None, method="", measured="", why_none=_NOT_MEASURED)
    if machine.is_measured(cache):
        speed = machine.speed(cache)
    at = inspect_report.common_context(subjects)
    return [inspect_report.describe(subject, use, at, machine.memory(), speed) for subject in subjects]


def _inspect_form(seen: Seen, known: Sequence[str]) -> Html:
    fields: list[Child] = []
    for key, label in (("model", "Model"), ("beside", "Beside it (or leave it empty)")):
        fields += [
            element("label", label, for_=key),
            element("input", name=key, id=key, list="known", value=seen.query.get(key, ""), autocomplete="off"),
        ]
    asked = seen.query.get("dtype", "bf16")
    kinds = [element("option", kind, value=kind, selected=kind == asked) for kind in memory.SHOWN]
    return element(
        "form",
        fields,
        element("datalist", [element("option", value=name) for name in dict.fromkeys(known)], id="known"),
        element("label", "Number type of the weights", for_="dtype"),
        element("select", kinds, name="dtype", id="dtype"),
        element("button", "Inspect", type="submit"),
        element(
            "details",
            element("summary", f"All {len(known):,} names"),
            element("p", ", ".join(dict.fromkeys(known)), class_="soft"),
        ),
        method="get",
        action=INSPECT,
    )
