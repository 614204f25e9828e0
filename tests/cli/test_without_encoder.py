"""The cheapest tier: n-grams learn, certify and answer where nothing that runs an encoder is installed."""

from __future__ import annotations

import json
import subprocess
import sys

import openai
import pytest

from pilotfish.specialists.card import read_folder
from pilotfish.store.build import open_registry
from tools.gateway import gateway
from tools.served_home import TASK_ID, messages
from tools.upstream import Reply

# What the `local`, `learn` and `train` extras bring, but for numpy, safetensors and scikit-learn.
BARE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("onnxruntime", "tokenizers", "onnx", "torch", "transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from pilotfish.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def test_ngrams_alone_learn_certify_and_answer_without_what_runs_an_encoder(pilotfish, observed, monkeypatch):
    asked = ["distil", TASK_ID, "--max-risk", "0.05", "--encoder", "none", "--home", str(observed), "--json"]
    done = subprocess.run([sys.executable, "-c", BARE, *asked], capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    (learnt,) = json.loads(done.stdout)
    assert learnt["adopted"]
    assert "first" not in learnt
    registry = open_registry(observed)
    record = registry.task(TASK_ID)
    registry.close()
    folder = observed / "specialists" / record.specialist_sha256[:16]
    card = read_folder(folder).card
    assert card.students == ("n-gram SVM",)
    assert card.encoder_sha256 == ""
    assert "onnxruntime" not in card.versions
    monkeypatch.setenv("PILOTFISH_LEARNING_ENCODER", "none")
    assert pilotfish("certify", TASK_ID, "--verify", "--home", observed, "--json").json["verified"]
    quality = {"max_risk": 0.05, "audit_rate": 0.0}
    with gateway(observed, [Reply()], quality=quality, learning={"encoder": "none"}) as place:
        raw = place.client.chat.completions.with_raw_response.create(
            model="auto", messages=messages("my shirt 77 is green")
        )
        assert raw.headers["x-pilotfish-reason"] == "certified"
        assert raw.parse().choices[0].message.content == "green"
        strange = place.client.chat.completions.with_raw_response.create(
            model="auto", messages=messages("Wieviel kostet ein Ticket nach Bremen?")
        )
        assert strange.headers["x-pilotfish-reason"] != "certified"
        assert all(model.id != "none" for model in place.client.models.list())


def test_embeddings_are_refused_where_there_is_no_encoder(observed):
    absent = pytest.raises(openai.NotFoundError, match="no encoder here")
    with gateway(observed, [Reply()], learning={"encoder": "none"}) as place, absent:
        place.client.embeddings.create(model="none", input="red")
