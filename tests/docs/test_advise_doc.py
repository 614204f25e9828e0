"""What `docs/advise.md` asks and orders is what the command asks and orders, and its file is read."""

from __future__ import annotations

import re
from pathlib import Path

from pilotfish.advice.needs import QUESTIONS, read_file
from pilotfish.advice.rule import CONSTRAINTS
from tools.pages import ROOT, prose, rows

PAGE = ROOT / "docs" / "advise.md"


def test_every_question_is_documented_in_its_own_words():
    table = rows(PAGE)
    for question in QUESTIONS:
        flag = f"`--{question.name.replace('_', '-')}`"
        help_text = re.sub(r"\s+\[default: (.*)\]\.", r" (default \1).", question.help)
        assert table[question.name] == [flag, help_text]


def test_the_constraints_are_named_in_the_order_of_the_rule():
    assert ", ".join(f"`{name}`" for name in CONSTRAINTS) in prose(PAGE)


def test_the_file_is_read(tmp_path: Path):
    block = re.search(r"```toml[^\n]*\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert block
    (tmp_path / "needs.toml").write_text(block[1])
    answers, stated = read_file(tmp_path / "needs.toml")
    assert (answers["volume"], answers["languages"]) == (125.0, ("en", "de"))
    assert (stated["qwen-small"].capacity_per_h, stated["some-api"].is_local) == (6000.0, False)
