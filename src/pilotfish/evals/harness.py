"""Rows of a task of lm-evaluation-harness, by name or from a task file of one's own.

The only file that imports `lm_eval`, the extra `harness`. It takes the question, the choices and the target as the
task's templates make them, without examples, and asks the model for text: figures compare with those of
`generate_until` tasks, not with the log-likelihood ones of the same name. The harness loads the data, from the hub
unless its files are local.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from pilotfish.core.errors import DataError, MissingExtraError
from pilotfish.evals.files import Row
from pilotfish.evals.layouts import LETTER_HINT

try:
    from lm_eval.tasks import TaskManager
except ImportError as error:
    raise MissingExtraError("harness", error.name or "lm_eval") from error


def task_rows(name: str) -> list[Row]:
    """The test rows (else the validation rows) of a task or of all tasks of a group.

    `name` is the harness's, or the path of a YAML file named like the task in it. Raises `DataError` where the task is
    not known, its data cannot be loaded, or it compares texts in a way that a question cannot put.
    """
    file = Path(name)
    is_file = file.suffix in (".yaml", ".yml") and file.is_file()
    known = TaskManager(include_path=str(file.parent) if is_file else None, include_defaults=not is_file)
    wanted = file.stem if is_file else name
    if wanted not in known.all_tasks:
        raise DataError(f"lm-evaluation-harness knows no task {wanted!r}.", hint="`lm-eval ls tasks` lists them.")
    try:
        tasks = known.load(wanted)["tasks"]
        return [row for task in tasks.values() for row in _task_rows(task)]
    except (OSError, ValueError, RuntimeError, LookupError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"The task {wanted!r} cannot be loaded: {type(error).__name__}: {reason}") from error


def _task_rows(task: Any) -> list[Row]:  # noqa: ANN401 - the library's own types are no part of its interface
    docs = task.test_docs() if task.has_test_docs() else task.validation_docs()
    name, split = task.task_name, "test" if task.has_test_docs() else "dev"
    return [
        Row(content={**_content(task, doc), "task": name}, file=name, line=line, split=split)
        for line, doc in enumerate(docs or [], start=1)
    ]


def _content(task: Any, doc: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    asked, target = task.doc_to_text(doc), task.doc_to_target(doc)
    if not isinstance(asked, str):
        raise DataError(f"The task {task.task_name!r} asks no question: it compares the likelihood of whole texts.")
    if task.OUTPUT_TYPE != "multiple_choice":
        return {"question": asked, "answer": target.strip() if isinstance(target, str) else target}
    choices = [str(choice).strip() for choice in task.doc_to_choice(doc)]
    index = choices.index(target.strip()) if isinstance(target, str) else int(target)
    if choices == list(string.ascii_uppercase[: len(choices)]):  # its question lists them already
        return {"input": f"{asked}\n\n{LETTER_HINT}", "expected": choices[index]}
    return {"question": asked, "choices": choices, "answer": index}
