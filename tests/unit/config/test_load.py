"""Settings from file, environment and flags; every wrong input gets a sentence that helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.config import load
from pilotfish.config.settings import SECTIONS, Settings
from pilotfish.core.certificate import Claim
from pilotfish.core.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "pilotfish.toml"
    path.write_text(text)
    return path


def test_without_anything_it_only_observes() -> None:
    settings = load.load(environment={})
    assert settings == Settings()
    assert settings.quality.claim is None
    assert settings.large.price is None
    assert settings.server.host == "127.0.0.1"


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[quality]\nmax_risk = 0.01\nconfidence = 0.9\nper = "traffic"\n')
    settings = load.load(
        path,
        environment={"PILOTFISH_QUALITY_MAX_RISK": "0.02", "PILOTFISH_HOME": "/x", "PILOTFISH_LOG_KEEP_TEXT": "no"},
        flags={("quality", "max_risk"): 0.05, ("quality", "confidence"): None},
    )
    assert settings.quality.claim == Claim(max_risk=0.05, confidence=0.9, per="traffic")
    assert settings.home == "/x"
    assert settings.log.keep_text is False


def test_whole_numbers_are_fine_where_a_fraction_may_stand(tmp_path: Path) -> None:
    settings = load.load(write(tmp_path, "[large]\ninput_usd_per_mtok = 2\noutput_usd_per_mtok = 8\n"), environment={})
    assert settings.large.price is not None
    assert settings.large.price.output_usd_per_mtok == 8.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[quality]\nmax_rsk = 0.1", "Did you mean 'max_risk'?"),
        ("[qualty]\nmax_risk = 0.1", "Did you mean 'quality'?"),
        ("[quality]\nmax_risk = 'high'", "must be of type float"),
        ("[quality]\nmax_risk = true", "must be of type float"),
        ("[quality]\nmax_risk = 0.7", "must lie between"),
        ("[quality]\nper = 'request'", "must be one of answer, field, traffic"),
        ("quality = 3", "must be a table"),
        ("[server]\nport = 70000", "must lie between 0 and 65535"),
        ("[large]\nurl = 'localhost:1234'", "must start with http"),
        ("[large", "not valid TOML"),
    ],
)
def test_wrong_configurations_are_refused_with_advice(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load.load(write(tmp_path, text), environment={})
    assert said in str(caught.value)


def test_a_missing_file_that_was_named_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load.load(tmp_path / "none.toml", environment={})


def test_an_unparsable_environment_value_is_named() -> None:
    with pytest.raises(ConfigError, match="max_risk must be of type float, but is 'two'"):
        load.load(environment={"PILOTFISH_QUALITY_MAX_RISK": "two"})


def test_every_setting_is_explained() -> None:
    for kind in SECTIONS.values():
        for item in kind.__dataclass_fields__.values():
            assert item.metadata.get("help"), item.name


def test_the_hash_of_the_settings_changes_with_them() -> None:
    one = load.load(environment={})
    other = load.load(environment={}, flags={("quality", "max_risk"): 0.02})
    assert load.settings_sha256(one) != load.settings_sha256(other)
    assert load.settings_sha256(one) == load.settings_sha256(load.load(environment={}))


def test_lists_and_tables_come_from_file_and_environment(tmp_path: Path) -> None:
    text = '[privacy]\nmode = "mask"\ndetect = ["EMAIL", "CARD"]\n[privacy.patterns]\ncode = "X-[0-9]+"\n'
    privacy = load.load(write(tmp_path, text), environment={"PILOTFISH_PRIVACY_TASKS": '{"sort": "local"}'}).privacy
    assert (privacy.mode, privacy.detect) == ("mask", ("EMAIL", "CARD"))
    assert (privacy.patterns, privacy.tasks) == ({"code": "X-[0-9]+"}, {"sort": "local"})
    assert load.load(environment={"PILOTFISH_PRIVACY_DETECT": "EMAIL, IBAN"}).privacy.detect == ("EMAIL", "IBAN")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[privacy]\nmode = "hide"', r"\[privacy\] mode must be one of allow, mask, local"),
        ('[privacy]\ndetect = ["MAIL"]', r"detect knows no 'MAIL'\. Known types: EMAIL"),
        ('[privacy]\ndetect = "EMAIL"', r"\[privacy\] detect must be of type list of str"),
        ('[privacy.tasks]\nsort = "hide"', r"\[privacy\] tasks: sort must be one of"),
        ("[privacy.patterns]\nx = 1", r"\[privacy\.patterns\] must hold texts only"),
        ("[privacy]\npatterns = 1", r"\[privacy\] patterns must be of type table"),
    ],
)
def test_a_mistake_in_what_is_private_is_never_ignored(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load.load(write(tmp_path, text), environment={})
