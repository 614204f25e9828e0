"""The route in force, kept up with the registry: what it needs to decide, its audits, and its withdrawal.

It decides only where the user has stated a margin, the route's certificate promises at least that, every model it asks
is configured, every signal it reads is provided, its encoder can be loaded, and somebody grades its audits. Short of
that everything goes to the reference, and the status says why.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any

from pilotfish.config.settings import RoutingSettings
from pilotfish.core.certificate import Certificate, Claim
from pilotfish.core.errors import SpecialistError, StoreError
from pilotfish.gateway.looks import not_provided
from pilotfish.guarantees.audit import Audit, observe
from pilotfish.guarantees.loss import threshold_of
from pilotfish.routing.route import Route
from pilotfish.store.base import RouteRecord, Routes

LOOK_EVERY_S = 0.25
LOOK_AGAIN_S = 5.0
"""Between two looks whether an encoder that could not be loaded is there again: each may read 22 MB."""

Find = Callable[[str], Awaitable[SpecialistError | None]]
"""Loads the encoder of a hash; why it cannot be loaded, None where it is there."""

_log = logging.getLogger(__name__)


class LiveRoute:
    """The route of one gateway. `route` is None where none may decide."""

    def __init__(
        self,
        routes: Routes,
        settings: RoutingSettings,
        *,
        reference: str,
        models: Collection[str],
        find_encoder: Find | None = None,
    ) -> None:
        """`models` are the names of the configured ones beside the reference; without `find_encoder` none is loaded."""
        self._routes = routes
        self._settings = settings
        self._reference = reference
        self._models = set(settings.models) & set(models)
        self._version = -1
        self._record: RouteRecord | None = None
        self.route: Route | None = None
        self.certificate: Certificate | None = None
        self.coin = 0.0
        self._why_none = ""
        self._find_encoder = find_encoder
        self._found = ""
        self._look_again_s = 0.0
        self.fault: SpecialistError | None = None
        self.refresh()

    @property
    def name(self) -> str:
        """What counts and logs call it."""
        return "" if self.certificate is None else self.certificate.task_name

    @property
    def why_none(self) -> str:
        """Why no route decides, and what to do; empty where one does.

        One whose encoder cannot be loaded (`fault`) stays in force and decides again once it can be.
        """
        if self._why_none or self.fault is None or self.route is None:
            return self._why_none
        wanted, said = self.route.encoder_sha256[:12], str(self.fault).rstrip(".")
        return f"the encoder {wanted}, with which the route reads prompts, cannot be loaded: {said}"

    @property
    def status(self) -> dict[str, Any]:
        """What is in force, or why nothing is."""
        certificate, state = self.certificate, None if self._record is None else self._record.audit_state
        return {
            "margin": self._settings.margin,
            "route": None if self.route is None else self.route.id,
            "certificate": None if certificate is None else certificate.id,
            "models": [] if self.route is None else [step.model for step in self.route.steps],
            "audit_rate": None if self.route is None else self.coin,
            "audits": Audit.from_json(state).evidence(self.coin) if state else None,
            "why_none": self.why_none or None,
        }

    async def run(self) -> None:
        """Notice what other processes changed, and whether the encoder can be loaded; cancel to end."""
        # Side by side: an encoder may take seconds to load, and a withdrawal must not wait for that.
        await asyncio.gather(self._keep_up(), self._keep_encoder())

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                self.refresh()
            except StoreError as error:
                _log.warning("Changes of the route wait: %s", error)

    def refresh(self) -> None:
        """Take over what has changed in the registry. Raises `StoreError` where it cannot be read."""
        version = self._routes.version()
        if version == self._version:
            return
        known = self._record
        self._record = self._routes.newest()
        self._version = version
        if known is None or self._record is None or _standing(known) != _standing(self._record):
            self.route, self.certificate, self.coin = None, None, 0.0
            self._found, self.fault = "", None
            self._why_none = self._take_up(self._record)

    def observe(self, certificate_id: str, *, loss: float, is_local: bool) -> None:
        """The next audited request, in the one sequence of all workers. Withdraws the route where it is too much."""
        certificate = self.certificate
        if certificate is None or certificate.id != certificate_id:
            return
        audit = observe(certificate, partial(self._routes.change_audit, certificate_id), loss=loss, is_local=is_local)
        if audit is not None and audit.withdraws:
            message = audit.evidence(self.coin)
            if self._routes.withdraw(certificate_id, message):
                fields = {"event": "withdrawn", "task": certificate.task_name, "certificate": certificate_id}
                _log.warning("Route %s: %s", certificate.task_name, message, extra={"fields": fields})
        self.refresh()

    async def _keep_encoder(self) -> None:
        while True:
            await self._look_for_encoder()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look_for_encoder(self) -> None:
        """Load the route's encoder before a request needs it; once, and now and then where it cannot be loaded."""
        route = self.route
        if route is None or self._find_encoder is None or self._found == route.encoder_sha256:
            return
        if self.fault is not None and time.monotonic() < self._look_again_s:
            return
        fault = await self._find_encoder(route.encoder_sha256)
        if self.route is not route:
            return
        known, self.fault = self.fault, fault
        self._look_again_s = time.monotonic() + LOOK_AGAIN_S
        fields = {"event": "encoder", "task": self.name, "encoder": route.encoder_sha256}
        if fault is None:
            self._found = route.encoder_sha256
            if known is not None:
                _log.info("Route %s: its encoder is loaded; it decides again.", self.name, extra={"fields": fields})
        elif str(known) != str(fault):
            message = "Route %s decides nothing, the large model answers: %s."
            _log.warning(message, self.name, self.why_none, extra={"fields": fields})

    def _take_up(self, record: RouteRecord | None) -> str:
        """Let the route of a record decide; why not, where it may not."""
        if self._settings.margin is None:
            return "no margin is stated in [routing]"
        if record is None or record.withdrawn_s is not None:
            return "no route was adopted" if record is None else "the route was withdrawn"
        certificate = record.certificate
        wanted = Claim(max_risk=self._settings.margin, confidence=self._settings.confidence, per="loss")
        if not certificate.claim.covers(wanted):
            return "the certificate promises less than [routing] asks for"
        try:
            route = Route.from_json(record.route)
            why = self._why_not(route, certificate)
        except SpecialistError as error:
            why = error.message
        if why:
            return why
        audit = Audit.from_json(record.audit_state) if record.audit_state else Audit.start(certificate)
        self.route, self.certificate, self.coin = route, certificate, audit.rate(self._settings.audit_rate)
        return ""

    def _why_not(self, route: Route, certificate: Certificate) -> str:
        if certificate.artefact_sha256 != route.id or route.threshold != threshold_of(certificate):
            return "the certificate is about another route"
        if route.reference != self._reference:
            return f"the route's reference is {route.reference!r}, not the large model"
        missing = [step.model for step in route.steps if step.model not in self._models]
        if missing:
            return f"the route asks {missing[0]!r}, which [routing] models does not name"
        if why := not_provided(route, self._settings):
            return why
        if not self._settings.judge and self._settings.audit_rate != 0:
            return "nobody grades its audits: set [routing] judge, or audit_rate = 0 to go without"
        return ""


def _standing(record: RouteRecord) -> tuple[str, float | None]:
    return record.certificate.id, record.withdrawn_s
