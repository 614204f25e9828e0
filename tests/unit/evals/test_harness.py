import json

import pytest

from pilotfish.core.errors import DataError
from pilotfish.evals.data import load

datasets = pytest.importorskip("datasets")
pytest.importorskip("lm_eval")

TASK = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: {kind}
doc_to_text: "Question: {{{{question}}}}"
doc_to_target: answer
{more}
"""


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def write(kind, more, *rows):
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        text = TASK.format(name="tiny", file=tmp_path / "rows.jsonl", kind=kind, more=more)
        (tmp_path / "tiny.yaml").write_text(text)
        return f"lm-eval:{tmp_path / 'tiny.yaml'}"

    return write


def test_a_multiple_choice_task_is_asked_as_a_question(task):
    row = {"question": "2+2?", "choices": ["3", "4"], "answer": 1}
    item = load(task("multiple_choice", 'doc_to_choice: "{{choices}}"', row)).items[0]
    assert item.messages[0].content.startswith("Question: 2+2?\nA. 3\nB. 4\n")
    assert (item.expected, item.tags) == ("B", {"task": "tiny", "split": "test"})


def test_choices_that_the_question_lists_are_not_listed_again(task):
    row = {"question": "2+2?\nA. 3\nB. 4\nAnswer:", "answer": 1}
    found = load(task("multiple_choice", 'doc_to_choice: ["A", "B"]', row))
    assert found.items[0].messages[0].content.count("B. 4") == 1
    assert (found.items[0].expected, found.default_scorer) == ("B", "choice")


def test_a_task_that_generates_keeps_its_target(task):
    found = load(task("generate_until", "", {"question": "2+2?", "answer": "It is 4.\n#### 4"}))
    assert (found.items[0].expected, found.default_scorer) == ("4", "number")


def test_a_task_file_that_does_not_hold_its_task_is_an_error(task, tmp_path):
    task("generate_until", "", {"question": "2+2?", "answer": "4"})
    (tmp_path / "tiny.yaml").rename(tmp_path / "other.yaml")
    with pytest.raises(DataError, match="no task 'other'"):
        load(f"lm-eval:{tmp_path / 'other.yaml'}")
