"""A certificate as a page that a manager can read and print, and a statistician can check.

Pure text out of a certificate and its calibration rows, which the caller has recomputed (`verify.py`), or the
thinned curve that the certificate keeps. Every text that came from a user's log is escaped; the pieces are those of
`pages/`.
"""

from __future__ import annotations

import shlex
from html import escape

from pilotfish.core.certificate import FULL_TIER_NEVER, Certificate, Claim
from pilotfish.guarantees.audit import Audit
from pilotfish.guarantees.certify import promise
from pilotfish.guarantees.consistency import from_json
from pilotfish.guarantees.kept_curve import thinned
from pilotfish.pages import html, svg
from pilotfish.stats import binomial, sequence
from pilotfish.stats.sequence import Curve, Point

_BAND = 0.95
_NEVER = "nothing of the full mixture"
_PLAIN = (
    "It holds while tomorrow's requests are like the calibration rows. Audits watch this: a random share of local "
    "answers is also asked of the large model, and the certificate is withdrawn when they part too often. When "
    "requests begin to look different to the small model, more of them are audited for a time.",
    "The large model's answer is the standard. This is a promise of agreement with it, not of truth.",
    "The calibration rows were not used to teach the specialist, and were chosen without looking at what they say.",
    "The tolerated share was chosen before these rows were looked at.",
)


def render(certificate: Certificate, rows: Curve, audit_rate: float | None = None) -> str:
    """The page. `rows` are the calibration rows over the score of all tiers, as `verify.recompute` gives them.

    `audit_rate` is that of the settings, None where it is chosen.
    """
    audit = Audit.start(certificate)
    title = f"Certificate: {certificate.task_name}"
    return html.document(
        title,
        [
            f"<h1>{escape(title)}</h1>",
            f'<p class="claim">{escape(_claim(certificate))}</p>',
            f"<p>{escape(_rest(certificate))}</p>",
            _numbers(certificate),
            _tiers(certificate),
            "<h2>Risk against coverage</h2>",
            chart(certificate, rows),
            "<h2>Beside it: a threshold without a proof</h2>",
            _beside(certificate, rows),
            "<h2>What it assumes</h2>",
            html.bullets([*_PLAIN, f"How soon audits notice: {audit.power(audit.rate(audit_rate))}."]),
            "<h2>Check it</h2>",
            _check(certificate),
        ],
    )


def chart(certificate: Certificate, rows: Curve) -> str:
    """Observed risk at every coverage with its pointwise band, the promise, and both thresholds marked."""
    claim = certificate.claim
    chosen = rows.at([certificate.min_certainty])[0]
    marked = [chosen, _naive(rows, claim)]
    points = thinned(rows, [point.threshold for point in marked])
    bands = [binomial.clopper_pearson(round(p.errors), _base(p, rows, claim), _BAND) for p in points]
    scale = min(1.0, max(3 * claim.max_risk, *(1.2 * _risk(p, rows, claim) for p in [*marked, points[-1]])))
    across = [point.n_served / rows.n_rows for point in points]

    def height(risk: float) -> float:
        return min(1.0, risk / scale)

    upper = [(x, height(band.high)) for x, band in zip(across, bands, strict=True)]
    lower = [(x, height(band.low)) for x, band in zip(across, bands, strict=True)]
    observed = [(x, height(_risk(p, rows, claim))) for x, p in zip(across, points, strict=True)]
    pieces = [
        svg.axis(),
        svg.area([*upper, *reversed(lower)], "var(--local)"),
        svg.curve(observed, "var(--local)"),
        svg.level(height(claim.max_risk), "var(--promise)", f"promised: at most {_percent(claim.max_risk)}"),
        *(svg.tick(share, f"{share * 100:g} %", "bottom") for share in (0.0, 0.25, 0.5, 0.75, 1.0)),
        *(svg.tick(share, _percent(share * scale), "left") for share in (0.0, 0.5, 1.0)),
        svg.note(f"disagreement per {claim.per}, over the share answered locally", "top left"),
    ]
    for point, colour in zip(marked, ("var(--local)", "var(--wrong)"), strict=True):
        place = (point.n_served / rows.n_rows, height(_risk(point, rows, claim)))
        pieces += [svg.upright(place[0], colour), svg.dot(place, colour)]
    label = (
        f"Observed disagreement per {claim.per} of the {rows.n_rows:,} calibration rows at every threshold, with its "
        f"{_BAND * 100:g} % Clopper-Pearson interval (pointwise: right for one threshold fixed beforehand, not for all "
        "at once). Dashed upright: the certified threshold and, to its right, the naive one"
    )
    return svg.figure(pieces, label)


def _claim(certificate: Certificate) -> str:
    return f"For requests of “{certificate.task_name}”, {promise(certificate.claim)}."


def _rest(certificate: Certificate) -> str:
    claim = certificate.claim
    kind = (
        "the share is counted among the local answers alone"
        if claim.is_of_served
        else "the share is counted among all requests of the task, local or not"
    )
    return (
        f"Of 100 such requests about {100 * certificate.coverage:.0f} are answered locally, by a small model on this "
        f"machine; the others go to the large model as before. “Differ” means that the large model would have answered "
        f"otherwise ({certificate.scorer}); {kind}. “{100 * claim.confidence:.4g} % confidence” means that of 100 "
        f"tasks put to this test at most {100 * claim.delta:.3g} get a promise that is false when it is made."
    )


