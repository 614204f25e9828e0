"""Several models, their servers and other names for them: what is read, and what is refused by its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.config import load
from pilotfish.config.settings import EndpointSettings
from pilotfish.core.errors import ConfigError

WHOLE = """
[large]
url = "https://a.example/v1"
model = "big"
endpoints = ["https://b.example/v1", { url = "https://c.example/v1", key_env = "C_KEY" }]
degraded = "small"

[models.small]
url = "http://127.0.0.1:9/v1"
timeout_s = 5
input_usd_per_mtok = 1

[models."vendor/tiny"]
url = "http://127.0.0.1:9/v1"
model = "tiny-2026"

[aliases]
"gpt-4o" = "auto"
"gpt-4o-mini" = "small"
"intents" = "pilotfish/sort-messages"
"""


def read(folder: Path, text: str) -> load.Settings:
    path = folder / "pilotfish.toml"
    path.write_text(text)
    return load.load(path, environment={})


def test_models_servers_and_aliases_are_read(tmp_path: Path) -> None:
    settings = read(tmp_path, WHOLE)
    assert settings.large.endpoints == (
        EndpointSettings(url="https://b.example/v1"),
        EndpointSettings(url="https://c.example/v1", key_env="C_KEY"),
    )
    assert settings.models["small"].timeout_s == 5.0
    assert settings.models["vendor/tiny"].model == "tiny-2026"
    assert settings.aliases["gpt-4o"] == "auto"
    assert load.settings_sha256(settings) != load.settings_sha256(load.load(environment={}))


def test_servers_may_stand_in_the_environment() -> None:
    settings = load.load(environment={"PILOTFISH_LARGE_ENDPOINTS": "http://a/v1 http://b/v1"})
    assert [endpoint.url for endpoint in settings.large.endpoints] == ["http://a/v1", "http://b/v1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[models.small]\nurll = 'http://x'",
            "'urll' in [models.small]. Did you mean 'url'?",
        ),
        ("[models.small]\nmodel = 'x'", "[models.small] url is missing"),
        ("[models.small]\nurl = 'x'", "[models.small] url must start with http"),
        ("[models.small]\nweights = 'x'\nurl = 'http://x'", "[models.small] has weights and a server"),
        ("[models.small]\nweights = 'x'\ntask = 'sing'", "[models.small] task must be one of generate, classify"),
        ("[models.small]\nurl = 'http://x'\ntimeout_s = -1", "[models.small] timeout_s must lie between"),
        ("[models.small]\nurl = 'http://x'\ndegraded = 'y'", "Unknown configuration key 'degraded' in [models.small]"),
        ("[models]\nsmall = 'http://x'", "[models.small] must be a table"),
        ("models = 3", "[models] must be a table"),
        ("[models.auto]\nurl = 'http://x'", "[models.auto] has a name that Pilotfish keeps"),
        ("[models.specialist]\nurl = 'http://x'", "[models.specialist] has a name that Pilotfish keeps"),
        ("[models.'pilotfish/x']\nurl = 'http://x'", "[models.pilotfish/x] has a name that Pilotfish keeps"),
        ("[models.' a']\nurl = 'http://x'", "[models. a] must have a name of printable"),
        ("[large]\nmodel = 'big'\n[models.big]\nurl = 'http://x'", "[models.big] has the name of the large model"),
        ("[aliases]\nauto = 'auto'", "[aliases] auto has a name that Pilotfish keeps"),
        ("[aliases]\n'' = 'auto'", "must have a name of printable"),
        ("[aliases]\nx = 'nobody'", "[aliases] x stands for 'nobody', which is no name here"),
        ("[aliases]\nx = 'pilotfish/'", "[aliases] x stands for 'pilotfish/'"),
        ("[aliases]\nx = 'y'\ny = 'auto'", "[aliases] x stands for 'y'"),
        ("[aliases]\nx = 3", "[aliases] x must be of type str"),
        ("[large]\nmodel = 'big'\n[aliases]\nbig = 'auto'", "[aliases] big is the name of a configured model"),
        ("[large]\ndegraded = 'small'", "[large] degraded names 'small', which is not configured"),
        ("[routing]\nmodels = ['small']", "[routing] models must be different names of [models]"),
        ("[routing]\nmargin = 0.05", "[routing] models is missing"),
        ("[routing]\njudge = 'nobody'", "[routing] judge names 'nobody', which is not configured"),
        ("[routing]\nverifier = 'nobody'", "[routing] verifier names 'nobody', which is not configured"),
        ("[routing]\nsamples = 9", "[routing] samples must lie between 0 and 8"),
        (
            "[large]\nmodel = 'big'\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 1\n"
            "[models.v]\nurl = 'http://x'\n[routing]\nverifier = 'v'\nusd_per_day = 1",
            "[routing] usd_per_day needs the price of 'v'",
        ),
        ("[models.small]\nurl = 'http://x'\n[routing]\nmodels = ['small']\ncollect = 0.1", "Set collect_usd_per_day"),
        ("[models.small]\nurl = 'http://x'\n[routing]\nmodels = ['small']\nusd_per_day = 1", "the price of"),
        ("[routing]\nwhen_spent = 'wait'", "when_spent must be one of small, refuse, not 'wait'"),
        ("[routing]\nmargin = 2", "[routing] margin must lie between"),
        ("[large]\nendpoints = 'http://x'", "[large] endpoints must be a list of URLs"),
        ("[large]\nendpoints = [3]", "[large] endpoints must hold URLs"),
        ("[large]\nendpoints = [{key_env = 'x'}]", "[large] endpoints must hold URLs, or tables with a url"),
        ("[large]\nendpoints = ['x']", "[large] endpoints must start with http"),
        ("[large]\nendpoints = ['']", "[large] endpoints must start with http"),
        (
            "[large]\nendpoints = [{url = 'http://x', key = 'y'}]",
            "Unknown configuration key 'key' in [large.endp",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)
