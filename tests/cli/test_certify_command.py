"""`pilotfish certify` on a small home that was filled and certified for real."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from pilotfish.cli.main import EXIT_NO, EXIT_USER, run
from pilotfish.core.task import Template
from pilotfish.store.build import open_registry, open_writer
from tools.log_rows import instructions_row, repeat_row, request_row
from tools.served_home import COLOURS, INSTRUCTIONS, TASK_ID, sentences
from tools.tiny_models import write_tiny_bert


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an encoder, a home whose task is certified, and one whose task is refused."""
    folder = tmp_path_factory.mktemp("certify")
    write_tiny_bert(folder / "tiny-bert")
    (folder / "pilotfish.toml").write_text(f'[learning]\nencoder = "{folder / "tiny-bert"}"\n')
    _fill(folder / "certified", vague=0.02)
    _fill(folder / "refused", vague=0.4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PILOTFISH_CACHE", str(folder / "cache"))
        for name, expected in (("certified", 0), ("refused", EXIT_NO)):
            assert _run(folder, name, "distil", TASK_ID, "--max-risk", "0.05") == expected
    return folder


def _fill(home: Path, vague: float) -> None:
    """480 answers of the colour task in the log, a share of them arbitrary."""
    source = random.Random(0)
    writer = open_writer(home)
    writer.append(instructions_row(TASK_ID, text=INSTRUCTIONS))
    for number, (text, colour) in enumerate(sentences(480, seed=1)):
        answer = source.choice(COLOURS) if source.random() < vague else colour
        writer.append(
            request_row(
                f"r{number}",
                time_s=float(number),
                instructions_id=TASK_ID,
                task_id=TASK_ID,
                mode="observe",
                input=text,
                answer=answer,
                reference_answer=answer,
            )
        )
    writer.close()


def _run(folder: Path, home: str, *arguments: str) -> int:
    return run([*arguments, "--config", str(folder / "pilotfish.toml"), "--home", str(folder / home)])


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may spoil."""
    monkeypatch.setenv("PILOTFISH_CACHE", str(made / "cache"))
    for home in ("certified", "refused"):
        shutil.copytree(made / home, tmp_path / home)
    shutil.copy(made / "pilotfish.toml", tmp_path)
    return tmp_path


def _json(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def test_a_certificate_verifies(folder, capsys):
    assert _run(folder, "certified", "certify", TASK_ID, "--verify", "--json") == 0
    found = _json(capsys)
    assert (found["verified"], found["differences"]) == (True, [])
    assert _run(folder, "certified", "certify", TASK_ID, "--verify") == 0
    assert "no difference" in capsys.readouterr().out


def _change_rows(home: Path) -> None:
    """One calibration row now has another answer."""
    with sqlite3.connect(home / "log.db") as connection:
        (old,) = connection.execute("SELECT reference_answer FROM requests WHERE request_id = 'r400'").fetchone()
        other = next(colour for colour in COLOURS if colour != old)
        connection.execute("UPDATE requests SET reference_answer = ? WHERE request_id = 'r400'", (other,))
    connection.close()


def _delete_rows(home: Path) -> None:
    with sqlite3.connect(home / "log.db") as connection:
        connection.execute("DELETE FROM requests WHERE request_id = 'r400'")
    connection.close()


def _bias_rows(home: Path) -> None:
    with sqlite3.connect(home / "log.db") as connection:
        connection.execute("UPDATE requests SET sampling = 'deferred' WHERE request_id = 'r400'")
    connection.close()


def _change_artefact(home: Path) -> None:
    (weights,) = (home / "specialists").glob("*/*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")


def _remove_artefact(home: Path) -> None:
    shutil.rmtree(home / "specialists")


def _change_body(home: Path, **changes: object) -> None:
    """The certificate as stored says something else; its id stays."""
    with sqlite3.connect(home / "registry.db") as connection:
        connection.execute("DROP TRIGGER verdicts_hold")
        number, body = connection.execute(
            "SELECT number, body FROM verdicts WHERE certificate_id IS NOT NULL"
        ).fetchone()
        row = {**json.loads(body), **changes}
        connection.execute("UPDATE verdicts SET body = ? WHERE number = ?", (json.dumps(row), number))
    connection.close()


def _change_bound(home: Path) -> None:
    _change_body(home, bound=0.001)


def _change_promise(home: Path) -> None:
    _change_body(home, claim={"max_risk": 0.001, "confidence": 0.95, "per": "answer"})


def _change_attempt(home: Path) -> None:
    _change_body(home, attempt=2)


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (_change_rows, ["data_sha256"]),
        (_delete_rows, ["request_ids"]),
        (_bias_rows, ["sampling"]),
        (_change_artefact, ["artefact_sha256"]),
        (_remove_artefact, ["artefact_sha256"]),
        (_change_bound, ["id", "bound"]),
        (_change_promise, ["id", "min_certainty"]),
        (_change_attempt, ["id", "attempt", "delta_spent"]),
    ],
)
def test_what_was_tampered_with_is_named(folder, capsys, tamper, named):
    tamper(folder / "certified")
    page = folder / "page.html"
    assert _run(folder, "certified", "certify", TASK_ID, "--verify", "--html", str(page)) == EXIT_NO
    said = capsys.readouterr()
    differing = [line.removeprefix("DIFFERS: ").split(":")[0] for line in said.err.splitlines()]
    assert set(named) <= set(differing)
    assert "no difference" not in said.out
    assert not page.exists()


def test_rows_and_artefact_are_both_named(folder, capsys):
    _change_rows(folder / "certified")
    _change_artefact(folder / "certified")
    assert _run(folder, "certified", "certify", TASK_ID, "--verify", "--json") == EXIT_NO
    found = _json(capsys)
    assert [line.split(":")[0] for line in found["differences"]] == ["artefact_sha256", "data_sha256"]
    assert found["verified"] is False


def test_a_template_learnt_later_changes_nothing(folder):
    """A later template for the same instructions takes its texts away from the task, not from the certificate."""
    registry = open_registry(folder / "certified")
    registry.put_templates([Template(instructions_id=TASK_ID, prefix="my ", suffix="", task_id="f" * 16)])
    registry.close()
    assert _run(folder, "certified", "certify", TASK_ID, "--verify") == 0


def test_the_page_is_written(folder, capsys):
    page = folder / "page.html"
    assert _run(folder, "certified", "certify", TASK_ID, "--html", str(page)) == 0
    assert str(page) in capsys.readouterr().out
    text = page.read_text("utf-8")
    certificate = open_registry(folder / "certified").verdicts(TASK_ID)[-1]
    assert certificate.data_sha256 in text
    assert f"--certificate {certificate.id} --verify" in text


def test_a_refused_task_says_what_is_short(folder, capsys):
    assert _run(folder, "refused", "certify", TASK_ID) == EXIT_NO
    said = capsys.readouterr().out
    assert "not certified. Cannot promise that at most 5 % of the requests answered locally differ" in said
    assert _run(folder, "refused", "certify", TASK_ID, "--json") == EXIT_NO
    refusal = _json(capsys)["refusal"]
    assert refusal["short_of"] == "agreement"
    assert refusal["message"] in said


def test_a_withdrawn_certificate_is_named_and_still_verifies(folder, capsys):
    registry = open_registry(folder / "certified")
    certificate_id = registry.task(TASK_ID).certificate_id
    registry.update_task(TASK_ID, mode="observe", certificate_id="")
    registry.close()
    assert _run(folder, "certified", "certify", TASK_ID) == EXIT_NO
    assert f"{certificate_id}, is no longer in force" in capsys.readouterr().out
    assert _run(folder, "certified", "certify", TASK_ID, "--certificate", certificate_id, "--verify") == 0
    assert _run(folder, "certified", "certify", TASK_ID, "--certificate", "f" * 16) == EXIT_USER


def test_a_task_never_attempted_says_how_to_try(folder, capsys):
    registry = open_registry(folder / "refused")
    registry.put_task(dataclasses.replace(registry.task(TASK_ID), task_id="e" * 16, name="other"))
    registry.close()
    assert _run(folder, "refused", "certify", "other") == EXIT_NO
    assert "never attempted. `pilotfish distil other" in capsys.readouterr().out


def test_a_plan_spends_nothing_and_leaves_nothing_behind(folder, capsys):
    home = folder / "refused"
    before = (open_registry(home).n_attempts(TASK_ID), sorted(home.glob("specialists/*")))
    assert _run(folder, "refused", "certify", TASK_ID, "--plan", "--max-risk", "0.3", "--json") == 0
    plan = _json(capsys)
    assert (open_registry(home).n_attempts(TASK_ID), sorted(home.glob("specialists/*"))) == before
    assert (plan["n_now"], plan["attempt"]) == (480, before[0] + 1)
    claims = [(need["claim"]["max_risk"], need["claim"]["per"]) for need in plan["needs"]]
    assert claims == [(risk, per) for risk in (0.01, 0.02, 0.05, 0.1, 0.3) for per in ("answer", "traffic")]
    needs = {claim: need["n_answers"] for claim, need in zip(claims, plan["needs"], strict=True)}
    assert needs[0.05, "answer"] is None
    assert needs[0.3, "traffic"] < 480


def test_a_plan_for_people(folder, capsys):
    assert _run(folder, "certified", "certify", TASK_ID, "--plan") == 0
    said = capsys.readouterr().out
    assert "nothing spent" in said
    assert said.count("traffic") == 4
    assert "480" in said


def test_a_promise_is_planned_not_changed(folder, capsys):
    assert _run(folder, "certified", "certify", TASK_ID, "--max-risk", "0.1") == EXIT_USER
    assert "--plan" in capsys.readouterr().err
    assert _run(folder, "certified", "certify", "nothing", "--plan") == EXIT_USER


@pytest.fixture(scope="module")
def voted(made: Path) -> Path:
    """A home certified against the majority of three answers, of which one in ten is arbitrary."""
    home, source = made / "voted", random.Random(2)
    writer = open_writer(home)
    writer.append(instructions_row(TASK_ID, text=INSTRUCTIONS))
    for number, (text, colour) in enumerate(sentences(480, seed=1)):
        said = [source.choice(COLOURS) if source.random() < 0.1 else colour for _ in range(3)]
        fields = {"instructions_id": TASK_ID, "task_id": TASK_ID, "mode": "observe", "input": text}
        writer.append(
            request_row(f"r{number}", time_s=float(number), answer=said[0], reference_answer=said[0], **fields)
        )
        for place in (1, 2):
            writer.append(repeat_row(f"r{number}", place, task_id=TASK_ID, reference_answer=said[place]))
    writer.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PILOTFISH_CACHE", str(made / "cache"))
        patch.setenv("PILOTFISH_CONSISTENCY_CALLS", "960")
        patch.setenv("PILOTFISH_CONSISTENCY_ANSWERS", "3")
        assert _run(made, "voted", "distil", TASK_ID, "--max-risk", "0.08") == 0
    return made


def test_a_certificate_about_majorities_is_recomputed_from_all_answers(
    voted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTFISH_CACHE", str(voted / "cache"))
    assert _run(voted, "voted", "certify", TASK_ID, "--verify") == 0
    said = capsys.readouterr().out
    assert "majority of three answers" in said
    assert "of 480 requests asked twice" in said
    shutil.copytree(voted / "voted", voted / "tampered")
    with contextlib.closing(sqlite3.connect(voted / "tampered" / "log.db")) as connection, connection:
        connection.execute("UPDATE repeats SET reference_answer = 'pink' WHERE request_id = 'r470' AND number = 2")
    assert _run(voted, "tampered", "certify", TASK_ID, "--verify") == EXIT_NO
    assert "data_sha256" in capsys.readouterr().err
    with contextlib.closing(sqlite3.connect(voted / "tampered" / "log.db")) as connection, connection:
        connection.execute("DELETE FROM repeats WHERE request_id = 'r470' AND number = 2")
    assert _run(voted, "tampered", "certify", TASK_ID, "--verify") == EXIT_NO
    assert "1 rows with fewer answers" in capsys.readouterr().err


def test_the_self_disagreement_is_shown_where_promises_are_chosen(
    voted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTFISH_CACHE", str(voted / "cache"))
    assert _run(voted, "voted", "certify", TASK_ID, "--plan", "--json") == 0
    planned = json.loads(capsys.readouterr().out)["consistency"]
    assert planned["asked_twice"] == 240  # the rows that would teach, and no other
    assert _run(voted, "voted", "tasks") == 0
    assert "differs from itself" in capsys.readouterr().out
    assert _run(voted, "voted", "tasks", "--json") == 0
    (task,) = json.loads(capsys.readouterr().out)["tasks"]
    assert task["consistency"]["asked_twice"] == 480
    assert task["consistency"]["low"] < task["consistency"]["share"] < task["consistency"]["high"]
    assert _run(voted, "voted", "explain", "r3") == 0
    assert capsys.readouterr().out.count("asked again for the sample") == 2
