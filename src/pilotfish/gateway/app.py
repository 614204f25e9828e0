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
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from pilotfish.config import load
from pilotfish.config.settings import Settings
from pilotfish.core.errors import RequestError
from pilotfish.core.messages import Price
from pilotfish.gateway import asgi, error_bodies, openapi
from pilotfish.gateway.audits import Audits
from pilotfish.gateway.chat import Answerers, Chat
from pilotfish.gateway.degraded import Degraded
from pilotfish.gateway.door import ADMIN_VARIABLE, Door
from pilotfish.gateway.embedder import Embedder
from pilotfish.gateway.learner import Learner
from pilotfish.gateway.live_tasks import LiveTasks
from pilotfish.gateway.load import SpecialistFolder
from pilotfish.gateway.local import Inference
from pilotfish.gateway.names import Names
from pilotfish.gateway.privacy_guard import PrivacyGuard
from pilotfish.gateway.repeats import Budget, Repeats
from pilotfish.gateway.rows import RowMaker
from pilotfish.models.base import Model
from pilotfish.models.build import further_models, large_model
from pilotfish.models.wire import model_lists
from pilotfish.models.wire.chat import CHAT
from pilotfish.models.wire.format import Fault, Format
from pilotfish.models.wire.formats import FORMATS
from pilotfish.store import build as store
from pilotfish.store.base import LogWriter
from pilotfish.store.home import Home, open_home

_Answer = Callable[[asgi.ClientHeaders, asgi.Receive, asgi.Send], Awaitable[None]]

_log = logging.getLogger(__name__)


class Gateway:
    """The application. `open_gateway` makes one with everything it needs."""

    def __init__(
        self,
        settings: Settings,
        *,
        door: Door,
        chat: Chat,
        tasks: LiveTasks,
        learner: Learner,
        repeats: Repeats,
        answerers: Answerers,
    ) -> None:
        self._door = door
        self._chat = chat
        self._tasks = tasks
        self._learner = learner
        self._answerers = answerers
        self._repeats = repeats
        self._settings = settings
        self._started_s = time.time()
        self._is_loopback = _is_this_machine(settings.server.host)
        self._routes: dict[str, tuple[str, _Answer]] = {
            **{"/v1" + form.path: ("POST", partial(chat.answer, form)) for form in FORMATS},
            "/v1/models": ("GET", self._list_models),
            "/openapi.json": ("GET", self._tell_interface),
            "/healthz": ("GET", self._tell_health),
            "/pilotfish/status": ("GET", self._tell_status),
        }

    async def __call__(self, scope: asgi.Message, receive: asgi.Receive, send: asgi.Send) -> None:
        """Answer one ASGI event stream; whatever escapes becomes a 500 that tells nothing."""
        if scope["type"] != "http":
            raise RuntimeError(f"The gateway speaks no {scope['type']}.")
        has_begun = False

        def sending(message: asgi.Message) -> Awaitable[None]:
            nonlocal has_begun
            has_begun = True
            return send(message)

        connection = scope.get("extensions", {}).get(asgi.CONNECTION)
        if connection is not None:
            receive = asgi.Watched(receive, connection)
        try:
            await self._route(scope, receive, sending)
        except RequestError as error:
            if not has_begun:
                await asgi.respond(send, *error_bodies.reply(error, _format_at(scope["path"])))
        except Exception as error:  # noqa: BLE001 - the outer layer
            _log.exception("A request failed.")
            if not has_begun:
                await asgi.respond(send, *error_bodies.reply(error, _format_at(scope["path"])))

    async def _route(self, scope: asgi.Message, receive: asgi.Receive, send: asgi.Send) -> None:
        headers = asgi.read_headers(scope["headers"])
        method, path = scope["method"], scope["path"]
        if self._is_loopback and (stranger := _stranger(headers)):
            await _refuse(send, path, error_bodies.foreign_site(stranger))
            return
        visit = self._door.admit(path, headers.credential)
        allowed, answer = self._routes.get(path) or self._one_model(path)
        if answer is None:
            await _refuse(send, path, error_bodies.not_found(path))
        elif method != allowed:
            await _refuse(send, path, error_bodies.wrong_method(method, allowed), (b"allow", allowed.encode()))
        else:
            try:
                await answer(headers.let_in(visit), receive, send)
            finally:
                visit.end()

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
            await _refuse(send, "", error_bodies.no_model(name))

    async def _tell_interface(self, _headers: asgi.ClientHeaders, _receive: asgi.Receive, send: asgi.Send) -> None:
        await asgi.respond(send, 200, [asgi.JSON], openapi.document())

    async def _tell_health(self, _headers: asgi.ClientHeaders, _receive: asgi.Receive, send: asgi.Send) -> None:
        await asgi.respond(send, 200, [asgi.JSON], b'{"status":"ok"}')

    async def _tell_status(self, _headers: asgi.ClientHeaders, _receive: asgi.Receive, send: asgi.Send) -> None:
        await asgi.respond(send, 200, [asgi.JSON], msgspec.json.encode(self.status()))

    def status(self) -> dict[str, Any]:
        """What the gateway does right now, without any text of a request."""
        claim = self._settings.quality.claim
        return {
            "version": version("pilotfish"),
            "process": os.getpid(),
            "up_s": round(time.time() - self._started_s, 3),
            "requests": self._chat.n_requests,
            "answered_locally": self._chat.n_local,
            "log_gaps": self._chat.n_gaps,
            "promise": None if claim is None else msgspec.to_builtins(claim),
            "learner": self._learner.status,
            "models": self._answerers.names.states(),
            "consistency": self._repeats.status,
            "tasks": [
                {
                    "id": live.record.task_id,
                    "name": live.record.name,
                    "mode": live.mode,
                    "certificate": live.record.certificate_id or None,
                    "audit_rate": live.coin if live.mode == "serve" else None,
                    "drift": {"message": live.drift.sentence(), **live.drift.details()} if live.drift else None,
                }
                for live in self._tasks.all()
            ],
        }


