"""What the registry says about each task, turned into what the gateway does with it right now.

A task serves only with a loadable specialist, a certificate about that very specialist, and a promise at least
as strict as the one the settings ask for. Anything short of that defers to the reference. Loading
happens off the event loop; the numerical libraries come in only with the first specialist.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pilotfish.config.settings import Settings
from pilotfish.core.certificate import Certificate
from pilotfish.core.errors import SpecialistError, StoreError, UserError
from pilotfish.core.task import EVERYONE, AnswerShape, Mode, Retrieval
from pilotfish.gateway.local import Inference, Predictor
from pilotfish.gateway.past_answers import PastAnswers
from pilotfish.guarantees.drift import Drift
from pilotfish.guarantees.new_answers import NewAnswers
from pilotfish.guarantees.pace import Pace
from pilotfish.routing.cascade import Decision, Predict, Prediction
from pilotfish.routing.policy import Gates, Policy, policy_of
from pilotfish.scoring import answers
from pilotfish.store.base import Event, Log, Registry, TaskRecord
from pilotfish.tasks.recognise import Recogniser

Load = Callable[[str], Predictor]
"""Loads the specialist with a given hash. Raises `SpecialistError` or `UserError`."""

# A task that only observes has no thresholds yet; a shadow's scores are logged whatever they are.
_NEVER = Policy(Gates(min_certainty=float("inf"), min_scope=float("inf")))

State = dict[str, Any] | None

LOOK_EVERY_S = 0.25
"""A task that another process withdrew, or a person demoted, answers locally for so long at most."""

KEEP_EVERY = 256
"""Requests between two writes of a drift watch in which nothing happened; a crash loses no more of them."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTask:
    """One task as the gateway treats it. `mode` is what is really done, which may be less than the registry's.

    `predict_first` is there where the certificate has a first tier. `coin` is the probability with which a request is
    drawn for an audit while the task serves; `drift` changes as it does.
    """

    record: TaskRecord
    mode: Mode
    certificate: Certificate | None = None
    policy: Policy = _NEVER
    predict: Predict | None = None
    predict_first: Predict | None = None
    coin: float = 0.0
    drift: Drift | None = None

    def is_for(self, key_id: str | None) -> bool:
        """Whether a client with this key may have its answers: past answers go to nobody else than got them."""
        shape = self.record.shape
        return not shape.is_retrieved or (shape.retrieval is not None and shape.retrieval.is_for(key_id))


