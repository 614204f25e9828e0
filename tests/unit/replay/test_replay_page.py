from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

from pilotfish.replay.page import headline, render
from pilotfish.replay.report import Longer
from tools.replayed import replayed, report

HOSTILE = "<script>alert('x')</script>\"&' http://evil.example/</title>"


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


def _parsed(page):
    parser = _Tags()
    parser.feed(page)
    return parser


def _hostile():
    task = replayed()
    return dataclasses.replace(task, task=dataclasses.replace(task.task, name=HOSTILE))


def test_the_page_asks_for_nothing_and_runs_nothing():
    page = render(report(replayed(), local_s=[0.001]), "Backtest of x.jsonl")
    parsed = _parsed(page)
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(parsed.tags)
    assert not [name for name in parsed.attributes if name.startswith("on") or name in ("src", "href", "srcset")]
    assert not re.search(r"https?://|url\(|@import", page)


def test_what_came_from_a_log_is_escaped():
    longer = [Longer(task=HOSTILE, position=1, certified_coverage=0.1, share_of_all=0.1)]
    page = render(report(_hostile(), unreadable=[f"line 3: {HOSTILE}"], longer=longer), HOSTILE)
    parsed = _parsed(page)
    assert "script" not in parsed.tags
    assert parsed.tags.count("title") == 1
    assert "&lt;script&gt;" in page


def test_the_charts_and_tables_are_there():
    found = report(replayed(), longer=[Longer(task="colours", position=50, certified_coverage=0.5, share_of_all=0.25)])
    page = render(found, "t")
    assert page.count("<svg") == 1
    assert page.count("<polyline") == 2
    assert "promise 5 %" in page
    for text in ("answered locally", "always large", "random same share", "oracle", "observing longer", "Certificate"):
        assert text in page, text
    assert headline(found) in page


def test_tasks_without_a_chart_are_named_too():
    refused = replayed(served=False)
    page = render(report(refused), "t")
    assert "<svg" not in page
    assert "412 more are needed" in page
    untried = dataclasses.replace(refused, verdicts=[])
    assert "a first attempt was due" in render(report(untried), "t")


def test_an_open_task_says_why_it_is_only_observed():
    task = replayed(served=False)
    shape = dataclasses.replace(task.task.shape, kind="text", fields=(), why_open="prose <b>")
    task = dataclasses.replace(task, verdicts=[], task=dataclasses.replace(task.task, shape=shape))
    page = render(report(task), "t")
    assert "colours" in page
    assert "prose &lt;b&gt;" in page


def test_the_headline_names_the_promise_and_what_was_found():
    assert "at most 5 % disagreement per answer with 95 % confidence" in headline(report(replayed()))
    assert headline(report(replayed(served=False))).startswith("Of 100 requests none")


def test_an_empty_report_is_a_page():
    assert "Of 0 requests none" in render(report(), "t")
