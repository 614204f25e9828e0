"""The commands that look at a home and decide about its tasks."""

from __future__ import annotations

import json
import shutil
import sqlite3

import pytest

from pilotfish.cli.main import EXIT_NO, EXIT_USER
from pilotfish.core.by_hand import Mark
from pilotfish.core.task import AnswerShape
from pilotfish.guarantees.drift import Drift
from pilotfish.store.base import Event, TaskRecord
from pilotfish.store.build import open_by_hand, open_registry, open_writer
from pilotfish.store.home import open_home
from tools.command_line import files, shell
from tools.log_rows import local_row, request_row
from tools.served_home import TASK_ID, sentences
from tools.traffic import many_words

NAME = "name-colour"

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def ask(pilotfish, tmp_path):
    """A command on the home of the test."""

    def run(*arguments):
        return pilotfish(*arguments, "--home", tmp_path / "home")

    return run


def test_an_empty_log(ask):
    said = ask("tasks")
    assert (said.code, said.err) == (EXIT_NO, "")
    assert "The log is empty" in said.out
    assert ask("tasks", "--json").json == {"requests": 0, "tasks": []}
    assert "no such request" in ask("log", "list").out
    assert ask("log", "list", "--json").json == []
    assert ask("log", "export").code == EXIT_NO
    assert ask("distil", "--due", "--max-risk", "0.05").out == "No task is due.\n"
    assert ask("doctor").code == 0


def test_a_log_without_any_answers(ask, tmp_path):
    open_home(tmp_path / "home")
    writer = open_writer(tmp_path / "home")
    for number, (text, _) in enumerate(sentences(40)):
        fields = {"input": text, "time_s": float(number), "reference_answer": None, "answer": None}
        writer.append(request_row(f"r{number}", **fields))
    writer.close()
    said = ask("tasks")
    assert said.code == EXIT_NO
    assert "40 requests, but none" in said.out
    said = ask("distil", "t", "--max-risk", "0.05")
    assert said.code == EXIT_USER
    assert "Traceback" not in said.err


def test_tasks_as_text_and_json(ask, certified):
    said = ask("tasks")
    assert said.code == 0
    assert NAME in said.out
    assert "serve" in said.out
    (task,) = ask("tasks", "--json").json["tasks"]
    assert (task["name"], task["mode"], task["requests"], task["answered_locally"]) == (NAME, "serve", 322, 2)
    assert task["share"] == pytest.approx(322 / 323)
    assert task["certificate"]["task_id"] == TASK_ID


def test_tasks_say_how_soon_a_broken_promise_is_noticed_and_whether_traffic_drifts(ask, certified, monkeypatch):
    (task,) = ask("tasks", "--json").json["tasks"]
    assert (task["audits"]["n"], task["drift"]["is_raised"]) == (0, False)
    assert 0.01 <= task["audits"]["rate"] == task["drift"]["coin"] <= 0.1
    said = ask("tasks").out
    assert f"{NAME}, audits: No audit yet; a true 15 % is noticed after about " in said
    assert f" answers at an audit rate of {task['audits']['rate'] * 100:.2g} %." in said
    assert f"{NAME}, drift: No request watched for drift yet" in said
    registry = open_registry(certified)
    certificate = registry.certificate(registry.task(NAME).certificate_id)
    drift = Drift(certificate)
    while not drift.observe(certainty=0.0, scope=-1.0, is_local=False):
        pass
    registry.update_task(TASK_ID, drift_state=drift.to_json())
    registry.close()
    assert "of the requests has drifted" in ask("tasks").out
    monkeypatch.setenv("PILOTFISH_QUALITY_AUDIT_RATE", "0")
    assert "audits are turned off (audit_rate = 0), so a broken promise is never noticed" in ask("tasks").out


def test_requests_of_a_template_count_from_the_first_on(ask, tmp_path):
    """Rows that were logged before their template was known carry no task of their own."""
    open_home(tmp_path / "home")
    writer = open_writer(tmp_path / "home")
    for number, (text, word) in enumerate(many_words(80)):
        prompt = f"Classify the colour that the following sentence names. Sentence: {text}"
        fields = {"input": prompt, "reference_answer": word, "time_s": float(number), "task_id": "i"}
        writer.append(request_row(f"r{number}", **fields))
    writer.close()
    (task,) = ask("tasks", "--json").json["tasks"]
    assert (task["requests"], task["share"]) == (80, 1.0)


