"""What a person does on a task's page beside promoting: marks which answer was right, asks for it to be learnt anew."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from pilotfish.config.settings import QualitySettings, Settings
from pilotfish.core.by_hand import Mark
from pilotfish.core.errors import SpecialistError
from pilotfish.gateway.learner import Learner
from pilotfish.gateway.live_tasks import LiveTasks
from pilotfish.gateway.local import Inference, Predictor
from pilotfish.guarantees.by_hand import retrain
from pilotfish.jobs.base import Finished, Progress
from pilotfish.store.build import open_by_hand, open_log, open_registry, open_writer
from pilotfish.store.home import open_home
from tools.gateway import Place, gateway
from tools.log_rows import audit_row, local_row
from tools.site import HOSTILE, NOW_S, TEXT, fill, make_admin
from tools.visitor import Visitor

LEARNING: dict[str, object] = {"check_every_s": 60.0}


@pytest.fixture
def place(home: Path) -> Iterator[tuple[Place, Visitor]]:
    """A gateway with one disagreement of the task `t`, and 24 more."""
    fill(home)
    key = make_admin(home)
    with closing(open_writer(home)) as writer:
        for n in range(24):
            writer.append(
                local_row(f"d{n:02}", time_s=NOW_S - 100 - n, input=TEXT, specialist_sha256="old" if n else "a")
            )
            writer.append(audit_row(f"d{n:02}", time_s=NOW_S - 100 - n, task_id="t", loss=1.0))
        writer.append(local_row("same", time_s=NOW_S - 300))
        writer.append(audit_row("same", time_s=NOW_S - 300, task_id="t", loss=0.0))
    open_log(home)
    with gateway(home, learning=LEARNING, quality={"max_risk": 0.05}) as found:
        yield found, Visitor(found.port, key)


def test_marks_are_counted_with_their_interval_and_history(place: tuple[Place, Visitor]) -> None:
    found, visitor = place
    assert "No disagreement has been marked yet." in visitor.see("/tasks/t").text
    for request_id, verdict in (
        ("d00", "reference"), ("d00", "specialist"), ("d01", "specialist"), ("d02", "reference"), ("local", "neither"),
    ):  # fmt: skip
        got = visitor.send("/tasks/t/mark", request=request_id, verdict=verdict)
        assert (got.status, got.headers["location"].endswith("#marks")) == (303, True)
    page = visitor.see("/tasks/t")
    assert (
        "Of 4 disagreements marked, the specialist was right in 2 (50.0 %; 15.0 to 85.0 % (95 %), n = 4), "
        "the large model in 1, both in 0, neither in 1. 1 of them are of the specialist in force."
    ) in page.text
    assert "no random sample" in page.text
    chosen = {a["aria-label"] for _, a in page.found if a.get("aria-pressed") == "true"}
    assert chosen == {"Specialist: d00", "Specialist: d01", "Large model: d02", "Neither: local"}
    counted = json.loads(visitor.get("/tasks/t/marks.json").data)
    assert {row["verdict"]: row["marked"] for row in counted} == {
        "reference": 1,
        "specialist": 2,
        "both": 0,
        "neither": 1,
    }
    rows = list(csv.DictReader(io.StringIO(visitor.get("/tasks/t/marked.csv").data.decode())))
    assert [(row["request_id"], row["verdict"]) for row in rows][::-1][:2] == [
        ("d00", "reference"),
        ("d00", "specialist"),
    ]
    with closing(open_registry(found.home)) as registry:
        record = registry.task("t")
        assert record is not None
        assert (record.mode, record.audit_state) == ("serve", None)


def test_older_disagreements_are_marked_on_their_own_page(place: tuple[Place, Visitor]) -> None:
    _, visitor = place
    first, second = visitor.see("/tasks/t"), visitor.see("/tasks/t?differing=2")
    ids = [{a["value"] for _, a in page.found if a.get("name") == "request"} for page in (first, second)]
    assert [len(found) for found in ids] == [20, 5]
    assert not ids[0] & ids[1]
    assert "/tasks/" in next(a["href"] for _, a in first.found if a.get("href", "").endswith("?differing=2"))
    got = visitor.send("/tasks/t/mark", request=min(ids[1]), verdict="both", differing="2")
    assert got.headers["location"].endswith("?differing=2#marks")
    assert visitor.see("/tasks/t?differing=99999999999999999999").text.count("Newer disagreements") == 1
    visitor.see(f"/tasks/t?differing={'x'}").assert_harmless()


@pytest.mark.parametrize(
    ("task", "fields", "status"),
    [
        ("t", {"request": "local", "verdict": HOSTILE}, 400),
        ("t", {"request": HOSTILE, "verdict": "both"}, 404),
        ("t", {"request": "same", "verdict": "both"}, 404),
        ("t", {"request": "plain", "verdict": "both"}, 404),
        ("u", {"request": "local", "verdict": "both"}, 404),
        ("nothing", {"request": "local", "verdict": "both"}, 404),
        ("t", {"request": "local", "verdict": "both", "csrf": "x"}, 403),
    ],
)
def test_nothing_else_can_be_marked(
    place: tuple[Place, Visitor], task: str, fields: dict[str, str], status: int
) -> None:
    found, visitor = place
    got = visitor.send(f"/tasks/{task}/mark", **fields)
    assert (got.status, b"<script>alert" in got.data) == (status, False)
    assert Visitor(found.port).send(f"/tasks/{task}/mark", **fields).status == 401
    with closing(open_by_hand(found.home)) as by_hand:
        assert by_hand.marks() == []


def test_readers_see_marks_and_no_buttons(home: Path) -> None:
    fill(home)
    with closing(open_by_hand(home)) as by_hand:
        by_hand.add_mark(Mark(request_id="local", task_id="t", verdict="both", time_s=NOW_S))
    with gateway(home, learning=LEARNING) as found:
        page = Visitor(found.port).see("/tasks/t")
        assert "Both" in page.text
        assert "button" not in {name for name, _ in page.found}
        assert Visitor(found.port).see("/tasks/t/retrain").text.count("Not now: no tolerated risk is stated") == 1
    key = make_admin(home)
    with gateway(home, learning=LEARNING, keep_text=False) as found:
        page = Visitor(found.port, key).see("/tasks/t")
        assert {a.get("value") for name, a in page.found if name == "button"} == {None}


def test_asking_for_it_anew_tells_the_price_and_is_kept(place: tuple[Place, Visitor]) -> None:
    found, visitor = place
    page = visitor.see("/tasks/t/retrain")
    page.assert_harmless()
    # One attempt was made before: the second may spend 5 % * 6 / (pi^2 * 4).
    assert "Attempt 2 may spend 0.760 % of it, which is gone whatever comes of it." in page.text
    assert "could spend 0.338 %" in page.text
    assert "The specialist in force goes on answering." in page.text
    assert visitor.send("/tasks/t/retrain", csrf="x").status == 403
    assert Visitor(found.port).send("/tasks/t/retrain").status == 401
    assert visitor.send("/tasks/nothing/retrain").status == 404
    assert visitor.get("/tasks/nothing/retrain").status == 404
    with closing(open_registry(found.home)) as registry:
        assert registry.events("t")[0].kind == "withdrawn"
        for _ in range(2):
            assert visitor.send("/tasks/t/retrain").status == 303
        asked = [event for event in registry.events("t") if event.kind == "asked"]
        record = registry.task("t")
        assert record is not None
        assert [event.time_s for event in asked] == [record.asked_s]
    assert "Asked for to be learnt anew" in visitor.see("/tasks/t").text
    assert "Not now: that has been asked for already" in visitor.see("/tasks/t/retrain").text


class Ended:
    """A job that has ended well, and has done nothing."""

    async def wait(self) -> Finished:
        return Finished(exit_code=0, stderr_tail="")

    async def stop(self) -> None:
        pass


def test_the_learner_takes_it_up_once_though_nothing_is_due(home: Path) -> None:
    """A job that never came to the wish is not begun again for it; another wish begins one."""
    fill(home)
    place, started = open_home(home), []

    async def start(command: Sequence[str], environment: dict[str, str], progress: Progress) -> Ended:
        started.append(command[3:5])
        return Ended()

    async def look() -> None:
        settings = Settings(home=str(home), quality=QualitySettings(max_risk=0.05))
        tasks = LiveTasks(place.registry, settings, inference=Inference(), load=no_specialist, log=place.log)
        learner = Learner(settings, home, log=place.log, tasks=tasks, start=start)
        for n_started in (0, 1, 1, 2):
            if n_started != len(started):
                retrain(place.registry, place.registry.task("u"))  # type: ignore[arg-type]
            await learner.look()
            while learner.status["is_running"]:
                await asyncio.sleep(0)
            assert len(started) == n_started
        place.registry.update_task("u", is_held=True)
        retrain(place.registry, place.registry.task("u"))  # type: ignore[arg-type]
        await learner.look()

    with closing(place.registry):
        asyncio.run(look())
    assert started == [["distil", "--due"]] * 2


def no_specialist(sha256: str) -> Predictor:
    raise SpecialistError(f"There is no specialist {sha256}.")