class LiveTasks:
    """All tasks of one registry, kept up with it."""

    def __init__(self, registry: Registry, settings: Settings, *, inference: Inference, load: Load, log: Log) -> None:
        """Without the promise that `settings` may ask for nothing is ever served."""
        self._past = PastAnswers(log, settings.learning.answer_days)
        self._registry = registry
        self._settings = settings
        self._claim = settings.quality.claim
        self._n_votes = settings.consistency.n_votes
        self._inference = inference
        self._load = load
        self._version = self._looked = -1
        self._tasks: dict[str, LiveTask] = {}
        self._ids: dict[str, str] = {}
        self._predictors: dict[str, Predictor | SpecialistError] = {}
        self._new: dict[str, NewAnswers] = {}
        self._drifts: dict[str, Drift] = {}
        self._refreshing = asyncio.Lock()
        self.recogniser = Recogniser([])

    def get(self, task_id: str) -> LiveTask | None:
        """The task, None where the registry knows none such."""
        return self._tasks.get(task_id)

    def find(self, name_or_id: str) -> LiveTask | None:
        """The task with this name or id, None where there is none; an id wins over a name that looks like it."""
        return self._tasks.get(name_or_id) or self._tasks.get(self._ids.get(name_or_id, ""))

    def all(self) -> list[LiveTask]:
        """Every task the registry knows."""
        return list(self._tasks.values())

    async def awake(self, live: LiveTask) -> LiveTask:
        """A task that has a specialist, with what runs it, loaded for once where the task only observes.

        Only to look at what it says: its mode stays as it is.
        """
        record = live.record
        if live.predict is not None:
            return live
        predictor = await asyncio.to_thread(self._loaded, record.specialist_sha256)
        certificate = self._registry.certificate(record.certificate_id) if record.certificate_id else None
        return self._with(LiveTask(record=record, mode=live.mode), predictor, certificate)

    def not_loaded(self) -> dict[str, SpecialistError]:
        """Why specialists cannot be loaded that the registry names, by the names of their tasks."""
        found = {live.record.name: self._predictors.get(live.record.specialist_sha256) for live in self.all()}
        return {name: error for name, error in found.items() if isinstance(error, SpecialistError)}

    async def refresh(self) -> None:
        """Take over what has changed in the registry, whichever process changed it."""
        async with self._refreshing:
            await self._refresh()
        await self._look_back()

    async def run(self) -> None:
        """Notice at once what others changed of who serves; cancel to end. The rest waits for the next `refresh`."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                if self._is_outdated():
                    await self.refresh()
                await self._look_back()
            except StoreError as error:
                _log.warning("Changes of tasks wait: %s", error)

    async def _look_back(self) -> None:
        due = self._past.due(live.record for live in self.all() if live.mode == "serve")
        if due:
            await asyncio.to_thread(self._past.read, due)

    def _is_outdated(self) -> bool:
        """Whether a task serves otherwise than here. Audits and drift change the registry too, and are not urgent."""
        version = self._registry.version()
        if version in (self._version, self._looked):
            return False
        self._looked = version
        known = {live.record.task_id: _standing(live.record) for live in self._tasks.values()}
        return any(known.get(record.task_id) != _standing(record) for record in self._registry.tasks())

    async def _refresh(self) -> None:
        version = self._registry.version()
        if version == self._version:
            return
        records = self._registry.tasks()
        wanted = {record.specialist_sha256 for record in records if record.mode != "observe"} - {""}
        for sha256 in wanted - self._predictors.keys():
            self._predictors[sha256] = await asyncio.to_thread(self._loaded, sha256)
        self._predictors = {sha256: self._predictors[sha256] for sha256 in wanted}
        for record in records:
            await self._watch_over(record)
        self.recogniser = Recogniser(self._registry.templates())
        self._tasks = {record.task_id: self._live(record) for record in records}
        self._ids = {record.name: record.task_id for record in records}
        in_force = {live.record.certificate_id for live in self._tasks.values() if live.mode == "serve"}
        self._new = {certificate_id: new for certificate_id, new in self._new.items() if certificate_id in in_force}
        self._drifts = {key: drift for key, drift in self._drifts.items() if key in in_force}
        self._version = version

    def note_reference(self, live: LiveTask | None, text: str | None) -> None:
        """Take note of an answer of the reference to a request of a task that serves: it may be a new one.

        Without texts in the log nothing could be learnt from it.
        """
        if live is not None and live.mode == "serve" and text is not None and self._settings.log.keep_text:
            shape = live.record.shape
            new = self._new.setdefault(live.record.certificate_id, NewAnswers(shape))
            values = answers.parse(shape, text)
            new.see(values)
            self._past.note(live.record, values)

    def checked(self, live: LiveTask, decision: Decision) -> Decision:
        """The decision, unless it would give a past answer again that may be given no more."""
        said = decision.prediction
        if said is None or not live.record.shape.is_retrieved or not self._past.is_stale(live.record, said.values[0]):
            return decision
        return dataclasses.replace(decision, reason="stale")

    def n_new(self, record: TaskRecord) -> int:
        """How often the most frequent new answer was seen since this gateway runs (the learner counts in the log)."""
        new = self._new.get(record.certificate_id)
        return new.most if new is not None else 0

    def note_scores(self, live: LiveTask, decision: Decision) -> None:
        """Take note of a request of a task that serves: its scores may say that the traffic has drifted."""
        drift, said = live.drift, decision.prediction
        if drift is None or said is None:
            return
        if drift.observe(certainty=said.certainty, scope=said.scope, is_local=decision.is_local):
            self._tell_drift(live, drift)
        elif drift.n % KEEP_EVERY == 0:
            self._keep_drift(drift, live.record.task_id)

    def note_audit(self, live: LiveTask) -> None:
        """Take note of an audit that withdrew nothing; enough of them end what a drift has raised."""
        if live.drift is not None and live.drift.audited():
            self._tell_drift(live, live.drift)

    def keep_drifts(self) -> None:
        """Write down what the watches over drift have seen."""
        for live in self.all():
            if live.drift is not None:
                self._keep_drift(live.drift, live.record.task_id)

    def change_audit(self, live: LiveTask, change: Callable[[State], dict[str, Any]]) -> None:
        """Go on from the audits so far, whichever worker made them, unless the task has another certificate by now."""
        self._registry.change_audit(live.record.task_id, live.record.certificate_id, change)

    def withdraw(self, live: LiveTask, message: str, *, audit_state: dict[str, Any], n_known: int) -> None:
        """Fall back to the reference at once, here and in the registry, and say why in an event.

        `n_known` answers of the task were known by now; learning begins again from there.
        """
        task_id = live.record.task_id
        record = self._registry.task(task_id)
        if record is None or record.certificate_id != live.record.certificate_id:
            return
        self._tasks[task_id] = LiveTask(record=record, mode="observe")
        pace = self.pace(record)
        pace.begin_again(n_known, time.time())
        # Without the certificate nobody can promote the broken promise again.
        self._registry.update_task(
            task_id,
            mode="observe",
            certificate_id="",
            audit_state=audit_state,
            drift_state=None,
            pace=pace.to_json(),
        )
        details = {
            "n_known": n_known,
            "certificate_id": record.certificate_id,
            "specialist_sha256": record.specialist_sha256,
        }
        event = Event(time_s=time.time(), task_id=task_id, kind="withdrawn", message=message, details=details)
        self._registry.add_event(event)
        fields = {"event": "withdrawn", "task": record.name, "certificate": record.certificate_id}
        _log.warning("Task %s: %s", record.name, message, extra={"fields": fields})

    def pace(self, record: TaskRecord) -> Pace:
        """Where the learning of a task stands."""
        learning = self._settings.learning
        fresh = Pace(first_after=learning.first_after, growth=learning.growth)
        return Pace.from_json(record.pace) if record.pace else fresh

    def _tell_drift(self, live: LiveTask, drift: Drift) -> None:
        """Let the new coin fall from the next request on: here at once, elsewhere after a look at the registry."""
        task_id = live.record.task_id
        if not self._keep_drift(drift, task_id):
            return
        event = Event(time_s=time.time(), task_id=task_id, kind="drift", message=drift.message, details=drift.details())
        self._registry.add_event(event)
        fields = {"event": "drift", "task": live.record.name, "certificate": live.record.certificate_id}
        _log.warning("Task %s: %s", live.record.name, drift.message, extra={"fields": fields})

    def _keep_drift(self, drift: Drift, task_id: str) -> bool:
        """Write the state down and adjust the coin; False where the registry knows a later turn or another promise."""
        record = self._registry.task(task_id)
        if record is None or record.certificate_id != drift.certificate_id:
            return False
        known = record.drift_state
        is_behind = known is not None and known["certificate_id"] == drift.certificate_id and known["turn"] > drift.turn
        if is_behind:
            drift.take_over(known)
        else:
            self._registry.update_task(task_id, drift_state=drift.to_json())
        current = self._tasks.get(task_id)
        if current is not None and current.drift is drift:
            coin = self.pace(record).coin(drift.coin)
            self._tasks[task_id] = dataclasses.replace(current, coin=coin)
        return not is_behind

    async def _watch_over(self, record: TaskRecord) -> None:
        """Have a watch over the drift of a task that serves, going on from what this or another process has seen."""
        certificate_id, state = record.certificate_id, record.drift_state
        if record.mode != "serve" or not certificate_id:
            return
        if certificate_id not in self._drifts:
            certificate = self._registry.certificate(certificate_id)
            if certificate is None:
                return
            # The exact limit of the audits of a small risk takes a second.
            drift = await asyncio.to_thread(Drift, certificate, self._settings.quality.audit_rate)
            self._drifts.setdefault(certificate_id, drift.take_over(state))
        drift = self._drifts[certificate_id]
        if state is not None and state["certificate_id"] == certificate_id and state["turn"] > drift.turn:
            drift.take_over(state)

    def _loaded(self, sha256: str) -> Predictor | SpecialistError:
        try:
            return self._load(sha256)
        except SpecialistError as error:
            failure = error
        except UserError as error:
            # An extra or the encoder's weights are missing: other tasks and the large model are there all the same.
            failure = SpecialistError(str(error))
        _log.error("The specialist %s cannot serve; its requests are deferred. %s", sha256[:16], failure)
        return failure

    def _live(self, record: TaskRecord) -> LiveTask:
        mode = record.mode
        certificate = self._registry.certificate(record.certificate_id) if record.certificate_id else None
        if certificate is not None and certificate.artefact_sha256 != record.specialist_sha256:
            certificate = None
        is_promised = (
            certificate is not None and self._claim is not None and certificate.keeps(self._claim, self._n_votes)
        )
        if mode == "serve" and not is_promised:
            mode = "observe"
        if not self._allows(record.shape.retrieval):
            mode = "observe"
        if mode == "observe" or not record.specialist_sha256:
            return LiveTask(record=record, mode="observe")
        drift = self._drifts[record.certificate_id] if mode == "serve" else None
        coin = self.pace(record).coin(drift.coin) if drift is not None else 0.0
        live = LiveTask(record=record, mode=mode, coin=coin, drift=drift)
        return self._with(live, self._predictors[record.specialist_sha256], certificate)

    def _with(
        self, live: LiveTask, predictor: Predictor | SpecialistError, certificate: Certificate | None
    ) -> LiveTask:
        """The task with its specialist and the policy of its certificate."""
        policy = _NEVER if certificate is None else policy_of(certificate)
        shape, run, has_first = live.record.shape, self._inference, policy.gates.first is not None
        return dataclasses.replace(
            live,
            certificate=certificate,
            policy=policy,
            predict=_predict_with(predictor, shape, run.predict),
            predict_first=_predict_with(predictor, shape, run.predict_first) if has_first else None,
        )

    def _allows(self, retrieval: Retrieval | None) -> bool:
        """Whether the settings still give past answers to those, and on that likeness, they were learnt for."""
        if retrieval is None:
            return True
        learning = self._settings.learning
        return retrieval.min_overlap >= learning.answer_overlap and (
            learning.share_answers or retrieval.owner != EVERYONE
        )


def _predict_with(
    predictor: Predictor | SpecialistError,
    shape: AnswerShape,
    run: Callable[[Predictor, AnswerShape, str], Awaitable[Prediction | None]],
) -> Predict:
    if isinstance(predictor, SpecialistError):
        return partial(_fail, predictor)
    return partial(run, predictor, shape)


def _standing(record: TaskRecord) -> tuple[object, ...]:
    return record.mode, record.certificate_id, record.specialist_sha256, record.shape.retrieval


async def _fail(error: SpecialistError, text: str) -> Prediction | None:
    raise SpecialistError(error.message)
