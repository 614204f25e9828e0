from __future__ import annotations

import pytest

from pilotfish.config.settings import LargeSettings, ModelSettings, Settings
from pilotfish.core.errors import ConfigError, TaskError
from pilotfish.core.messages import Price
from pilotfish.evals.candidates import FoundTask, Place, candidate
from pilotfish.routing.policy import Gates, Policy
from tools.compared import write_scores


def test_the_kinds_are_told_apart_by_what_is_written(tmp_path):
    scores = write_scores(tmp_path / "s.jsonl", {"a": [1], "b": [0]})
    place = Place(
        settings=Settings(
            large=LargeSettings(url="http://127.0.0.1:1/v1", model="big"),
            models={
                "other": ModelSettings(url="http://127.0.0.1:2/v1", model="theirs"),
                "here": ModelSettings(weights="someone/model"),
            },
        ),
        gate=lambda least: Policy(Gates(min_certainty=least, min_scope=-1)),
    )
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")
    (tmp_path / "q4.gguf").write_bytes(b"GGUF")
    kinds = {
        "large": ("endpoint", "big"),
        "big": ("endpoint", "big"),
        "other": ("endpoint", "other"),
        "here": ("weights", "here"),
        "http://127.0.0.1:1/v1#tiny": ("endpoint", "tiny"),
        "mine=http://127.0.0.1:1/v1?x=y#tiny": ("endpoint", "mine"),
        f"{scores}#b": ("recording", "b"),
        f"old={scores}#b": ("recording", "old"),
        "tools.compared:right": ("function", "right"),
        str(tmp_path / "weights"): ("weights", "weights"),
        "weights:someone/model": ("weights", "model"),
        str(tmp_path / "q4.gguf"): ("weights", "q4"),
        f"small=weights:{tmp_path / 'q4.gguf'}": ("weights", "small"),
        f"tools.compared:unsure>{scores}#a@0.5": ("cascade", "unsure>a"),
    }
    for text, expected in kinds.items():
        found = candidate(text, place)
        assert (found.kind, found.name) == expected, text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nonsense", "'nonsense' is nothing that answers"),
        ("http://127.0.0.1:1/v1", "has no model name"),
        ("large", "No large model is configured"),
        ("tools.compared:missing", "cannot be imported"),
        ("tools.compared:right>tools.compared:right", "no certainty from which"),
    ],
)
def test_what_answers_nothing_is_refused_with_what_was_expected(text, named):
    with pytest.raises(ConfigError, match=named):
        candidate(text, Place())


def test_a_price_belongs_to_the_name_and_changes_no_identity():
    price = Price(input_usd_per_mtok=1, output_usd_per_mtok=2, source="list")
    place = Place(prices={"mine": price})
    found = candidate("mine=http://127.0.0.1:1/v1#tiny", place)
    assert found.price == price
    assert found.sha256 == candidate("http://127.0.0.1:1/v1#tiny", place).sha256


def test_the_certificate_of_a_task_decides_in_its_cascade(tmp_path):
    def find(name):
        if name != "sort":
            raise TaskError("no such task")
        return FoundTask(tmp_path, Policy(Gates(min_certainty=0.5, min_scope=0)), has_first_tier=False)

    (tmp_path / "specialist.json").write_text("{}")
    found = candidate("sort>tools.compared:right", Place(find_task=find))
    assert (found.kind, found.name) == ("cascade", "sort>right")
    first = candidate("tier=first-tier:sort", Place(find_task=find))
    assert (first.kind, first.name) == ("specialist", "tier")
    assert first.sha256 != candidate("sort", Place(find_task=find)).sha256
