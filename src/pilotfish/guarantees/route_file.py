"""The file of a route: what decides, what is promised of it, and what finding that out has taken so far."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.core.certificate import Certificate, Refusal
from pilotfish.core.errors import DataError, SpecialistError
from pilotfish.core.ids import fingerprint
from pilotfish.core.outcome import Outcome
from pilotfish.routing.route import Route

_ANEW = "Learn it anew, into another file: pilotfish route train OUTCOMES --out FILE."


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteFile:
    """A route and what came of the last attempt at it: `verdict` is None in a file that holds a route alone.

    `attempts` were spent on the promise for this `workload`. `spent_usd` is what its outcomes cost, None where that is
    not known. `taught` are the fingerprints of the requests whose outcomes taught the route.
    """

    route: Route
    verdict: Certificate | Refusal | None = None
    workload: str = ""
    attempts: int = 0
    spent_usd: float | None = None
    taught: frozenset[str] = frozenset()

    @classmethod
    def load(cls, path: Path) -> RouteFile:
        """What stands in a file. Raises `SpecialistError` where it cannot be read."""
        try:
            row = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            hint = _ANEW if isinstance(error, ValueError) else ""
            raise SpecialistError(f"The route {str(path)!r} cannot be read: {error}.", hint=hint) from error
        if not isinstance(row, dict):
            raise SpecialistError(f"{str(path)!r} holds no route.", hint=_ANEW)
        verdict = row.get("verdict")
        try:
            route = Route.from_json(row.get("route", row))
        except SpecialistError as error:
            raise SpecialistError(f"In {str(path)!r}: {error}") from error
        try:
            return cls(
                route=route,
                verdict=verdict and (Certificate if "bound" in verdict else Refusal).from_json(verdict),
                workload=row.get("workload", ""),
                attempts=int(row.get("attempts", 0)),
                spent_usd=row.get("spent_usd"),
                taught=frozenset(row.get("taught", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SpecialistError(
                f"What {str(path)!r} says of its route cannot be read: {type(error).__name__}: {error}.", hint=_ANEW
            ) from error

    def to_json(self) -> dict[str, Any]:
        """The file's one JSON object."""
        return {
            "workload": self.workload,
            "attempts": self.attempts,
            "spent_usd": self.spent_usd,
            "route": self.route.to_json(),
            "verdict": self.verdict and self.verdict.to_json(),
            "taught": sorted(self.taught),
        }

    def unseen(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Those that did not teach the route: of the others it knows the answers. Raises `DataError` where none is."""
        found = [outcome for outcome in outcomes if _name(outcome) not in self.taught]
        if outcomes and not found:
            raise DataError(
                f"All {len(outcomes):,} outcomes taught this route, so they say nothing of it.",
                hint="Judge it on others, or on the whole file that it was learnt from: most of that did not teach.",
            )
        return found

    def save(self, path: Path) -> None:
        """Write the whole file or none of it."""
        temporary = path.with_name(f".{path.name}.writing")
        try:
            temporary.write_text(json.dumps(self.to_json(), indent=1) + "\n", "utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def fingerprints(outcomes: Iterable[Outcome]) -> frozenset[str]:
    """What outcomes that teach are known by, in `RouteFile.taught`."""
    return frozenset(map(_name, outcomes))


def _name(outcome: Outcome) -> str:
    # Files of different days may count their requests from 1.
    return fingerprint(outcome.request_id, outcome.prompt)
