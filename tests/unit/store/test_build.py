"""A home folder: its rights, and what is said where it cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.core.errors import StoreError
from pilotfish.store.build import embeddings, open_importer, open_log, open_registry, open_writer, prune, tuning
from tools.log_rows import request_row

OPEN = [open_log, open_writer, open_importer, open_registry]


@pytest.mark.parametrize("open_part", OPEN)
def test_any_part_creates_a_home_that_only_its_owner_can_read(tmp_path: Path, open_part) -> None:
    home = tmp_path / "deep" / "home"
    part = open_part(home)
    if hasattr(part, "close"):
        part.close()
    assert home.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in home.rglob("*") if path.is_file()} <= {0}


def test_the_files_of_a_home_that_was_already_open_to_others_are_not(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    writer, registry = open_writer(tmp_path), open_registry(tmp_path)
    writer.append(request_row())
    open_log(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    writer.close()
    registry.close()


@pytest.mark.parametrize("open_part", OPEN)
def test_a_home_that_is_a_file_is_a_clear_error(tmp_path: Path, open_part) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(StoreError, match=r"home folder .* cannot be used: .*--home"):
        open_part(tmp_path / "home")


@pytest.mark.parametrize(
    ("open_part", "name"),
    [(open_log, "log.db"), (open_importer, "log.db"), (open_registry, "registry.db"), (open_writer, "spool")],
)
def test_a_part_that_is_in_the_way_is_named(tmp_path: Path, open_part, name: str) -> None:
    blocked = tmp_path / name
    if name == "spool":
        blocked.write_text("")
    else:
        blocked.mkdir()
    with pytest.raises(StoreError, match="cannot be used"):
        open_part(tmp_path)


def test_pruning_deletes_what_was_derived_from_the_texts_too(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.append(request_row("old", time_s=1.0))
    writer.append(request_row("new", time_s=9.0))
    embeddings(tmp_path).write_bytes(b"")
    begun = tuning(tmp_path / "specialists") / "task"
    begun.mkdir(parents=True)
    assert prune(tmp_path, 5.0) == 1
    assert open_log(tmp_path).row("new") is not None
    assert not embeddings(tmp_path).exists()
    assert not begun.exists()
    writer.close()
