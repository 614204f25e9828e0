"""One tiny encoder for the tests of the replay."""

from __future__ import annotations

import pytest

from pilotfish.specialists.encoder import Encoder
from tools.tiny_models import open_tiny_encoder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return open_tiny_encoder(tmp_path_factory.mktemp("encoder"))