def _numbers(certificate: Certificate) -> str:
    claim, n = certificate.claim, certificate.n
    base = certificate.n_served if claim.is_of_served else n
    gates = f"certainty at least {certificate.min_certainty:.6g}, scope at least {certificate.min_scope:.6g}"
    if certificate.first is not None:
        gates = "what either tier below is sure enough of"
    spent = f"{certificate.delta_spent:.4g} of {claim.delta:.4g} ({certificate.schedule})"
    rows = [
        ["calibration rows", f"{n:,}"],
        ["answered locally among them", f"{certificate.n_served:,} ({_percent(certificate.coverage)})"],
        ["differed", f"{certificate.errors:g} of {base:,} ({_percent(certificate.errors / base)})"],
        ["exact upper bound", f"{_percent(certificate.bound)}, where {_percent(claim.max_risk)} is promised"],
        *(
            [f"field {name}", f"{one['errors']:g} differed, bound {_percent(one['bound'])}"]
            for name, one in certificate.details.get("fields", {}).items()
        ),
        ["the large model against itself", _consistency(certificate)],
        ["attempt", f"number {certificate.attempt} for this task"],
        ["share of the tolerated error it spent", spent],
        ["answers locally at", gates],
        ["made", certificate.created_at],
    ]
    return html.table(["", ""], rows)


def _consistency(certificate: Certificate) -> str:
    repeated = from_json(certificate.details.get("consistency"))
    return "not recorded" if repeated is None else str(repeated)


def _tiers(certificate: Certificate) -> str:
    """Which tier answered how much; nothing where there is but one."""
    first = certificate.first
    if first is None:
        return ""
    n_full, full_errors = certificate.n_served - first.n_served, certificate.errors - first.errors
    certainty = _threshold(certificate.min_certainty, ".6g")
    rows = [
        _tier("first: n-grams alone", f"{first.min_certainty:.6g}", first.min_scope, first.n_served, first.errors),
        _tier("second: the full mixture", certainty, certificate.min_scope, n_full, full_errors),
    ]
    columns = ["tier", "certainty at least", "scope at least", "answered of the calibration rows", "differed"]
    return (
        "<h2>Two tiers, one promise</h2>"
        "<p>A text is first read by its n-grams alone, which takes a small part of the time; what that tier is "
        "not sure of is encoded and decided by the full mixture. The first tier's gates were chosen on rows that "
        f"taught, so that its answers use up at most {100 * first.max_share:g} % of the tolerated risk there. The "
        "promise and its bound are about both tiers together.</p>" + html.table(columns, rows)
    )


def _tier(name: str, certainty: str, scope: float, n_served: int, errors: float) -> list[str]:
    differed = f"{errors:g} ({_percent(errors / n_served)})" if n_served else "-"
    return [name, certainty, f"{scope:.6g}", f"{n_served:,}", differed]


def _beside(certificate: Certificate, rows: Curve) -> str:
    claim = certificate.claim
    compared = (("certified", rows.at([certificate.min_certainty])[0]), ("naive", _naive(rows, claim)))
    table = html.table(
        ["threshold", "certainty at least", "answered locally", "differed", "exact upper bound"],
        [_beside_row(name, point, rows, certificate) for name, point in compared],
    )
    return table + (
        "<p>The naive threshold is the lowest at which these rows happened to stay within the promise. It "
        f"would promise the same {_percent(claim.max_risk)} and answer no less, but keeps no margin for chance: with "
        "finely graded scores about half of such promises are broken by later traffic. Of 100 tasks put to the test at "
        f"most {100 * claim.delta:.3g} may get a certificate that is false.</p>"
    )


def _beside_row(name: str, point: Point, rows: Curve, certificate: Certificate) -> list[str]:
    base = _base(point, rows, certificate.claim)
    return [
        name,
        _threshold(point.threshold, ".4f"),
        _percent(point.n_served / rows.n_rows),
        f"{point.errors:g} of {base:,} ({_percent(point.errors / base)})",
        _percent(binomial.upper(round(point.errors), base, certificate.delta_spent)),
    ]


def _check(certificate: Certificate) -> str:
    name = shlex.quote(certificate.task_name)
    command = f"pilotfish certify {name} --certificate {certificate.id} --verify"
    return (
        "<p>This command reads the same rows from the log, asks the same specialist, counts and tests anew, and "
        "fails on any difference. It was run before this page was written, without one.</p>"
        f"<pre>{escape(command)}</pre>"
        + html.table(
            ["", ""],
            [
                ["certificate", certificate.id],
                ["calibration rows, SHA-256", certificate.data_sha256],
                ["specialist, SHA-256", certificate.artefact_sha256],
                ["procedure", certificate.procedure],
                ["split of the rows", certificate.split_rule],
                ["how answers are compared", certificate.scorer],
            ],
        )
        + "<p>As stated in the certificate:</p>"
        + html.bullets(certificate.assumptions)
    )


def _naive(rows: Curve, claim: Claim) -> Point:
    found = sequence.naive(rows, claim.max_risk, per_traffic=claim.per == "traffic")
    assert found is not None  # where a threshold passes with a margin, one passes without
    return found


def _base(point: Point, rows: Curve, claim: Claim) -> int:
    return point.n_served if claim.is_of_served else rows.n_rows


def _risk(point: Point, rows: Curve, claim: Claim) -> float:
    return point.errors / _base(point, rows, claim)


def _threshold(certainty: float, digits: str) -> str:
    return format(certainty, digits) if certainty < FULL_TIER_NEVER else _NEVER


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