@contextlib.asynccontextmanager
async def open_gateway(
    settings: Settings, *, reference: Model | None = None, is_first: bool = True
) -> AsyncGenerator[Gateway, None]:
    """A running gateway: log, registry, specialists and learner are open inside and closed after.

    Of several worker processes only the one that `is_first` imports the log, learns, and asks requests again: a budget
    is kept in memory, and which worker a request comes to has nothing to do with its content. `reference` stands in
    for the large model of the settings. Raises `ConfigError` or `StoreError` where the gateway cannot start.
    """
    reference = reference or large_model(settings.large)
    guard = PrivacyGuard(settings.privacy)
    async with contextlib.AsyncExitStack() as stack:
        models = further_models(settings)
        for model in (reference, *models.values()):
            stack.push_async_callback(model.aclose)
        home, writer = await _open_log(stack, settings, is_first=is_first)
        door = _open_door(stack, settings, home.folder, {reference.card.name: reference, **models})
        inference = Inference()
        stack.callback(inference.close)
        specialists = SpecialistFolder(home.specialists, cache=load.cache(), encoder=settings.learning.encoder)
        tasks = LiveTasks(home.registry, settings, inference=inference, load=specialists.load)
        await tasks.refresh()
        rows = RowMaker(settings, load.settings_sha256(settings), reference.card.price)
        embedder = Embedder(specialists.encoder_name, specialists.encoder)
        stack.callback(embedder.close)
        consistency = settings.consistency if is_first else dataclasses.replace(settings.consistency, calls=0)
        budget = Budget(consistency, home.log.repeats())
        repeats = Repeats(consistency, reference=reference, writer=writer, rows=rows, budget=budget)
        stack.push_async_callback(repeats.aclose)
        audits = Audits(reference=reference, tasks=tasks, writer=writer, log=home.log, rows=rows, repeats=repeats)
        stack.push_async_callback(audits.aclose)
        answerers = Answerers(
            names=Names(reference=reference, models=models, aliases=settings.aliases, tasks=tasks),
            degraded=Degraded(settings.large.degraded, models),
            embedder=embedder,
        )
        chat = Chat(
            answerers=answerers,
            tasks=tasks,
            audits=audits,
            writer=writer,
            rows=rows,
            privacy=guard,
            max_body_bytes=int(settings.server.max_body_mb * 1e6),
        )
        stack.push_async_callback(chat.aclose)
        learner = Learner(settings, home.folder, log=home.log, tasks=tasks)
        stack.push_async_callback(learner.aclose)
        for work in (tasks.run(), door.run(), *((learner.run(),) if is_first else ())):
            stack.callback(asyncio.ensure_future(work).cancel)
        yield Gateway(
            settings,
            door=door,
            chat=chat,
            tasks=tasks,
            learner=learner,
            answerers=answerers,
            repeats=repeats,
        )


async def _open_log(stack: contextlib.AsyncExitStack, settings: Settings, *, is_first: bool) -> tuple[Home, LogWriter]:
    """The home and the writer of its log, open for as long as `stack`; what is too old is pruned."""
    home = open_home(load.home(settings))
    stack.callback(home.registry.close)
    if is_first:
        importer = store.open_importer(home.folder)
        stack.callback(importer.close)
    writer = store.open_writer(home.folder)
    stack.callback(writer.close)
    if is_first and settings.log.keep_days is not None:
        await asyncio.to_thread(store.prune, home.folder, time.time() - settings.log.keep_days * 86400)
    return home, writer


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


async def _refuse(send: asgi.Send, path: str, fault: Fault, *headers: tuple[bytes, bytes]) -> None:
    await asgi.respond(send, fault.status, [asgi.JSON, *headers], _format_at(path).encode_error(fault))


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