def test_distil_certifies_and_adopts(ask, observed):
    said = ask("distil", "--due", "--max-risk", "0.05", "--json")
    assert said.code == 0
    (outcome,) = said.json
    assert outcome["adopted"]
    assert outcome["claim"]["max_risk"] == 0.05
    assert ask("tasks", "--json").json["tasks"][0]["mode"] == "serve"
    assert ask("distil", "--due", "--max-risk", "0.05", "--json").json == []


def test_distil_lists_answers_that_look_wrong_and_changes_nothing(ask, observed):
    writer = open_writer(observed)
    fields = {"instructions_id": TASK_ID, "task_id": TASK_ID, "mode": "observe", "answer": "blue"}
    writer.append(request_row("pf-odd", time_s=999.0, input="my car 5 is red", reference_answer="blue", **fields))
    writer.close()
    said = ask("distil", TASK_ID, "--suspects", "--json").json
    assert said["answers"] == 321
    assert [(s["request_id"], s["given"], s["found"]) for s in said["suspects"]] == [("pf-odd", ["blue"], ["red"])]
    shown = ask("distil", TASK_ID, "--suspects").out
    assert "1 of 321 answers look wrong" in shown
    assert "pf-odd" in shown
    assert not (observed / "specialists").exists()
    assert ask("distil", "--due", "--suspects").code == 2


def test_distil_says_why_not(ask, observed):
    said = ask("distil", NAME, "--max-risk", "0.001")
    assert said.code == EXIT_NO
    assert "not certified. Cannot promise" in said.out
    assert "refusal" not in said.err
    (task,) = ask("tasks", "--json").json["tasks"]
    assert (task["certificate"], task["refusal"]["short_of"]) == (None, "examples")
    assert "Cannot promise" in ask("tasks").out


def test_an_unknown_task_is_answered_with_the_known_ones(ask, certified):
    for command in (["promote", "colors"], ["demote", "colors"], ["distil", "colors", "--max-risk", "0.05"]):
        said = ask(*command)
        assert said.code == EXIT_USER
        assert f"Known tasks: {NAME}" in said.err


def test_demote_holds_and_promote_lets_go(ask, certified):
    said = ask("demote", NAME)
    assert (said.code, "observe, held" in said.out) == (0, True)
    registry = open_registry(certified)
    assert (registry.task(NAME).mode, registry.task(NAME).is_held) == ("observe", True)
    assert "(held)" in ask("tasks").out
    said = ask("distil", NAME, "--max-risk", "0.05")
    assert said.code == EXIT_USER
    assert f"`pilotfish promote {NAME}`" in said.err
    assert ask("promote", NAME).code == 0
    assert (registry.task(NAME).mode, registry.task(NAME).is_held) == ("serve", False)
    assert [event.kind for event in registry.events(TASK_ID)][:2] == ["promoted", "demoted"]
    registry.close()


def test_promote_warns_where_the_settings_ask_for_more(ask, certified, monkeypatch):
    assert ask("promote", NAME).err == ""
    monkeypatch.setenv("PILOTFISH_QUALITY_MAX_RISK", "0.001")
    said = ask("promote", NAME)
    assert said.code == 0
    assert "It will not serve under these settings" in said.err
    assert "at most 0.1 % with 95 % confidence" in said.err
    assert ask("promote", NAME, "--shadow").err == ""


def test_a_shadow_stays_one_until_told_otherwise(ask, certified):
    """The learner must not let a specialist answer that a person wants to run unseen."""
    assert ask("promote", NAME, "--shadow").code == 0
    registry = open_registry(certified)
    assert registry.task(NAME).mode == "shadow"
    assert not registry.adopt(registry.certificate(registry.task(NAME).certificate_id))
    assert registry.task(NAME).mode == "shadow"
    assert ask("promote", NAME).code == 0
    assert registry.task(NAME).mode == "serve"
    registry.close()


def test_a_task_without_a_certificate_cannot_serve_but_is_let_go(ask, observed):
    ask("tasks")
    assert ask("demote", NAME).code == 0
    said = ask("promote", NAME)
    assert said.code == EXIT_NO
    assert f"`pilotfish distil {NAME} " in said.out
    assert ask("distil", NAME, "--max-risk", "0.05").code == 0


