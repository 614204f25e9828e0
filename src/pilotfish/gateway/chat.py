"""The live path of one request, whatever its wire format: read, name, decide, answer or relay, log.

A reply ends once its row is written, so that a kill loses no row of an answered request. Whatever fails locally
defers to the reference; a client that leaves cancels the work upstream at once. Bytes are relayed as they come and
read afterwards.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from dataclasses import dataclass
from functools import partial

from pilotfish.core import ids
from pilotfish.core.errors import PilotfishError, RequestError
from pilotfish.core.log_row import RequestRow
from pilotfish.core.messages import ChatRequest, Usage
from pilotfish.core.receipt import Reason
from pilotfish.core.task import Mode
from pilotfish.gateway import asgi, error_bodies, receipts, relay
from pilotfish.gateway.audits import Audits
from pilotfish.gateway.degraded import Degraded
from pilotfish.gateway.embedder import Embedder
from pilotfish.gateway.live_tasks import LiveTasks
from pilotfish.gateway.names import Names, check_task
from pilotfish.gateway.pairs import Pairs
from pilotfish.gateway.privacy_guard import Guarded, PrivacyGuard
from pilotfish.gateway.records import Records
from pilotfish.gateway.routed import Routed
from pilotfish.gateway.rows import Outcome, Turn, for_log
from pilotfish.gateway.tried import Said
from pilotfish.gateway.visit import OPEN, Visit
from pilotfish.models.wire.chat import CHAT
from pilotfish.models.wire.embeddings import EMBEDDINGS
from pilotfish.models.wire.format import NOTHING_BOUGHT, ClientRequest, Format
from pilotfish.routing.cascade import Decision, decide, local_answer, local_name, local_stream
from pilotfish.tasks.fingerprint import instructions_row
from pilotfish.tasks.recognise import Recognised

MAX_SEEN = 50_000
"""Instructions ids remembered as written; beyond, they are forgotten and written again, which the log folds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answerers:
    """Who may answer beside the specialists: models by their names, those that a route asks, who stands in for one that
    is down, the encoder."""

    names: Names
    routed: Routed
    degraded: Degraded
    embedder: Embedder

    def listed(self) -> list[str]:
        """Every name a client may use."""
        return [*self.names.listed(), *([self.embedder.name] if self.embedder.is_listed else [])]


