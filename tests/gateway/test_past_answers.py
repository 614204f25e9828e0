"""Past answers given again: learnt, certified whole, served in streams; for one key, for a time, until forgotten."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pilotfish.cli.main import run
from pilotfish.config.settings import LearningSettings
from pilotfish.core.certificate import Certificate, Claim, text_scorers
from pilotfish.guarantees.forget import forget
from pilotfish.guarantees.learn import learn
from pilotfish.guarantees.pace import Pace
from pilotfish.guarantees.verify import recompute
from pilotfish.specialists.encoder import Encoder
from pilotfish.store.base import TaskRecord
from pilotfish.store.build import open_registry
from pilotfish.store.home import open_home
from pilotfish.students.encoder_cache import open_encoder
from tools.faq import ONE_OFF, TASK, log, messages, questions, reply
from tools.gateway import Place, gateway
from tools.keyed import make_key
from tools.served_home import Learnt
from tools.upstream import Asked, Reply

CLAIM = Claim(max_risk=0.15, confidence=0.8)
SEEN_S = time.time() - 86_400.0
MASKED = "Dear <PERSON_1>, your parcel is at the post office, where it waits until Sunday; please bring a pass."
OTHERS = (
    "This is only for partners: your rebate is forty per cent until the end of the year, and must not be passed on."
)
KNOWN = "where is my parcel please"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, learnt: Learnt) -> Path:
    """A home that serves the desk's past answers; learnt without keys, beside masked rows and those of another key."""
    home = tmp_path_factory.mktemp("desk") / "home"
    log(home, [(f"my parcel <PERSON_1> {n}", MASKED) for n in range(40)], start_s=SEEN_S - 20)
    log(home, [(f"my rebate {n}", OTHERS) for n in range(40)], start_s=SEEN_S - 10, key_id="partners")
    log(home, [*[(KNOWN, reply("parcel"))] * 2, *questions(300)], start_s=SEEN_S)
    place = open_home(home)
    encoder = open_encoder(learnt.folder / "cache", learnt.encoder)
    (outcome,) = learn(place, CLAIM, Pace(first_after=180, growth=1.5), lambda: encoder)
    assert isinstance(outcome.verdict, Certificate)
    assert outcome.is_adopted
    assert outcome.verdict.scorer == text_scorers(1.0)[1]
    assert recompute(place, outcome.verdict.id, encoder).differences == []
    place.registry.close()
    return home


