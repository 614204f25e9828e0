"""One tiny encoder for all tests that need any."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.specialists.encoder import Encoder
from tools.tiny_models import open_tiny_encoder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is built, with the weights it is made of (`tools.tuning.tuning`)."""
    return tmp_path_factory.mktemp("encoder")


@pytest.fixture(scope="session")
def encoder(encoder_folder: Path) -> Encoder:
    return open_tiny_encoder(encoder_folder)
