"""The gateway as an ASGI application: its paths, its background work, and the outer layer that catches all.

It wires the live path together and knows no HTTP server. On loopback it answers only requests that name this
machine, so that a web page cannot reach it through a name of its own (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import logging
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from pilotfish.config import load
from pilotfish.config.settings import Settings
from pilotfish.core.errors import RequestError
from pilotfish.core.messages import Price
from pilotfish.gateway import asgi, error_bodies, metrics, openapi
from pilotfish.gateway.audits import Audits
from pilotfish.gateway.chat import Answerers, Chat
from pilotfish.gateway.counts import Counts
from pilotfish.gateway.degraded import Degraded
from pilotfish.gateway.door import ADMIN_VARIABLE, Door
from pilotfish.gateway.embedder import Embedder
from pilotfish.gateway.feedback import Feedback
from pilotfish.gateway.learner import Learner
from pilotfish.gateway.live_route import LiveRoute
from pilotfish.gateway.live_tasks import LiveTasks
from pilotfish.gateway.load import SpecialistFolder
from pilotfish.gateway.local import Inference
from pilotfish.gateway.looks import Looks
from pilotfish.gateway.names import Names
from pilotfish.gateway.new_tasks import NewTasks
from pilotfish.gateway.pairs import Pairs
from pilotfish.gateway.privacy_guard import PrivacyGuard
from pilotfish.gateway.records import Records
from pilotfish.gateway.repeats import Budget, Repeats
from pilotfish.gateway.routed import Routed
from pilotfish.gateway.routed_budget import RoutedBudget
from pilotfish.gateway.rows import RowMaker
from pilotfish.gateway.running import Running
from pilotfish.gateway.site.site import Site
from pilotfish.gateway.spans import open_spans
from pilotfish.models.base import Model
from pilotfish.models.build import further_models, large_model
from pilotfish.models.wire import model_lists
from pilotfish.models.wire.chat import CHAT
from pilotfish.models.wire.format import Fault, Format
from pilotfish.models.wire.formats import FORMATS
from pilotfish.store import build as store
from pilotfish.store.home import Home, open_home
from pilotfish.store.sqlite_import import Importer

_Answer = Callable[[asgi.ClientHeaders, asgi.Receive, asgi.Send], Awaitable[None]]

_log = logging.getLogger(__name__)


class Gateway:
    """The application. `open_gateway` makes one with everything it needs."""

    def __init__(
        self,
        running: Running,
        *,
        door: Door,
        feedback: Feedback,
        site: Site,
    ) -> None:
        self._door = door
        self._site = site
        self.running = running
        self._answerers = running.answerers
        self._counts = running.records.counts
        self._is_loopback = _is_this_machine(running.settings.server.host)
        self._routes: dict[str, tuple[str, _Answer]] = {
            **{"/v1" + form.path: ("POST", partial(running.chat.answer, form)) for form in FORMATS},
            feedback.path: ("POST", feedback.answer),
            "/v1/models": ("GET", self._list_models),
            "/openapi.json": ("GET", self._tell_interface),
            "/health/live": ("GET", self._tell_health),
            "/health/ready": ("GET", self._tell_readiness),
            "/healthz": ("GET", self._tell_health),
            "/metrics": ("GET", self._tell_metrics),
            "/pilotfish/status": ("GET", self._tell_status),
        }

    def end(self) -> None:
        """Let live pages end, which would else keep the server from ending."""
        self._site.end()

    async def __call__(self, scope: asgi.Message, receive: asgi.Receive, send: asgi.Send) -> None:
        """Answer one ASGI event stream; whatever escapes becomes a 500 that tells nothing."""
        if scope["type"] != "http":
            raise RuntimeError(f"The gateway speaks no {scope['type']}.")
        exchange = scope.get("extensions", {}).get(asgi.EXCHANGE)
        if exchange is not None:
            receive = asgi.Watched(receive, exchange.connection)
        replying = asgi.Replying(send, exchange)
        try:
            await self._route(scope, receive, replying)
        except RequestError as error:
            self._counts.note_error(error.code)
            if not replying.has_begun:
                await asgi.respond(replying, *error_bodies.reply(error, _format_at(scope["path"])))
        except Exception as error:  # noqa: BLE001 - the outer layer
            self._counts.note_error("internal_error")
            _log.exception("A request failed.")
            if not replying.has_begun:
                await asgi.respond(replying, *error_bodies.reply(error, _format_at(scope["path"])))

    async def _route(self, scope: asgi.Message, receive: asgi.Receive, send: asgi.Send) -> None:
        headers = asgi.read_headers(scope["headers"])
        method, path = scope["method"], scope["path"]
        if self._is_loopback and (stranger := _stranger(headers)):
            await self._refuse(send, path, error_bodies.foreign_site(stranger))
            return
        if self._site.has(path):
            await self._site.answer(scope, headers, receive, send)
            return
        visit = self._door.admit(path, headers.credential)
        allowed, answer = self._routes.get(path) or self._one_model(path)
        if answer is None:
            await self._refuse(send, path, error_bodies.not_found(path))
        elif method != allowed:
            await self._refuse(send, path, error_bodies.wrong_method(method, allowed), (b"allow", allowed.encode()))
        else:
            try:
                await answer(headers.let_in(visit), receive, send)
            finally:
                visit.end()

    async def _refuse(self, send: asgi.Send, path: str, fault: Fault, *headers: tuple[bytes, bytes]) -> None:
        self._counts.note_error(fault.code)
        await asgi.respond(send, fault.status, [asgi.JSON, *headers], _format_at(path).encode_error(fault))

    def _one_model(self, path: str) -> tuple[str, _Answer | None]:
        name = path.removeprefix("/v1/models/")
        return ("", None) if name == path else ("GET", partial(self._tell_model, name))

    async def _list_models(self, headers: asgi.ClientHeaders, _receive: asgi.Receive, send: asgi.Send) -> None:
        names = [name for name in self._answerers.listed() if headers.visit.may_use(name)]
        await asgi.respond(send, 200, [asgi.JSON], model_lists.encode_list(names, headers.family))

    async def _tell_model(
        self, name: str, headers: asgi.ClientHeaders, _receive: asgi.Receive, send: asgi.Send
    ) -> None:
        if name in self._answerers.listed() and headers.visit.may_use(name):
            await asgi.respond(send, 200, [asgi.JSON], model_lists.encode_one(name, headers.family))
        else:
            await self._refuse(send, "", error_bodies.no_model(name))

    async def _tell_interface(self, _headers: asgi.ClientHeaders, _receive: asgi.Receive, send: asgi.Send) -> None:
        await asgi.respond(send, 200, [asgi.JSON], openapi.document())

    async def _tell_health(self, _headers: asgi.ClientHeaders, _receive: asgi.Receive, send: asgi.Send) -> None:
        await asgi.respond(send, 200, [asgi.JSON], b'{"status":"ok"}')

    async def _tell_status(self, _headers: asgi.ClientHeaders, _receive: asgi.Receive, send: asgi.Send) -> None:
        await asgi.respond(send, 200, [asgi.JSON], msgspec.json.encode(self.running.status()))

    async def _tell_readiness(self, _headers: asgi.ClientHeaders, _receive: asgi.Receive, send: asgi.Send) -> None:
        faults = await asyncio.to_thread(self.running.not_ready)
        body = msgspec.json.encode({"status": "not ready" if faults else "ready", "not_ready": faults})
        await asgi.respond(send, 503 if faults else 200, [asgi.JSON], body)

    async def _tell_metrics(self, _headers: asgi.ClientHeaders, _receive: asgi.Receive, send: asgi.Send) -> None:
        events = await asyncio.to_thread(self.running.registry.event_counts)
        await asgi.respond(send, 200, [metrics.CONTENT_TYPE], metrics.render(self.running, events))


@contextlib.asynccontextmanager
async def open_gateway(
    settings: Settings, *, reference: Model | None = None, is_first: bool = True
) -> AsyncGenerator[Gateway, None]:
    """A running gateway: log, registry, specialists and learner are open inside and closed after.

    Of several worker processes only the one that `is_first` imports the log, learns, collects, and asks requests
    again: a budget is kept in memory, and which worker a request comes to has nothing to do with its content.
    `reference` stands in for the large model of the settings. Raises `ConfigError` or `StoreError` where the gateway
    cannot start.
    """
    async with contextlib.AsyncExitStack() as stack:
        reference, models = _open_models(stack, settings, reference)
        every = {reference.card.name: reference, **models}
        home, importer, records = await _open_records(stack, settings, tuple(every.values()), is_first=is_first)
        door = _open_door(stack, settings, home.folder, every)
        inference, tasks, embedder = await _open_specialists(stack, settings, home)
        routed = _open_routed(stack, settings, home, every, embedder)
        repeats, audits, pairs = _further_calls(
            settings, home, models=every, tasks=tasks, routed=routed, records=records, is_first=is_first
        )
        names = Names(reference=reference, models=models, aliases=settings.aliases, tasks=tasks)
        degraded = Degraded(settings.large.degraded, models)
        answerers = Answerers(names=names, routed=routed, degraded=degraded, embedder=embedder)
        chat = Chat(
            answerers=answerers,
            tasks=tasks,
            audits=audits,
            pairs=pairs,
            records=records,
            privacy=PrivacyGuard(settings.privacy),
            max_body_bytes=int(settings.server.max_body_mb * 1e6),
        )
        learner = Learner(settings, home.folder, log=home.log, tasks=tasks)
        new_tasks = NewTasks(settings, home.folder, registry=home.registry, tasks=tasks)
        for part in (repeats, audits, pairs, chat, learner, new_tasks):
            stack.push_async_callback(part.aclose)
        for work in (tasks.run(), door.run(), routed.live.run(), *((learner.run(),) if is_first else ())):
            stack.callback(asyncio.ensure_future(work).cancel)
        by_hand = stack.enter_context(contextlib.closing(store.open_by_hand(home.folder)))
        running = Running(
            settings=settings,
            chat=chat,
            answerers=answerers,
            tasks=tasks,
            learner=learner,
            new_tasks=new_tasks,
            audits=audits,
            repeats=repeats,
            pairs=pairs,
            inference=inference,
            by_hand=by_hand,
            records=records,
            registry=home.registry,
            log=home.log,
            importer=importer,
        )
        site = stack.enter_context(contextlib.closing(Site(running, door)))
        yield Gateway(running, door=door, feedback=Feedback(settings, log=home.log, writer=records.writer), site=site)


def _open_models(
    stack: contextlib.AsyncExitStack, settings: Settings, reference: Model | None
) -> tuple[Model, dict[str, Model]]:
    """The reference and the further models by name, open for as long as `stack`."""
    reference, models = reference or large_model(settings.large), further_models(settings)
    for model in (reference, *models.values()):
        stack.push_async_callback(model.aclose)
    return reference, models


async def _open_records(
    stack: contextlib.AsyncExitStack, settings: Settings, models: Sequence[Model], *, is_first: bool
) -> tuple[Home, Importer | None, Records]:
    """The home and all that is kept of requests, open for as long as `stack`.

    The first worker alone imports and prunes. The reference comes first among `models`.
    """
    home = open_home(load.home(settings))
    stack.callback(home.registry.close)
    importer = store.open_importer(home.folder) if is_first else None
    if importer is not None:
        stack.callback(importer.close)
    writer = store.open_writer(home.folder)
    stack.callback(writer.close)
    if is_first and settings.log.keep_days is not None:
        await asyncio.to_thread(store.prune, home.folder, time.time() - settings.log.keep_days * 86400)
    spans = open_spans(settings.telemetry.otlp_url)
    stack.push_async_callback(spans.aclose)
    records = Records(
        writer=writer,
        rows=RowMaker(settings, load.settings_sha256(settings), models[0].card.price),
        counts=Counts(model.card.name for model in models),
        spans=spans,
    )
    return home, importer, records


async def _open_specialists(
    stack: contextlib.AsyncExitStack, settings: Settings, home: Home
) -> tuple[Inference, LiveTasks, Embedder]:
    """What runs the specialists, the tasks they serve, and the encoder they share, for as long as `stack`."""
    inference = Inference()
    stack.callback(inference.close)
    specialists = SpecialistFolder(home.specialists, cache=load.cache(), encoder=settings.learning.encoder)
    tasks = LiveTasks(home.registry, settings, inference=inference, load=specialists.load, log=home.log)
    await tasks.refresh()
    embedder = Embedder(
        specialists.encoder_name,
        specialists.encoder,
        load_own=specialists.own_encoder,
        is_listed=specialists.has_libraries,
    )
    stack.callback(embedder.close)
    return inference, tasks, embedder


def _open_routed(
    stack: contextlib.AsyncExitStack, settings: Settings, home: Home, models: Mapping[str, Model], embedder: Embedder
) -> Routed:
    """What decides on open-ended requests, with its routes open for as long as `stack`. The reference comes first
    among `models`."""
    routes = store.open_routes(home.folder)
    stack.callback(routes.close)
    budget = None
    if settings.routing.usd_per_day is not None:
        tally = store.open_route_tally(home.folder)
        stack.callback(tally.close)
        prices = {name: model.card.price for name, model in models.items()}
        budget = RoutedBudget(settings.routing, tally, price_of=prices.get, log=home.log)
        stack.callback(asyncio.ensure_future(budget.run()).cancel)
    smaller = {name: model for name, model in models.items() if name in settings.models}
    find, reference = embedder.fault, settings.large.model
    live = LiveRoute(routes, settings.routing, reference=reference, models=smaller, find_encoder=find)
    return Routed(
        live=live,
        settings=settings.routing,
        models=smaller,
        looks=Looks(settings.routing, models.get(settings.routing.verifier)),
        embedder=embedder,
        timeout_s=settings.large.timeout_s,
        budget=budget,
    )


def _further_calls(
    settings: Settings,
    home: Home,
    *,
    models: Mapping[str, Model],
    tasks: LiveTasks,
    routed: Routed,
    records: Records,
    is_first: bool,
) -> tuple[Repeats, Audits, Pairs]:
    """What asks models besides the one that answers: the reference again, the reference too, a smaller one too.

    The reference comes first among `models`.
    """
    reference = next(iter(models.values()))
    consistency = settings.consistency if is_first else dataclasses.replace(settings.consistency, calls=0)
    budget = Budget(consistency, home.log.repeats())
    repeats = Repeats(consistency, reference=reference, records=records, budget=budget)
    audits = Audits(reference=reference, tasks=tasks, log=home.log, records=records, repeats=repeats)
    pairs = Pairs(settings.routing, routed=routed, models=models, records=records, log=home.log, collects=is_first)
    return repeats, audits, pairs


def _open_door(stack: contextlib.AsyncExitStack, settings: Settings, folder: Path, models: Mapping[str, Model]) -> Door:
    """The door, with its keys open for as long as `stack`. Raises `ConfigError` where it would stand open to others."""
    keys = store.open_keys(folder)
    stack.callback(keys.close)
    tallies = store.open_tallies(folder)
    stack.callback(tallies.close)

    def price_of(name: str) -> Price | None:
        return models[name].card.price if name in models else None

    return Door(
        keys,
        tallies,
        is_loopback=_is_this_machine(settings.server.host),
        require_keys=settings.server.require_keys,
        admin_key=os.environ.get(ADMIN_VARIABLE, "").strip(),
        price_of=price_of,
    )


def _format_at(path: str) -> Format:
    """The format in whose words a refusal at `path` is told; OpenAI's where the path has none."""
    return next((form for form in FORMATS if path == "/v1" + form.path), CHAT)


def _stranger(headers: asgi.ClientHeaders) -> str:
    """The Host or Origin that does not name this machine, empty where both do or are absent."""
    if headers.host and not _is_this_machine(_host_of("//" + headers.host)):
        return f"Host {headers.host!r}"
    if headers.origin and not _is_this_machine(_host_of(headers.origin)):
        return f"Origin {headers.origin!r}"
    return ""


@lru_cache(maxsize=256)
def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


@lru_cache(maxsize=256)
def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
