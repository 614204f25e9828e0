"""The live path of one request, whatever its wire format: read, name, decide, answer or relay, log.

A reply goes out before anything is written down. Whatever fails locally defers to the reference; a client
that leaves cancels the work upstream at once. Bytes are relayed as they come and read afterwards.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from dataclasses import dataclass
from functools import partial

from pilotfish.core import ids
from pilotfish.core.errors import ModelFormatError, PilotfishError, RequestError
from pilotfish.core.log_row import RequestRow
from pilotfish.core.messages import ChatRequest, Usage
from pilotfish.core.receipt import Reason
from pilotfish.core.task import Mode
from pilotfish.gateway import asgi, error_bodies, receipts
from pilotfish.gateway.audits import Audits
from pilotfish.gateway.degraded import Degraded
from pilotfish.gateway.embedder import Embedder
from pilotfish.gateway.live_tasks import LiveTasks
from pilotfish.gateway.names import Names, check_task
from pilotfish.gateway.privacy_guard import Guarded, PrivacyGuard
from pilotfish.gateway.records import Records
from pilotfish.gateway.rows import Outcome, Turn, for_log
from pilotfish.models.wire.embeddings import EMBEDDINGS
from pilotfish.models.wire.format import NOTHING_BOUGHT, ClientRequest, Format
from pilotfish.routing.cascade import Decision, decide, local_answer, local_name, local_stream
from pilotfish.tasks.fingerprint import instructions_row
from pilotfish.tasks.recognise import Recognised

KEEP_BYTES = 8 << 20
"""Of a stream that are kept for the log; a longer one is relayed whole and logged without its text."""

MAX_SEEN = 50_000
"""Instructions ids remembered as written; beyond, they are forgotten and written again, which the log folds."""

_LEFT = Outcome(status=error_bodies.CLIENT_LEFT, error="the client left")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answerers:
    """Who may answer beside the specialists: models by their names, who stands in for one that is down, the encoder."""

    names: Names
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
        records: Records,
        privacy: PrivacyGuard,
        max_body_bytes: int,
    ) -> None:
        self._names = answerers.names
        self._degraded = answerers.degraded
        self._embedder = answerers.embedder
        self._tasks = tasks
        self._audits = audits
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
            privacy = self._privacy
            guarded = Guarded(body=body) if privacy.is_off else await privacy.check(body, partial(self._task_of, form))
            request = form.decode_request(guarded.body, headers.forwarded)
            named = request.model or "auto"
            turn = self._turn(request_id, request, guarded)
        except RequestError as error:
            self._counts.note_error(error.code)
            status, reply_headers, reply_body = error_bodies.reply(error, form)
            await asgi.respond(send, status, reply_headers + receipts.request_id_only(request_id), reply_body)
            return
        turn.visit, turn.named = headers.visit, named
        try:
            turn.visit.check_model(named, turn.model)
            await self._decide(turn)
            if turn.may_leave and not turn.decision.is_local and turn.decision.reason != "encoder":
                turn.visit.reserve(turn.model, guarded.body)
        except RequestError as error:
            self._note(turn, await self._fail(turn, error, send))
            return
        if turn.decision.is_local:
            outcome = await self._answer_locally(turn, send)
            self.n_local += 1
        elif turn.decision.reason == "encoder":
            outcome = await self._embed(turn, send)
        elif not turn.may_leave:
            outcome = await self._refuse(turn, send)
        else:
            outcome = await self._answer_remotely(turn, receive, send)
        self._note(turn, outcome)

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

    def _turn(self, request_id: str, request: ClientRequest, guarded: Guarded) -> Turn:
        is_for_encoder = request.format is EMBEDDINGS and request.model == self._embedder.name
        named = self._names.own if is_for_encoder else self._names.resolve(request.model)
        if guarded.is_local_only:
            named = self._names.kept_here(named)
        recognised = self._tasks.recogniser.recognise(request) if named.is_own and request.format.is_text else None
        task_id = recognised.task_id if recognised is not None and recognised.text is not None else ""
        check_task(named, task_id)
        live = self._tasks.get(task_id)
        mode = live.mode if live is not None else "observe"
        if guarded.is_local_only and live is None:
            # Instructions that no task knows are the client's own, and a name made from them would tell of them.
            recognised, task_id = None, ""
        if not is_for_encoder:
            request.model = named.sent
        reason = _reason_without_specialist(request, recognised, mode, is_own=named.is_own)
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
        )

    async def _decide(self, turn: Turn) -> None:
        live = turn.live
        if turn.mode == "serve" and live is not None and live.predict is not None and turn.recognised is not None:
            turn.decision = await decide(
                turn.request, turn.recognised.text, live.predict, live.policy, live.predict_first
            )

    async def _answer_locally(self, turn: Turn, send: asgi.Send) -> Outcome:
        prediction, live = turn.decision.prediction, turn.live
        assert prediction is not None
        assert live is not None
        turn.model = local_name(live.record.name)
        if turn.request.stream:
            events = local_stream(prediction, turn.model, turn.request)
            await self._start_stream(turn, send)
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

    async def _answer_remotely(self, turn: Turn, receive: asgi.Receive, send: asgi.Send) -> Outcome:
        relay = self._relay_stream if turn.request.stream else self._relay
        try:
            return await relay(turn, receive, send)
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
                outcome = await relay(turn, receive, send)
            except PilotfishError as error:
                return await self._fail(turn, error, send)
        else:
            return await self._fail(turn, failure, send)
        # What it says is not the reference's word, and must never be learnt as if it were.
        return dataclasses.replace(outcome, reference_answer=None, error=outcome.error or _said(failure))

    async def _relay(self, turn: Turn, receive: asgi.Receive, send: asgi.Send) -> Outcome:
        failure: PilotfishError | None = None
        with asgi.Departure(receive) as departure:
            try:
                answer = await turn.target.answer(turn.request)
            except PilotfishError as error:
                failure = error
        if departure.is_gone:
            return _LEFT
        if failure is not None:
            raise failure
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers] or [asgi.JSON]
        await asgi.respond(send, 200, headers + receipts.headers(turn.receipt), turn.privacy.restored(answer.body))
        return Outcome(answer=answer.text, reference_answer=answer.text, usage=answer.usage)

    async def _relay_stream(self, turn: Turn, receive: asgi.Receive, send: asgi.Send) -> Outcome:
        kept: list[bytes] = []
        n_bytes = 0
        failure: PilotfishError | None = None
        pieces = turn.target.stream(turn.request)
        restorer = turn.privacy.stream()
        with asgi.Departure(receive) as departure:
            try:
                async for piece in pieces:
                    if not n_bytes:
                        await self._start_stream(turn, send)
                    n_bytes += len(piece)
                    if n_bytes <= KEEP_BYTES:
                        kept.append(piece)
                    shown = piece if restorer is None else restorer.feed(piece)
                    await send({"type": "http.response.body", "body": shown, "more_body": True})
            except PilotfishError as error:
                failure = error
            finally:
                await pieces.aclose()
        if not departure.is_gone:
            if not n_bytes:
                raise failure or ModelFormatError(f"{turn.model} answered an empty stream.", model=turn.model)
            # After the first byte an error can only be an event of the stream.
            last = b""
            if failure is not None:
                last = turn.request.format.encode_error_event(error_bodies.fault_of(failure), b"".join(kept))
            await send({"type": "http.response.body", "body": (restorer.end() if restorer else b"") + last})
        return _stream_outcome(turn.request.format, kept, n_bytes, failure, is_gone=departure.is_gone)

    async def _start_stream(self, turn: Turn, send: asgi.Send) -> None:
        turn.begun_s = time.perf_counter()
        headers = asgi.EVENTS + receipts.headers(turn.receipt)
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _fail(self, turn: Turn, error: PilotfishError, send: asgi.Send) -> Outcome:
        status, headers, body = error_bodies.reply(error, turn.request.format)
        await asgi.respond(send, status, headers + receipts.headers(turn.receipt), turn.privacy.restored(body))
        return Outcome(status=status, error=_said(error))

    def _note(self, turn: Turn, outcome: Outcome) -> None:
        """Everything that happens after the reply."""
        self.n_requests += 1
        if outcome.status in (200, error_bodies.CLIENT_LEFT) or outcome.answer is not None:
            is_answered = outcome.status != error_bodies.CLIENT_LEFT
            turn.visit.settle(outcome.usage, answer=outcome.answer, is_answered=is_answered)
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
        self._tasks.note_reference(turn.live, outcome.reference_answer)
        self._audits.note(turn, outcome)

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


def _said(error: PilotfishError) -> str:
    return f"{error.code}: {error}"


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


def _stream_outcome(
    form: Format, kept: list[bytes], n_bytes: int, failure: PilotfishError | None, *, is_gone: bool
) -> Outcome:
    if n_bytes > KEEP_BYTES:
        return Outcome(error="the stream was too long to be logged")
    summary = form.decode_stream(b"".join(kept))
    error = _said(failure) if failure is not None else summary.error
    return Outcome(
        answer=summary.text,
        reference_answer=summary.text if summary.is_whole and failure is None else None,
        usage=summary.usage,
        status=error_bodies.CLIENT_LEFT if is_gone else error_bodies.status_of(failure) if failure is not None else 200,
        error=_LEFT.error if is_gone else error,
    )