def test_explain_as_text_and_json(ask, certified):
    said = ask("explain", "pf-audit")
    assert said.code == 0
    for text in ("certified", "sampling: audit (chosen with probability 0.02)", "reference said: green", "my cup 1"):
        assert text in said.out, text
    found = ask("explain", "pf-audit", "--json").json
    assert (found["audit"]["reference_answer"], found["request"]["local_answer"]) == ("green", "red")
    assert "HTTP 502" in ask("explain", "pf-failed").out
    assert "error: down" in ask("explain", "pf-failed").out


def test_explain_says_which_tier_answered(ask, certified):
    writer = open_writer(certified)
    writer.append(local_row("pf-first", tier=1))
    writer.append(local_row("pf-full", tier=2))
    writer.append(local_row("pf-before"))
    writer.close()
    assert "tier 1 (the first tier, n-grams alone" in ask("explain", "pf-first").out
    for name in ("pf-full", "pf-before"):
        assert "tier 2 (the full mixture" in ask("explain", name).out


def test_the_log_as_text_and_json(ask, certified):
    said = ask("log", "list", "-n", "3")
    assert [line.split()[0] for line in said.out.splitlines()[2:]] == ["pf-failed", "pf-audit", "pf-local"]
    assert "HTTP 502" in said.out
    assert len(ask("log", "list", "--json", "-n", "1000").json) == 323
    only = ask("log", "list", "--json", "--reason", "certified", "--task", NAME).json
    assert [row["request_id"] for row in only] == ["pf-audit", "pf-local"]
    assert [row["request_id"] for row in ask("log", "list", "--errors", "--json").json] == ["pf-failed"]
    shown = ask("log", "show", "pf-audit").json
    assert shown["instructions"]["messages"][0]["role"] == "system"
    assert shown["audit"]["reference_answer"] == "green"


def test_marks_as_text_and_json(ask, tmp_path):
    open_home(tmp_path / "home").registry.put_task(
        TaskRecord(task_id="t", name="intents", instructions_id="i", instructions="x",
                   shape=AnswerShape(kind="text"), mode="observe")
    )  # fmt: skip
    assert ask("log", "marks").out == "No disagreement was marked.\n"
    by_hand = open_by_hand(tmp_path / "home")
    for verdict in ("both", "reference"):
        by_hand.add_mark(Mark(request_id="r", task_id="t", verdict=verdict, time_s=1.0, specialist_sha256="a"))
    by_hand.close()
    head, _, row = ask("log", "marks", "--task", "intents").out.splitlines()
    assert head.split("  ")[-4].strip() == "the large model was right"
    assert row.split() == ["intents", "1", "1", "0", "0", "0"]
    assert [mark["verdict"] for mark in ask("log", "marks", "--json").json] == ["reference", "both"]


def test_what_steers_a_terminal_is_not_passed_on(ask, tmp_path):
    open_home(tmp_path / "home")
    writer = open_writer(tmp_path / "home")
    writer.append(request_row("r0", input="\x1b]0;owned\x07\x9b31m hi", answer="\x1b[2J"))
    writer.close()
    for command in (["log", "list"], ["explain", "r0"]):
        said = ask(*command)
        assert not {"\x1b", "\x07", "\x9b"} & set(said.out)
        assert "hi" in said.out


def test_the_log_goes_out_and_comes_back_in(ask, observed, tmp_path):
    """`pilotfish log export | pilotfish backtest -`."""
    exported = shell("log", "export", "--home", observed)
    assert exported.code == 0
    assert "320 requests exported." in exported.err
    said = shell("backtest", "-", "--max-risk", "0.05", "--json", "--no-what-if", stdin=exported.out.encode())
    found = said.json
    assert (found["requests"], found["unreadable"], found["format"]) == (320, 0, "pilotfish log")
    assert found["served"] > 0
    assert ask("log", "export", "-o", tmp_path / "log.jsonl").code == 0
    assert (tmp_path / "log.jsonl").read_text() == exported.out


def test_pruning_asks_first(ask, observed):
    refused = shell("log", "prune", "--days", "0", "--home", observed, stdin=b"n\n")
    assert refused.code == EXIT_NO
    assert len(ask("log", "list", "-n", "999", "--json").json) == 320
    assert ask("log", "prune", "--days", "0", "--yes").out == "320 requests deleted.\n"
    assert ask("log", "list", "--json").json == []


