"""What is known of prices, since when, and what is not; what `serve` says on standard error; servers in receipts."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess

import pytest

from pilotfish.cli.main import EXIT_NO
from pilotfish.store.build import open_registry, open_writer
from pilotfish.store.home import open_home
from tools.command_line import PILOTFISH
from tools.gateway import body, post
from tools.log_rows import request_row
from tools.upstream import Reply, upstream


def days_ago(n):
    return (datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=n)).isoformat()


@pytest.fixture
def prices(pilotfish, tmp_path):
    def run(source, *flags, price="input_usd_per_mtok = 3\noutput_usd_per_mtok = 15"):
        file = tmp_path / "pilotfish.toml"
        file.write_text(f'[large]\nurl = "http://127.0.0.1:9/v1"\nmodel = "big"\n{price}\nprice_source = "{source}"\n')
        return pilotfish("prices", "--config", file, *flags)

    return run


def test_a_price_carries_its_source_and_its_date(prices):
    said = prices(f"the vendor's page, {days_ago(3)}")
    assert said.code == 0
    for text in ("big", "the vendor's page", days_ago(3), "15"):
        assert text in said.out
    found = prices(f"page {days_ago(3)}", "--json").json["prices"][0]
    assert (found["input_usd_per_mtok"], found["age_days"], found["warnings"]) == (3.0, 3, [])
    assert prices(f"page {days_ago(90)}", "--check").code == 0


@pytest.mark.parametrize(
    ("source", "warning"),
    [
        (f"page of {days_ago(91)}", "91 days ago"),
        ("a page", "holds no date"),
        ("page of 2026-99-99", "holds no date"),
        (f"page of {days_ago(-2)}", "yet to come"),
    ],
)
def test_a_source_that_is_old_or_has_no_date_is_warned_of(prices, source, warning):
    said = prices(source, "--check")
    assert (said.code, warning in said.err) == (EXIT_NO, True)
    assert warning in prices(source, "--json").json["prices"][0]["warnings"][0]
    assert prices(source).code == 0


def test_an_unknown_price_is_unknown_and_not_nothing(prices):
    said = prices("", "--check", price="input_usd_per_mtok = 3")
    assert (said.code, "Set output_usd_per_mtok" in said.err) == (EXIT_NO, True)
    assert "unknown" in said.out
    found = prices("", "--json", price="").json
    assert (found["ok"], found["prices"][0]["output_usd_per_mtok"]) == (False, None)


def test_explain_names_the_server_the_tries_and_where_the_price_comes_from(pilotfish, tmp_path):
    home = tmp_path / "home"
    open_home(home)
    writer = open_writer(home)
    writer.append(request_row("r0", server="eu.example:443", tries=2, price_source="page of 2026-11-01"))
    writer.append(request_row("r1", server="eu.example:443", tries=3, status=502, error="down", cost_usd=None))
    writer.close()
    said = pilotfish("explain", "r0", "--home", home).out
    assert "server: eu.example:443, after 2 tries" in said
    assert "cost $0.250000 (price: page of 2026-11-01)" in said
    assert "server asked last: eu.example:443, after 3 tries" in pilotfish("explain", "r1", "--home", home).out
    assert pilotfish("explain", "r0", "--home", home, "--json").json["request"]["tries"] == 2


def test_serve_tells_its_events_as_json_lines(tmp_path):
    secret = "a-text-of-a-request"
    with upstream([Reply(status=500, body=secret.encode())]) as behind:
        flags = ["--large", behind.url, "--model", "big", "--port", "0", "--home", tmp_path / "home"]
        command = [*PILOTFISH, "serve", *map(str, flags), "--log-format", "json"]
        environment = {**os.environ, "OPENAI_API_KEY": "our-secret-key"}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline().rpartition("/v1")[0].rpartition(":")[2])
            for _ in range(5):
                assert post(port, body(secret))[0] == 500
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=120)
    lines = [json.loads(line) for line in err.splitlines()]
    assert [line["event"] for line in lines] == ["start", "breaker-opened", "stop"]
    assert (lines[0]["port"], lines[1]["model"], lines[1]["code"]) == (port, "big", "model_status")
    assert secret not in err
    assert "our-secret-key" not in err


def test_events_are_counted_by_task_and_kind(certified):
    registry = open_registry(certified)
    [record] = registry.tasks()
    counts = registry.event_counts()
    registry.close()
    assert counts[record.task_id, "certified"] == 1
