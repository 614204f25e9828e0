"""What a comparison can show, said before it is paid for: items for the margin, and the smallest visible difference.

The share of items on which two models differ is not known beforehand, so several are shown; where a run file has both,
the user can state it. With several candidates the plan takes alpha over their number, the most that Holm asks for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pilotfish.core.item import Item
from pilotfish.evals.verdict import Rule
from pilotfish.stats import paired

DISCORDANCES = (0.05, 0.1, 0.2, 0.3)
CHARACTERS_PER_TOKEN = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """At one share of differing items: items that the margin needs, and what `n` items can show."""

    discordance: float
    items_for_margin: int
    detectable: float
    is_enough: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`prompt_tokens` is an estimate (four characters a token) of what every model reads, repeats included."""

    n: int
    n_candidates: int
    margin: float
    alpha: float
    power: float
    calls_per_model: int
    prompt_tokens: int
    rows: list[PlanRow]

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """What so many items can show, for the line before the first call."""
        low, high = self.rows[0], self.rows[-1]
        return (
            f"{self.n:,} items show a difference of {100 * low.detectable:.1f} points if the models differ on "
            f"{100 * low.discordance:g} % of them, {100 * high.detectable:.1f} points at {100 * high.discordance:g} %; "
            f"non-inferiority within {self.margin:g} needs {low.items_for_margin:,} to {high.items_for_margin:,} items."
        )


def plan(
    items: list[Item], rule: Rule, *, n_candidates: int = 1, repeats: int = 1, discordance: float | None = None
) -> Plan:
    """The plan for these items. ValueError where there is none."""
    if not items:
        raise ValueError("A plan needs at least one item.")
    n = len(items)
    alpha = rule.alpha / max(1, n_candidates)
    rows = []
    for share in DISCORDANCES if discordance is None else (discordance,):
        needed = paired.items_for_margin(rule.margin, share, alpha=alpha, power=rule.power)
        seen = paired.detectable(n, share, alpha=alpha, power=rule.power)
        rows.append(PlanRow(discordance=share, items_for_margin=needed, detectable=seen, is_enough=needed <= n))
    characters = sum(len(message.text or "") for item in items for message in item.messages)
    return Plan(
        n=n,
        n_candidates=n_candidates,
        margin=rule.margin,
        alpha=rule.alpha,
        power=rule.power,
        calls_per_model=n * repeats,
        prompt_tokens=round(characters / CHARACTERS_PER_TOKEN * repeats),
        rows=rows,
    )