def test_two_homes_know_nothing_of_one_another(pilotfish, certified, tmp_path):
    other = tmp_path / "other"
    assert pilotfish("tasks", "--home", other).code == EXIT_NO
    assert pilotfish("explain", "pf-audit", "--home", other).code == EXIT_USER
    assert pilotfish("demote", NAME, "--home", other).code == EXIT_USER
    assert pilotfish("tasks", "--home", certified, "--json").json["tasks"][0]["mode"] == "serve"


def test_the_home_of_the_environment_is_the_default(pilotfish, certified, monkeypatch):
    monkeypatch.setenv("PILOTFISH_HOME", str(certified))
    assert NAME in pilotfish("tasks").out


def test_doctor_on_a_healthy_home(ask, certified):
    said = ask("doctor", "--json")
    assert said.code == 0
    found = {row["check"]: row for row in said.json}
    assert {row["state"] for row in found.values()} <= {"ok", "warn"}
    assert found["gaps"]["found"] == "none"
    assert found["log"]["found"] == "323 requests, 1 of them failed"
    assert found[f"specialist {NAME}"]["state"] == "ok"
    assert "specialist" in ask("doctor").out


def test_doctor_looks_without_making_a_home(pilotfish, tmp_path):
    said = pilotfish("doctor", "--home", tmp_path / "nothing")
    assert "nothing recorded yet" in said.out
    assert not (tmp_path / "nothing").exists()


def _flip(home):
    (weights,) = (home / "specialists").glob("*/*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")


def _remove(home):
    shutil.rmtree(home / "specialists")


def _swap(home):
    """Another certificate's name on the folder."""
    (folder,) = (home / "specialists").iterdir()
    card = folder / "specialist.json"
    card.write_text(card.read_text().replace("colour", "color"))


@pytest.mark.parametrize("tamper", [_flip, _remove, _swap])
def test_doctor_shows_a_specialist_that_was_tampered_with(ask, certified, tamper):
    tamper(certified)
    said = ask("doctor", "--json")
    assert said.code == EXIT_NO
    (bad,) = [row for row in said.json if row["state"] == "bad"]
    assert bad["check"] == f"specialist {NAME}"


def test_doctor_shows_rows_that_were_lost(ask, certified):
    with sqlite3.connect(certified / "log.db") as connection:
        connection.execute("INSERT INTO gaps VALUES (7, 1.0, 2.0)")
    connection.close()
    said = ask("doctor")
    assert said.code == EXIT_NO
    assert "7 rows could not be written" in said.out


def test_doctor_with_a_cache_that_cannot_be_used(ask, observed, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path / "file" / "cache"))
    said = ask("doctor", "--json")
    assert said.code == 0
    assert [row["state"] for row in said.json if row["check"] == "encoder"] == ["warn"]


def test_doctor_says_what_is_wrong_with_the_configuration(pilotfish, tmp_path):
    (tmp_path / "p.toml").write_text("[serve]\nport = 1\n")
    said = pilotfish("doctor", "--config", tmp_path / "p.toml")
    assert said.code == EXIT_NO
    assert "Did you mean 'server'?" in said.out


