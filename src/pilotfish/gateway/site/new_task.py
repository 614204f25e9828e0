"""A new task without code: the form for examples, which column is which, and the list of what was uploaded.

Who may only read sees the list. Pages only read; what forms ask for is done in `new_task_forms.py`, and what became of
a task is shown by `new_task_result.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pilotfish.core.certificate import RISK_KINDS
from pilotfish.core.errors import PilotfishError
from pilotfish.gateway.columns import Choice, Sheet, guess
from pilotfish.gateway.new_tasks import NewTask
from pilotfish.gateway.site import new_task_result, words
from pilotfish.gateway.site.page import Page, Seen, form
from pilotfish.gateway.site.tables import Column, Table
from pilotfish.gateway.site.uploads import MAX_FILE_BYTES
from pilotfish.pages.elements import Child, Html, element

PATH = "/new"
N_SHOWN = 8
MOST_FAULTS = 20
_LONGEST = 200
DEFAULT_RISK = 0.05
_NONE = "(none)"


def new_path(task: NewTask) -> str:
    """The address of its page."""
    return f"{PATH}/{task.id}"


def new_tasks(seen: Seen) -> Page:
    """The form, and the list of those there are."""
    rows = [
        {
            "new_task_id": task.id,
            "file": seen.data(task.file) or _NONE,
            "made": words.moment(task.made_s),
            "state": task.state,
            "examples": task.n_examples or None,
        }
        for task in seen.running.new_tasks.all()
    ]
    columns = (
        Column(key="new_task_id", head="New task", show=lambda name: element("a", name, href=f"{PATH}/{name}")),
        Column(key="file", head="File", is_text=True),
        Column(key="made", head="Uploaded (UTC)"),
        Column(key="state", head="State"),
        Column(key="examples", head="Examples", show=words.count, is_number=True),
    )
    table = Table(name="", caption="Uploaded so far", columns=columns, rows=rows, none="Nothing yet.")
    intro = element(
        "p",
        "Teach a small specialist from examples: what is asked, and the answer that is right. It is certified on "
        "examples that it did not learn from, or refused with what is missing.",
        class_="claim",
    )
    asked = _upload_form(seen) if seen.is_admin else _sign_in()
    return Page(path=PATH, title="New task", parts=(intro, asked, table.html(PATH)), tables=(table,))


def new_task(seen: Seen, task_id: str) -> Page | None:
    """The page of one: its columns while nothing is decided, then how far it is, then what came of it."""
    task = seen.running.new_tasks.get(task_id)
    if task is None:
        return None
    if task.state == "uploaded" and seen.is_admin:
        return mapping(seen, task)
    return new_task_result.result(seen, task, new_path(task))


def mapping(
    seen: Seen,
    task: NewTask,
    *,
    choice: Choice | None = None,
    faults: Sequence[tuple[int, str]] = (),
    wrong: str = "",
) -> Page:
    """The page that asks which column is which, and for the promise; `faults` are the rows that are in the way."""
    try:
        sheet = seen.running.new_tasks.sheet(task)
    except PilotfishError as error:
        said = (element("p", str(error), role="alert"), new_task_result.discard(seen, new_path(task)))
        return Page(path=new_path(task), title="New task", parts=said)
    choice = choice or task.choice
    if not choice.input:
        choice = guess(sheet)
    parts: list[Child] = [
        element("p", f"{len(sheet.rows):,} rows of ", element("strong", seen.text(task.file)), ".", class_="claim"),
        element("p", wrong, role="alert") if wrong else None,
        _faults(faults),
        form(
            f"{new_path(task)}/start",
            seen,
            _column_fields(sheet, choice),
            _order_field(choice),
            _promise_fields(seen, task),
            _box("sample", _FAIR, is_checked=task.is_sample),
            _box("skip", f"Leave out the {len(faults):,} rows that cannot be read.") if faults else None,
            element("button", "Distil", type="submit"),
        ),
        _preview(seen, sheet),
        _instructions(seen, task),
        new_task_result.discard(seen, new_path(task)),
    ]
    title = "Which column is which?" if sheet.columns else "What may it promise?"
    return Page(path=new_path(task), title=title, parts=tuple(parts), status=400 if faults or wrong else 200)


_FAIR = (
    "These are requests as they came, or a random sample of them: none was added, changed or left out because of what "
    "it says. Then the latest of them may certify. Otherwise leave this empty: they teach, and later requests certify."
)


def _upload_form(seen: Seen) -> Html:
    label, box = element("label", "Instructions", for_="instructions"), "instructions-note"
    return element(
        "form",
        element("input", type="hidden", name="csrf", value=seen.csrf),
        label,
        element("textarea", name="instructions", id="instructions", rows=4, aria_describedby=box),
        _note(
            box,
            "What your program will say to the model before each text (the system message). A task is recognised by "
            "them, so they must be the same to the letter. Rows that are whole conversations bring their own.",
        ),
        element("label", "File of examples", for_="file"),
        element(
            "input",
            type="file",
            name="file",
            id="file",
            accept=".csv,.tsv,.jsonl,.ndjson,.json,text/csv",
            aria_describedby="file-note",
        ),
        _note("file-note", f"CSV with a line of names, or JSON lines; at most {MAX_FILE_BYTES >> 20} MiB of text."),
        element("label", "Or examples to paste", for_="pasted"),
        element("textarea", name="pasted", id="pasted", rows=6, aria_describedby="pasted-note"),
        _note("pasted-note", "The same formats: a line that says input,output, say, and below it one example a line."),
        element("button", "Upload", type="submit"),
        method="post",
        action=PATH,
        enctype="multipart/form-data",
    )


def _sign_in() -> Html:
    return element("p", element("a", "Sign in", href=f"/login?next={PATH}"), " with the admin key to upload examples.")


def _note(name: str, text: str) -> Html:
    return element("p", text, class_="soft", id=name)


def _faults(faults: Sequence[tuple[int, str]]) -> Html | None:
    if not faults:
        return None
    said = [element("li", f"Line {line}: {why}") for line, why in faults[:MOST_FAULTS]]
    more = f" The first {MOST_FAULTS}:" if len(faults) > MOST_FAULTS else ""
    return element(
        "section",
        element(
            "p",
            f"{len(faults):,} rows cannot be read. Mend them and upload the file again, or choose other columns, or "
            f"leave them out.{more}",
            role="alert",
        ),
        element("ul", said),
    )


def _column_fields(sheet: Sheet, choice: Choice) -> list[Html]:
    if sheet.is_recorded:
        return [element("p", "Each row is a conversation or a logged request: nothing is to be chosen.")]
    return [
        *_select("input", "Column with the text", [(name, name) for name in sheet.columns], choice.input),
        *_select("answer", "Column with the right answer", [(name, name) for name in sheet.columns], choice.answer),
        *_select(
            "time", "Column with the time", [("", "none"), *((name, name) for name in sheet.columns)], choice.time
        ),
    ]


def _order_field(choice: Choice) -> list[Html]:
    orders = [
        ("file", "the order in which they came, so the last ones test it"),
        ("any", "no order (sorted, say): draw at random which test it"),
    ]
    return _select("order", "Where no column holds times, the rows have", orders, choice.order)


def _promise_fields(seen: Seen, task: NewTask) -> list[Html]:
    """The promise asked for: that of the settings, until another was asked for."""
    quality, claim = seen.running.settings.quality, task.claim or seen.running.settings.quality.claim
    risk = 100 * (claim.max_risk if claim else DEFAULT_RISK)
    confidence = 100 * (claim.confidence if claim else quality.confidence)
    per = claim.per if claim else quality.per
    meanings = {"answer": "local answer", "field": "field of local answers", "traffic": "request of the task"}
    return [
        *_number("max_risk", "Tolerated share of different answers, in per cent", risk, "0.1", "49"),
        *_number("confidence", "Confidence, in per cent", confidence, "50", "99.999"),
        *_select("per", "Counted on each", [(kind, meanings[kind]) for kind in RISK_KINDS], per),
    ]


def _select(name: str, label: str, values: Sequence[tuple[str, str]], chosen: str) -> list[Html]:
    options = [element("option", text, value=value, selected=value == chosen) for value, text in values]
    return [element("label", label, for_=name), element("select", options, name=name, id=name)]


def _number(name: str, label: str, value: float, low: str, high: str) -> list[Html]:
    field = element(
        "input", type="number", name=name, id=name, value=f"{value:g}", min=low, max=high, step="any", required=True
    )
    return [element("label", label, for_=name), field]


def _box(name: str, label: str, *, is_checked: bool = False) -> Html:
    box = element("input", type="checkbox", name=name, id=name, value="1", class_="box", checked=is_checked)
    return element("p", box, " ", element("label", label, for_=name, class_="beside"))


def _preview(seen: Seen, sheet: Sheet) -> Html:
    names = sheet.columns or tuple({str(key): None for _, row in sheet.first(N_SHOWN) for key in row})
    heads = [element("th", name, scope="col") for name in ("line", *names)]
    rows = [
        element("tr", element("th", line, scope="row"), [element("td", _cell(seen, row.get(name))) for name in names])
        for line, row in sheet.first(N_SHOWN)
    ]
    table = element(
        "table",
        element("caption", "The first rows", class_="unseen"),
        element("thead", element("tr", heads)),
        element("tbody", rows),
    )
    return element(
        "section",
        element("h2", "The first rows"),
        element("div", table, class_="scroll", tabindex=0, role="group", aria_label="The first rows"),
    )


def _cell(seen: Seen, value: object) -> str:
    if value is None:
        return words.NONE
    text = seen.text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _instructions(seen: Seen, task: NewTask) -> Html:
    said = seen.text(task.instructions)[:4000] or _NONE
    shown = element("pre", said, tabindex=0, role="group", aria_label="Instructions")
    return element("section", element("h2", "Instructions"), shown)
