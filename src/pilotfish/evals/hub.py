"""Rows of a data set on the Hugging Face hub, or of a folder in its form, through `datasets`.

The only file that imports `datasets`, the extra `data`. It loads what the id names ("owner/name",
"owner/name:config"), turns the numbers of class labels into their names, and translates what goes wrong; what a row
means stands in `layouts.py`.
"""

from __future__ import annotations

from typing import Any

from pilotfish.core.errors import DataError, MissingExtraError
from pilotfish.evals.files import Row, split_name

try:
    import datasets
except ImportError as error:
    raise MissingExtraError("data", error.name or "datasets") from error


def hub_rows(name: str) -> list[Row]:
    """The rows of all splits. Raises `DataError` where the data set is not there, or cannot be reached or read."""
    path, _, config = name.partition(":")
    try:
        loaded = datasets.load_dataset(path, config or None)
    except (OSError, ValueError, RuntimeError, LookupError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(
            f"The data set {name!r} cannot be loaded from the hub: {type(error).__name__}: {reason}",
            hint="Name it as owner/name or owner/name:config; without network, give a local file or folder.",
        ) from error
    rows: list[Row] = []
    for split, table in loaded.items():
        names = _label_names(table.features)
        rows += [
            Row(content=_named(row, names), file=f"{name} {split}", line=line, split=split_name(split))
            for line, row in enumerate(table, start=1)
        ]
    return rows


def _label_names(features: Any) -> dict[str, list[str]]:  # noqa: ANN401 - the library has no types
    """The names behind the numbers of each column of class labels, or of lists of them."""
    found = {}
    for column, feature in features.items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, datasets.ClassLabel):
            found[column] = list(inner.names)
    return found


def _named(row: dict[str, Any], names: dict[str, list[str]]) -> dict[str, Any]:
    for column, labels in names.items():
        value = row[column]
        if isinstance(value, list):
            row[column] = [labels[number] for number in value]
        elif isinstance(value, int) and 0 <= value < len(labels):
            row[column] = labels[value]
    return row
