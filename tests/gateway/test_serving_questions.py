"""Questions of passages in one user message: recognised, learnt by fine-tuning, certified, answered from the text."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.core.certificate import Certificate, Claim
from pilotfish.core.messages import ChatRequest, Message
from pilotfish.guarantees.learn import learn
from pilotfish.guarantees.pace import Pace
from pilotfish.guarantees.verify import recompute
from pilotfish.store.home import open_home
from pilotfish.students.encoder_cache import open_encoder
from pilotfish.tasks.fingerprint import instructions_id
from tools.gateway import gateway
from tools.log_rows import log_answers
from tools.served_home import Learnt
from tools.tuning import READING, questions, tuning
from tools.upstream import Asked, Reply

SYSTEM = "Answer from the text."
TASK = instructions_id(
    ChatRequest(messages=[Message(role="system", content=SYSTEM), Message(role="user", content="x")])
)
PROMPT = "Read this text, then answer.\n\nText: {}\nAnswer:"


def test_a_question_is_answered_from_its_passage(home: Path, learnt: Learnt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTFISH_CACHE", str(learnt.folder / "cache"))
    encoder = open_encoder(learnt.folder / "cache", learnt.encoder)
    pairs = [(PROMPT.format(text), answer) for text, answer in questions(240)]
    log_answers(home, pairs, task=TASK, instructions=SYSTEM)
    place = open_home(home)
    (outcome,) = learn(
        place,
        Claim(max_risk=0.2, confidence=0.8),
        Pace(first_after=180, growth=1.5),
        lambda: encoder,
        tuning=tuning(learnt.folder, READING),
    )
    assert outcome.task.shape.question == "last"
    assert isinstance(outcome.verdict, Certificate)
    assert recompute(place, outcome.verdict.id, encoder).differences == []
    place.registry.close()
    later = [(PROMPT.format(text), answer) for text, answer in questions(12, seed=5)]
    right = dict(later)

    def reference(asked: Asked) -> Reply:
        return Reply(text=right[asked.json["messages"][-1]["content"]])

    quality: dict[str, object] = {"max_risk": 0.2, "confidence": 0.8, "audit_rate": 0.0}
    local = []
    with gateway(home, reference, quality=quality, learning={"encoder": learnt.encoder, "check_every_s": 60}) as served:
        for text, answer in later:
            asked = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
            raw = served.client.chat.completions.with_raw_response.create(model="auto", messages=asked)  # type: ignore[arg-type]
            if raw.headers["x-pilotfish-reason"] == "certified":
                local.append(raw.parse().choices[0].message.content == answer)
    assert len(local) >= 6
    assert sum(local) > 0.7 * len(local)