def test_the_configuration_as_text_and_json(pilotfish, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    (tmp_path / "p.toml").write_text(
        '[large]\nurl = "http://127.0.0.1:9/v1"\nmodel = "big"\n[quality]\nmax_risk = 0.02\n'
    )
    shown = pilotfish("config", "show", "--config", tmp_path / "p.toml")
    assert shown.code == 0
    assert "max_risk" in shown.out
    assert "Audits: a true 6 % is noticed after about " in shown.out
    found = pilotfish("config", "show", "--config", tmp_path / "p.toml", "--json").json
    assert (found["large"]["model"], found["quality"]["max_risk"]) == ("big", 0.02)
    checked = pilotfish("config", "check", "--config", tmp_path / "p.toml")
    assert checked.code == 0
    assert "at most 2 %" in checked.out
    assert "Privacy: everything may leave." in checked.out
    assert "Audits: a true 6 % is noticed after about " in checked.out
    (tmp_path / "p.toml").write_text("[quality]\nmax_risk = 0.02\naudit_rate = 0\n")
    assert "audits are turned off" in pilotfish("config", "check", "--config", tmp_path / "p.toml").out
    assert "sk-very-secret" not in shown.out + checked.out + json.dumps(found)
    said = pilotfish("config", "check", "--json")
    assert (said.code, said.json["ok"]) == (EXIT_NO, False)


def test_the_configuration_shows_every_model_and_alias_but_no_key(pilotfish, tmp_path, monkeypatch):
    monkeypatch.setenv("C_KEY", "sk-very-secret")
    (tmp_path / "p.toml").write_text(
        '[large]\nurl = "http://a/v1"\nmodel = "big"\nendpoints = [{ url = "http://c/v1", key_env = "C_KEY" }]\n'
        'degraded = "small"\n[models.small]\nurl = "http://s/v1"\n[aliases]\n"gpt-4o" = "auto"\n'
    )
    shown = pilotfish("config", "show", "--config", tmp_path / "p.toml")
    for part in ("http://c/v1", "models.small", "http://s/v1", "gpt-4o", "stream_idle_s"):
        assert part in shown.out
    found = pilotfish("config", "show", "--config", tmp_path / "p.toml", "--json").json
    assert found["large"]["endpoints"] == [{"url": "http://c/v1", "key_env": "C_KEY"}]
    assert (found["models"]["small"]["url"], found["aliases"]) == ("http://s/v1", {"gpt-4o": "auto"})
    checked = pilotfish("config", "check", "--config", tmp_path / "p.toml")
    assert "Further server: http://c/v1. Key: the variable C_KEY is set." in checked.out
    assert "Model small: small at http://s/v1." in checked.out
    assert "Alias: gpt-4o stands for auto." in checked.out
    assert "small may answer, without a promise" in checked.out
    assert "sk-very-secret" not in shown.out + checked.out + json.dumps(found)


def test_the_configuration_says_what_smaller_models_may_do(pilotfish, tmp_path):
    file = tmp_path / "p.toml"
    text = (
        '[large]\nurl = "http://a/v1"\nmodel = "big"\n[models.small]\nurl = "http://s/v1"\n[routing]\njudge = "big"\n'
        'models = ["small"]\n'
    )
    file.write_text(text)
    assert "Open requests: small answers none until" in pilotfish("config", "check", "--config", file).out
    file.write_text(text + "margin = 0.05\n")
    said = pilotfish("config", "check", "--config", file).out
    assert "Open requests: small may answer, under an adopted route that loses at most 5 points with 95 %" in said
    assert "nothing is answered locally" not in said


def test_an_event_of_a_withdrawal_keeps_the_task_from_being_promoted(ask, certified):
    registry = open_registry(certified)
    registry.update_task(TASK_ID, mode="observe", certificate_id="")
    registry.add_event(Event(time_s=1.0, task_id=TASK_ID, kind="withdrawn", message="m", details={}))
    registry.close()
    assert ask("promote", NAME).code == EXIT_NO
    assert ask("tasks", "--json").json["tasks"][0]["certificate"] is None


def test_nothing_is_left_in_the_home_but_what_is_named(ask, observed):
    ask("distil", NAME, "--max-risk", "0.05")
    assert set(files(observed)) <= {
        "embeddings.safetensors", "learning.lock", "log.db", "log.db-shm", "log.db-wal", "log.lock", "registry.db",
        "registry.db-shm", "registry.db-wal", "registry.lock", "specialists", "spool",
    }  # fmt: skip
    assert len(files(observed / "specialists")) == 1


def test_tasks_names_new_answers(ask, certified):
    (task,) = ask("tasks", "--json").json["tasks"]
    assert task["new_answers"] == []
    writer = open_writer(certified)
    for number in range(3):
        fields = {"task_id": TASK_ID, "instructions_id": TASK_ID, "mode": "serve", "sampling": "deferred"}
        fields |= {"input": f"my car {number} is violet", "answer": "violet", "reference_answer": "Violet"}
        writer.append(request_row(f"pf-violet-{number}", time_s=2000.0 + number, **fields))
    writer.close()
    (task,) = ask("tasks", "--json").json["tasks"]
    # The 160 rows that calibrated taught nothing, and one audit is known since.
    assert task["new_answers"] == [{"field": "", "value": "violet", "answers": 3, "share": pytest.approx(3 / 164)}]
    assert f"New answers since {NAME} was taught: violet (3, 1.8 %)." in ask("tasks").out
