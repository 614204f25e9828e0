import json

import pytest

from pilotfish.core.errors import SpecialistError
from pilotfish.specialists.card import NAME, Card, read_folder, write_folder
from tools.tiny_tasks import json_task

CARD = Card(
    task_id="0" * 16,
    task_name="intent",
    shape=json_task().shape,
    classes=(("a", "ü \ud83d"), ("true",)),
    encoder_sha256="1" * 64,
    data_sha256="2" * 64,
    n_examples=3,
    students=("one",),
    scores={"out_of_fold_agreement": 0.5},
    versions={"numpy": "2"},
    files={},
)


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path, CARD, {"a.bin": b"aaa", "b.bin": b"bbb"})
    return tmp_path


def change(folder, **values):
    row = json.loads((folder / NAME).read_text())
    (folder / NAME).write_text(json.dumps({**row, **values}))


def test_a_folder_reads_back_and_equal_content_has_one_identity(folder, tmp_path_factory):
    found = read_folder(folder)
    assert found.contents == {"a.bin": b"aaa", "b.bin": b"bbb"}
    assert found.card.shape == CARD.shape
    assert found.card.classes == CARD.classes
    other = tmp_path_factory.mktemp("other")
    assert write_folder(other, CARD, {"a.bin": b"aaa", "b.bin": b"bbb"}) == found.sha256
    assert write_folder(other, CARD, {"a.bin": b"aab", "b.bin": b"bbb"}) != found.sha256


def test_a_certificate_beside_it_changes_nothing(folder):
    before = read_folder(folder).sha256
    (folder / "certificate.json").write_text("{}")
    assert read_folder(folder).sha256 == before


def test_a_changed_file_is_refused_by_name(folder):
    (folder / "b.bin").write_bytes(b"bbc")
    with pytest.raises(SpecialistError, match=r"b\.bin differs from its hash"):
        read_folder(folder)


def test_a_missing_file_or_card_is_refused(folder):
    (folder / "b.bin").unlink()
    with pytest.raises(SpecialistError, match="FileNotFoundError"):
        read_folder(folder)
    (folder / NAME).unlink()
    with pytest.raises(SpecialistError):
        read_folder(folder)


@pytest.mark.parametrize("name", ["../a.bin", "/etc/passwd", "..", ".", "", "a/b", "a\\b", ".hidden", "a\n"])
def test_a_file_outside_the_folder_is_refused(folder, name):
    change(folder, files={name: "0" * 64})
    with pytest.raises(SpecialistError, match="outside its folder"):
        read_folder(folder)


def test_a_newer_format_says_update(folder):
    change(folder, format=2)
    with pytest.raises(SpecialistError) as caught:
        read_folder(folder)
    assert caught.value.hint == "Update pilotfish."


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"format": "x"}', '{"format": 1}', "[" * 99999, "\xff"])
def test_a_broken_card_is_refused(folder, text):
    (folder / NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(SpecialistError):
        read_folder(folder)


@pytest.mark.parametrize("values", [{"files": []}, {"shape": None}, {"classes": 3}, {"files": {"a.bin": None}}])
def test_a_card_of_the_wrong_types_is_refused(folder, values):
    change(folder, **values)
    with pytest.raises(SpecialistError):
        read_folder(folder)
