import json

import pytest

from pilotfish.core.errors import DataError
from pilotfish.evals.data import load

datasets = pytest.importorskip("datasets")
hub = pytest.importorskip("pilotfish.evals.hub")

ROWS = [
    {"question": "2+2?", "choices": ["3", "4"], "answer": 1},
    {"question": "3+3?", "choices": ["6", "7"], "answer": 0},
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path / "set"


def test_a_folder_in_the_hubs_form_is_read_through_datasets(folder):
    found = load(f"hub:{folder}")
    assert [item.expected for item in found.items] == ["B", "A"]
    assert found.items[0].tags["split"] == "test"


def test_class_labels_come_by_their_names():
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["ham", "spam"]),
         "tags": datasets.Sequence(datasets.ClassLabel(names=["O", "B-a"]))}
    )  # fmt: skip
    assert hub._named({"text": "x", "label": 1, "tags": [1, 0]}, hub._label_names(features)) == {
        "text": "x", "label": "spam", "tags": ["B-a", "O"],
    }  # fmt: skip


def test_what_cannot_be_reached_says_what_to_do():
    with pytest.raises(DataError, match="without network, give a local file"):
        load("nobody/nothing:all")
