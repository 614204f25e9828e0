from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest

from pilotfish.core.certificate import Certificate, Claim
from pilotfish.guarantees import kept_curve
from pilotfish.guarantees.certify import Evidence, Terms, certify
from pilotfish.guarantees.page import chart, render
from pilotfish.guarantees.tiers import Rows, joint
from pilotfish.stats import binomial, sequence

N = 800
CERTAINTY = [i / N for i in range(N)]
# Every tenth answer of the lower half differs, every hundredth of the upper.
LOSSES = [float(i % 10 == 0 if i < N / 2 else i % 100 == 0) for i in range(N)]


def _evidence() -> Evidence:
    return Evidence(
        losses=LOSSES,
        certainty=CERTAINTY,
        scope=[1.0] * N,
        fold_losses=LOSSES,
        fold_certainty=CERTAINTY,
        fold_scope=[1.0] * N,
    )


def _made(per="answer", name="intent") -> tuple[Certificate, sequence.Curve]:
    terms = Terms(
        task_id="t" * 16,
        task_name=name,
        attempt=2,
        created_at="2026-11-22T00:00:00+00:00",
        data_sha256="d" * 64,
        artefact_sha256="a" * 64,
    )
    found = certify(_evidence(), Claim(max_risk=0.05, per=per), terms)
    assert isinstance(found, Certificate)
    return found, joint(Rows(LOSSES, CERTAINTY, [1.0] * N), found.min_scope)


class _Parsed(HTMLParser):
    """The tags with their attributes; every tag that was opened is closed."""

    VOID = ("meta", "line", "circle", "polyline", "polygon")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.mark.parametrize("per", ["answer", "traffic"])
def test_the_numbers_of_the_certificate_are_on_the_page(per):
    certificate, rows = _made(per)
    text = render(certificate, rows)
    base = certificate.n_served if per == "answer" else N
    assert f"{certificate.errors:g} of {base:,} " in text
    assert f"{100 * certificate.bound:.3g} %" in text
    assert f"{certificate.n_served:,} (" in text
    assert "number 2 for this task" in text
    assert f"{certificate.delta_spent:.4g} of 0.05" in text
    assert "d" * 64 in text
    assert "a" * 64 in text
    assert f"pilotfish certify intent --certificate {certificate.id} --verify" in text
    assert "with 95 % confidence" in text
    assert "pointwise" in text


@pytest.mark.parametrize("per", ["answer", "traffic"])
def test_the_naive_threshold_stands_beside_with_its_own_bound(per):
    certificate, rows = _made(per)
    naive = sequence.naive(rows, 0.05, per_traffic=per == "traffic")
    assert naive.n_served > certificate.n_served
    base = naive.n_served if per == "answer" else N
    bound = binomial.upper(round(naive.errors), base, certificate.delta_spent)
    assert bound > 0.05
    text = render(certificate, rows)
    assert f"<td>naive</td><td>{naive.threshold:.4f}</td>" in text
    assert f"<td>{100 * bound:.3g} %</td>" in text
    assert "about half of such promises are broken" in text


def test_it_is_one_page_without_script_or_request():
    parsed = _Parsed(render(*_made()))
    assert not parsed.all("script")
    assert not parsed.all("link")
    assert not parsed.all("img")
    assert not [attrs for _, attrs in parsed.tags if {"src", "href", "onload"} & attrs.keys()]
    assert "url(" not in render(*_made())


def test_what_came_from_a_log_is_escaped():
    text = render(*_made(name="<b>'x' & y</b>"))
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    _Parsed(text)


@pytest.mark.parametrize("per", ["answer", "traffic"])
def test_the_curve_that_a_certificate_keeps_draws_the_same_chart(per):
    certificate, rows = _made(per)
    kept = kept_curve.of(Certificate.from_json(json.loads(json.dumps(certificate.to_json()))))
    assert len(kept.points) < 150 < len(rows.points)
    assert chart(certificate, kept) == chart(certificate, rows)


def test_the_band_holds_the_curve_and_both_thresholds_are_on_it():
    certificate, rows = _made()
    parsed = _Parsed(render(certificate, rows))

    def places(attrs):
        return [tuple(map(float, pair.split(","))) for pair in attrs["points"].split()]

    (band,), (curve,) = (places(attrs) for attrs in parsed.all("polygon")), (places(a) for a in parsed.all("polyline"))
    assert len(band) == 2 * len(curve)
    assert len(curve) >= 50
    upper, lower = band[: len(curve)], list(reversed(band[len(curve) :]))
    # Heights grow downwards in SVG.
    assert all(u[1] <= c[1] <= w[1] for u, c, w in zip(upper, curve, lower, strict=True))
    dots = [(float(attrs["cx"]), float(attrs["cy"])) for attrs in parsed.all("circle")]
    assert len(dots) == 2
    assert set(dots) <= set(curve)
    assert dots[0][0] < dots[1][0]
    # The certified dot lies below the line of the promise, which is at a third of the height or lower.
    promised = next(float(a["y1"]) for a in parsed.all("line") if a.get("stroke") == "var(--promise)")
    assert dots[0][1] > promised


def test_everything_served_needs_no_room_to_the_right():
    certificate, rows = _made()
    low = dataclasses.replace(certificate, min_certainty=0.0, n_served=N, coverage=1.0)
    assert re.search(r"calibration rows</td><td>800", render(low, rows))