@pytest.fixture
def home(desk: Path, tmp_path: Path, learnt: Learnt, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PILOTFISH_CACHE", str(learnt.folder / "cache"))
    shutil.copytree(desk, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def options(learnt: Learnt) -> dict[str, dict[str, object]]:
    quality: dict[str, object] = {"max_risk": CLAIM.max_risk, "confidence": CLAIM.confidence, "audit_rate": 0.0}
    return {"quality": quality, "learning": {"encoder": learnt.encoder, "check_every_s": 60}}


def ask(place: Place, text: str, **headers: str) -> tuple[str, str]:
    """The reason of the receipt, and the answer."""
    raw = place.client.chat.completions.with_raw_response.create(  # type: ignore[call-overload]
        model="auto", messages=messages(text), extra_headers=headers
    )
    return raw.headers["x-pilotfish-reason"], raw.parse().choices[0].message.content


def record(home: Path) -> TaskRecord:
    with closing(open_registry(home)) as registry:
        found = registry.task(TASK)
    assert found is not None
    return found


def until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_past_answers_are_served_whole_and_in_streams(home: Path, options: dict[str, dict[str, object]]) -> None:
    later = questions(40, seed=5)
    right = dict(later)
    with gateway(home, lambda asked: Reply(text=right[asked.json["messages"][-1]["content"]]), **options) as place:  # type: ignore[arg-type]
        said = {text: ask(place, text) for text, _ in later}
        local = [text for text, (reason, _) in said.items() if reason == "certified"]
        assert len(local) > 20
        assert sum(said[text][1] == right[text].strip() for text in local) > 0.85 * len(local)
        stream = place.client.chat.completions.create(model="auto", messages=messages(KNOWN), stream=True)  # type: ignore[call-overload]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        assert text == reply("parcel").strip()
    # What is answered anew each time has no past answer to give.
    assert sum(text.startswith(ONE_OFF) for text in local) <= 1


def test_what_was_masked_or_given_to_another_key_stands_nowhere(home: Path) -> None:
    texts = [text for _, text in record(home).shape.style]
    assert sorted(texts) == sorted(reply(topic).strip() for topic in ("parcel", "refund", "password"))
    written = b"".join(path.read_bytes() for path in (home / "specialists").rglob("*") if path.is_file())
    assert b"follow the steps" in written
    assert b"post office" not in written
    assert b"partners" not in written


def test_another_key_gets_no_past_answers(home: Path, options: dict[str, dict[str, object]]) -> None:
    key = make_key(home)
    with gateway(home, (Reply(text="from the large model"),) * 2, **options) as place:  # type: ignore[arg-type]
        assert ask(place, KNOWN, authorization=f"Bearer {key}") == ("other-key", "from the large model")
        (row,) = [row for row in place.rows(383) if row.key_id not in (None, "partners")]
        assert (row.mode, row.sampling, row.local_answer, row.certificate_id) == ("observe", "observe", None, "")


def test_what_is_shared_is_learnt_for_every_key_and_served_only_while_it_is(
    home: Path, options: dict[str, dict[str, object]], learnt: Learnt
) -> None:
    place = open_home(home, LearningSettings(share_answers=True, answer_overlap=0.9))
    encoder = open_encoder(learnt.folder / "cache", learnt.encoder)
    place.registry.update_task(TASK, mode="observe", certificate_id="")
    (outcome,) = learn(place, CLAIM, Pace(first_after=180, growth=1.5), lambda: encoder, only=TASK)
    place.registry.close()
    assert outcome.is_adopted
    assert outcome.verdict.scorer == text_scorers(0.9)[1]  # type: ignore[union-attr]
    assert OTHERS in [text for _, text in record(home).shape.style]
    key = make_key(home)
    for shares, overlap, reason in ((True, 0.9, "certified"), (False, 0.9, "observing"), (True, 1.0, "observing")):
        options["learning"] |= {"share_answers": shares, "answer_overlap": overlap}
        with gateway(home, (Reply(text="large"),), **options) as served:  # type: ignore[arg-type]
            assert ask(served, KNOWN, authorization=f"Bearer {key}")[0] == reason


def test_a_forgotten_answer_is_given_no_more_at_once(
    home: Path, options: dict[str, dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    with gateway(home, (Reply(text="from the large model"),) * 20, **options) as place:  # type: ignore[arg-type]
        assert ask(place, KNOWN) == ("certified", reply("parcel").strip())
        assert run(["forget", TASK, "--matching", "ABOUT your  parcel", "--home", str(home)]) == 0
        assert "1 past answers forgotten" in capsys.readouterr().out
        until(lambda: ask(place, KNOWN)[0] == "stale")
        assert run(["forget", TASK, "--all", "--home", str(home)]) == 0
        until(lambda: ask(place, KNOWN)[0] == "observing")
    assert record(home).certificate_id == ""
    # Looking again brings nothing back from the log.
    assert run(["tasks", "--home", str(home)]) == 0
    assert record(home).shape.style == ()


def test_what_is_forgotten_while_it_is_being_learnt_stays_forgotten(home: Path, learnt: Learnt) -> None:
    place = open_home(home)
    place.registry.update_task(TASK, mode="observe", certificate_id="")

    def meanwhile() -> Encoder:
        assert len(forget(open_home(home), record(home), "your refund", Pace())) == 1
        return open_encoder(learnt.folder / "cache", learnt.encoder)

    (outcome,) = learn(place, CLAIM, Pace(first_after=180, growth=1.5), meanwhile, only=TASK)
    place.registry.close()
    assert outcome.is_adopted
    assert sorted(text for _, text in record(home).shape.style) == [reply("parcel").strip(), reply("password").strip()]


def test_an_old_answer_waits_for_the_large_model_to_confirm_it(
    home: Path, options: dict[str, dict[str, object]]
) -> None:
    options["learning"]["answer_days"] = 0.5
    with gateway(home, (Reply(text=reply("parcel").upper()),), **options) as place:  # type: ignore[arg-type]
        assert ask(place, KNOWN) == ("stale", reply("parcel").upper())
        until(lambda: ask(place, KNOWN)[0] == "certified")
        assert len(place.server.asked) == 1


def test_a_reference_that_changes_its_answers_is_caught_by_audits(
    home: Path, options: dict[str, dict[str, object]]
) -> None:
    options["quality"]["audit_rate"] = 1.0

    def changed(asked: Asked) -> Reply:
        return Reply(
            text="Since today all of this is done by phone: call the number on your card, every day until ten."
        )

    with gateway(home, changed, **options) as place:  # type: ignore[arg-type]
        reasons = [ask(place, KNOWN)[0] for _ in range(40)]
        until(lambda: record(home).mode == "observe")
    assert reasons[:3] == ["certified"] * 3
    assert reasons[-1] == "observing"
