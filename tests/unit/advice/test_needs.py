"""What is asked, and how answers are read: the same from a flag, a file and a terminal."""

from __future__ import annotations

import pytest

from pilotfish.advice.needs import BY_NAME, HOURS_PER_MONTH, needs, read_file, rent
from pilotfish.core.errors import ConfigError, UserError


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("volume", "120/h", 120.0),
        ("volume", "2,400 per day", 100.0),
        ("volume", "730000/month", 1000.0),
        ("volume", "2/s", 7200.0),
        ("max_latency", "0.8", 0.8),
        ("max_latency", "800ms", 0.8),
        ("margin", "0.02", 0.02),
        ("margin", "2%", 0.02),
        ("margin", "1.5 points", 0.015),
        ("budget", "$1500", 1500.0),
        ("local", "Yes", True),
        ("context", "8,192", 8192),
        ("languages", "DE, en", ("de", "en")),
        ("tokens", "400/20", (400.0, 20.0)),
        ("memory", "24", 24e9),
        ("utilisation", "0.3", 0.3),
    ],
)
def test_answers_are_read(name, text, value):
    assert (
        BY_NAME[name].read(text) == pytest.approx(value)
        if isinstance(value, float)
        else BY_NAME[name].read(text) == value
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("volume", "many"), ("volume", "120"), ("volume", "0/h"), ("max_latency", "fast"), ("max_latency", "nan"),
        ("margin", "2"), ("margin", "0"), ("margin", "200%"), ("budget", "-1"), ("local", "perhaps"),
        ("languages", "English"), ("tokens", "400"), ("utilisation", "2"), ("alpha", "0.9"), ("context", "0"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_with_what_was_expected(name, text):
    with pytest.raises(UserError, match="expected, got"):
        BY_NAME[name].read(text)


def test_upkeep_without_its_price_is_no_upkeep_of_nothing():
    with pytest.raises(UserError, match="both its hours"):
        needs({"upkeep_hours": 3.0}, {})
    assert needs({"upkeep_hours": 10.0, "upkeep_price": 73.0}, {}).upkeep_usd_per_h == 730 / HOURS_PER_MONTH


def test_a_file_answers_and_states_candidates(tmp_path):
    (tmp_path / "needs.toml").write_text(
        'volume = "120/h"\nlocal = true\nlanguages = ["de"]\n'
        '[candidates.small]\nrent = "0.8@6000"\nlanguages = ["en", "de"]\nmodel = "qwen2.5-7b"\ncontext = 8192\n'
        '[candidates.api]\nprice = "1/2@list 2026-11-22"\nlocal = false\n'
    )
    answers, stated = read_file(tmp_path / "needs.toml")
    assert answers == {"volume": 120.0, "local": True, "languages": ("de",)}
    small, api = stated["small"], stated["api"]
    assert (small.rent_usd_per_h, small.capacity_per_h, small.languages) == (0.8, 6000.0, ("en", "de"))
    assert (small.model, small.context) == ("qwen2.5-7b", 8192)
    assert (api.price.output_usd_per_mtok, api.price.source, api.is_local) == (2.0, "list 2026-11-22", False)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("volume = [", "no TOML"),
        ("colour = 1", "unknown key 'colour'"),
        ("[candidates.a]\nwight = 1", r"\[candidates.a\] holds something unknown"),
        ("candidates = 1", "unknown key 'candidates'"),
        ('[candidates.a]\nprice = "cheap"', "price of 'a'"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, text, named):
    (tmp_path / "needs.toml").write_text(text)
    with pytest.raises(ConfigError, match=named):
        read_file(tmp_path / "needs.toml")


@pytest.mark.parametrize("text", ["much", "-1", "1@0", "1@many"])
def test_a_rent_that_makes_no_sense_is_refused(text):
    with pytest.raises(ConfigError, match="rent of 'a'"):
        rent("a", text)