class Chat:
    """Answers requests of every format."""

    def __init__(
        self,
        *,
        answerers: Answerers,
        tasks: LiveTasks,
        audits: Audits,
        pairs: Pairs,
        records: Records,
        privacy: PrivacyGuard,
        max_body_bytes: int,
    ) -> None:
        self._names = answerers.names
        self._routed = answerers.routed
        self._degraded = answerers.degraded
        self._embedder = answerers.embedder
        self._tasks = tasks
        self._audits = audits
        self._pairs = pairs
        self._writer = records.writer
        self._rows = records.rows
        self._counts = records.counts
        self._spans = records.spans
        self._privacy = privacy
        self._max_body_bytes = max_body_bytes
        self._seen: set[str] = set()
        self._shadows: set[asyncio.Task[None]] = set()
        self.n_requests = 0
        self.n_local = 0

    async def answer(self, form: Format, headers: asgi.ClientHeaders, receive: asgi.Receive, send: asgi.Send) -> None:
        """Answer one request of a format."""
        request_id = ids.request_id()
        try:
            body = await asgi.read_body(receive, headers.content_length, self._max_body_bytes)
            if body is None:
                return
            turn = await self._begin(request_id, form, body, headers.visit, headers.forwarded)
        except RequestError as error:
            self._counts.note_error(error.code)
            status, reply_headers, reply_body = error_bodies.reply(error, form)
            await asgi.respond(send, status, reply_headers + receipts.request_id_only(request_id), reply_body)
            return
        held = asgi.Held(send)
        try:
            self._note(turn, await self._reply(turn, receive, held))
        finally:
            turn.visit.end()
            await held.release()

    async def consider(self, body: bytes) -> Turn:
        """A chat request of nobody's key as it would be decided on: guarded, recognised, read by its specialist.

        Nothing is sent, logged or counted, and no route is asked. Raises `RequestError` where it would be refused.
        """
        turn = await self._begin(ids.request_id(), CHAT, body, OPEN, ())
        await self._decide(turn)
        return turn

    async def _begin(
        self, request_id: str, form: Format, body: bytes, visit: Visit, headers: tuple[tuple[str, str], ...]
    ) -> Turn:
        privacy, own = self._privacy, visit.privacy
        if privacy.is_off and own == "allow":
            guarded = Guarded(body=body)
        else:
            guarded = await privacy.check(body, partial(self._task_of, form), own)
        request = form.decode_request(guarded.body, headers)
        named = request.model or "auto"
        turn = self._turn(request_id, request, guarded, visit)
        turn.named = named
        return turn

    async def _reply(self, turn: Turn, receive: asgi.Receive, send: asgi.Send) -> Outcome:
        try:
            turn.visit.check_model(turn.named, turn.model)
            await self._decide(turn)
            is_routed = self._routed.live.route is not None and not turn.decision.is_local
            said = await self._routed.decide(turn, receive) if is_routed else None
            if said is None and turn.may_leave and not turn.decision.is_local and turn.decision.reason != "encoder":
                turn.visit.reserve(turn.model, turn.privacy.body)
        except RequestError as error:
            return await self._fail(turn, error, send)
        if turn.decision.is_local:
            outcome = await self._answer_locally(turn, send)
            self.n_local += 1
            return outcome
        if turn.routing is not None and (said is not None or turn.routing.is_left or turn.routing.kept):
            return await self._answer_smaller(turn, said, receive, send)
        if turn.decision.reason == "encoder":
            return await self._embed(turn, send)
        if not turn.may_leave:
            return await self._refuse(turn, send)
        return await self._answer_remotely(turn, receive, send)

    async def aclose(self) -> None:
        """Wait for the shadows still running, so that their rows are written."""
        await asyncio.gather(*self._shadows)

    def _task_of(self, form: Format, body: bytes) -> tuple[str, ...]:
        """Id and name of the task of a request, whichever model it names."""
        if not form.is_text:
            return ()
        try:
            recognised = self._tasks.recogniser.recognise(form.decode_request(body))
        except RequestError:
            return ()
        live = self._tasks.get(recognised.task_id)
        return (recognised.task_id, live.record.name) if live is not None else (recognised.task_id,)

    def _turn(self, request_id: str, request: ClientRequest, guarded: Guarded, visit: Visit) -> Turn:
        is_for_encoder = request.format is EMBEDDINGS and request.model == self._embedder.name
        named = self._names.own if is_for_encoder else self._names.resolve(request.model)
        if guarded.is_local_only:
            named = self._names.kept_here(named)
        recognised = self._tasks.recogniser.recognise(request) if named.is_own and request.format.is_text else None
        task_id = recognised.task_id if recognised is not None and recognised.text is not None else ""
        check_task(named, task_id)
        live = self._tasks.get(task_id)
        is_theirs = live is None or live.is_for(visit.key_id)
        mode = live.mode if live is not None and is_theirs else "observe"
        if guarded.is_local_only and live is None:
            # Instructions that no task knows are the client's own, and a name made from them would tell of them.
            recognised, task_id = None, ""
        if not is_for_encoder:
            request.model = named.sent
        reason = _reason_without_specialist(request, recognised, mode, is_own=named.is_own)
        if reason == "observing" and live is not None and live.mode != mode:
            reason = "other-key"
        if guarded.is_local_only:
            reason = "private"
        return Turn(
            request_id=request_id,
            request=request,
            model=self._embedder.name if is_for_encoder else named.model,
            recognised=recognised,
            live=live,
            is_audited=live is not None and not guarded.is_local_only and random.random() < live.coin,
            decision=Decision(reason="encoder" if is_for_encoder else reason),
            task_id=task_id,
            mode=mode,
            target=named.target,
            price=named.price,
            privacy=guarded,
            visit=visit,
        )

    async def _decide(self, turn: Turn) -> None:
        live = turn.live
        if turn.mode == "serve" and live is not None and live.predict is not None and turn.recognised is not None:
            decision = await decide(turn.request, turn.recognised.text, live.predict, live.policy, live.predict_first)
            turn.decision = self._tasks.checked(live, decision)

    async def _answer_locally(self, turn: Turn, send: asgi.Send) -> Outcome:
        prediction, live = turn.decision.prediction, turn.live
        assert prediction is not None
        assert live is not None
        turn.model = local_name(live.record.name)
        if turn.request.stream:
            events = local_stream(prediction, turn.model, turn.request)
            await relay.start_stream(turn, send)
            await send({"type": "http.response.body", "body": turn.privacy.restored_stream(b"".join(events))})
        else:
            answer = local_answer(prediction, turn.model, turn.request)
            await asgi.respond(
                send, 200, [asgi.JSON, *receipts.headers(turn.receipt)], turn.privacy.restored(answer.body)
            )
        return Outcome(answer=prediction.answer, usage=NOTHING_BOUGHT)

    async def _embed(self, turn: Turn, send: asgi.Send) -> Outcome:
        try:
            body, n_tokens = await self._embedder.embed(turn.request.raw)
        except PilotfishError as error:
            return await self._fail(turn, error, send)
        await asgi.respond(send, 200, [asgi.JSON, *receipts.headers(turn.receipt)], body)
        self.n_local += 1
        return Outcome(usage=Usage(prompt=n_tokens, completion=0))

    async def _refuse(self, turn: Turn, send: asgi.Send) -> Outcome:
        """What must stay here and is answered by nobody here. A model's name that the client chose is not repeated."""
        turn.decision, turn.model = Decision(reason="private"), ""
        return await self._fail(turn, turn.privacy.refusal(), send)

    async def _answer_smaller(self, turn: Turn, said: Said | None, receive: asgi.Receive, send: asgi.Send) -> Outcome:
        """What a route lets a smaller model answer; the reference after all where that fails before its first byte."""
        assert turn.routing is not None
        if turn.routing.is_left:
            return relay.LEFT
        if said is not None:
            outcome = await relay.give(turn, said, receive, send)
            if said.opened is not None:
                await self._routed.end(turn, said)
            return dataclasses.replace(outcome, reference_answer=None)
        try:
            outcome = await relay.relay(turn, receive, send)
        except PilotfishError:
            self._routed.back(turn, self._names.own.target)
        else:
            return dataclasses.replace(outcome, reference_answer=None)
        try:
            turn.visit.reserve(turn.model, turn.privacy.body)
        except RequestError as error:
            return await self._fail(turn, error, send)
        return await self._answer_remotely(turn, receive, send)

    async def _answer_remotely(self, turn: Turn, receive: asgi.Receive, send: asgi.Send) -> Outcome:
        try:
            return await relay.relay(turn, receive, send)
        except PilotfishError as error:
            failure = error
        prediction = self._degraded.prediction(turn, failure)
        if prediction is not None:
            turn.decision = Decision(reason="degraded", prediction=prediction)
            outcome = await self._answer_locally(turn, send)
        elif (stand_in := self._degraded.model(turn, failure)) is not None:
            turn.decision = Decision(reason="degraded", prediction=turn.decision.prediction)
            turn.target, turn.model, turn.price = stand_in, stand_in.card.name, stand_in.card.price
            turn.request.model = ""
            try:
                outcome = await relay.relay(turn, receive, send)
            except PilotfishError as error:
                return await self._fail(turn, error, send)
        else:
            return await self._fail(turn, failure, send)
        # What it says is not the reference's word, and must never be learnt as if it were.
        return dataclasses.replace(outcome, reference_answer=None, error=outcome.error or relay.what(failure))

    async def _fail(self, turn: Turn, error: PilotfishError, send: asgi.Send) -> Outcome:
        status, headers, body = error_bodies.reply(error, turn.request.format)
        await asgi.respond(send, status, headers + receipts.headers(turn.receipt), turn.privacy.restored(body))
        return Outcome(status=status, error=relay.what(error))

    def _note(self, turn: Turn, outcome: Outcome) -> None:
        """Everything that happens once the outcome is known: the client waits for the last bytes of its reply."""
        self.n_requests += 1
        if outcome.status in (200, error_bodies.CLIENT_LEFT) or outcome.answer is not None:
            is_answered = outcome.status != error_bodies.CLIENT_LEFT
            turn.visit.settle(outcome.usage, answer=outcome.answer, is_answered=is_answered)
        if outcome.status == 200:
            self._routed.note(turn, outcome.answer)
        outcome = for_log(turn, outcome)
        found = None if turn.privacy.is_local_only else turn.recognised
        if found is not None and self._rows.keeps_text and found.instructions_id not in self._seen:
            if len(self._seen) >= MAX_SEEN:
                self._seen.clear()
            self._seen.add(found.instructions_id)
            self._writer.append(instructions_row(turn.request, found.instructions_id, turn.time_s))
        row = self._rows.request_row(turn, outcome)
        self._counts.note(turn, row)
        self._spans.note(turn, row)
        if turn.mode == "shadow" and turn.decision.reason == "shadow":
            task = asyncio.ensure_future(self._shadow(turn, row))
            self._shadows.add(task)
            task.add_done_callback(self._shadows.discard)
            return
        self._writer.append(row)
        if turn.mode == "serve":
            self._tasks.note_reference(turn.live, outcome.reference_answer)
        self._audits.note(turn, outcome)
        self._pairs.note(turn, outcome)

    async def _shadow(self, turn: Turn, row: RequestRow) -> None:
        """Run the specialist beside, unseen; the row is written whatever becomes of it."""
        live = turn.live
        assert live is not None
        assert live.predict is not None
        assert turn.recognised is not None
        try:
            decision = await decide(turn.request, turn.recognised.text, live.predict, live.policy, live.predict_first)
            said = decision.prediction
            if said is not None:
                answer = said.answer if self._rows.keeps_text else None
                row = dataclasses.replace(
                    row,
                    local_answer=answer,
                    certainty=said.certainty,
                    scope=said.scope,
                    local_s=said.local_s,
                    tier=said.tier,
                )
        finally:
            self._writer.append(row)


def _reason_without_specialist(
    request: ChatRequest, recognised: Recognised | None, mode: Mode, *, is_own: bool
) -> Reason:
    if not is_own:
        return "other-model"
    if recognised is None or recognised.text is None:
        return "no-task"
    if request.unsupported_option:
        return "unsupported-option"
    if request.is_tool_loop:
        return "tool-loop"
    return "shadow" if mode == "shadow" else "observing"
