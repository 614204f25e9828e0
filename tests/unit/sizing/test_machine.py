"""What this machine can hold: the kernel's word, bounded by control groups; the speed measured once and kept."""

from __future__ import annotations

import datetime
import json

import pytest

from pilotfish.sizing import machine

GIB = 1 << 30


def system(root, *, mem_total=16, available=8, group="0::/app\n", limits=()):
    proc, groups = root / "proc", root / "cgroup"
    (proc / "self").mkdir(parents=True)
    groups.mkdir()
    (proc / "meminfo").write_text(f"MemTotal: {mem_total << 20} kB\nMemAvailable: {available << 20} kB\n")
    (proc / "self" / "cgroup").write_text(group)
    for path, text in limits:
        (groups / path).parent.mkdir(parents=True, exist_ok=True)
        (groups / path).write_text(text)
    return proc, groups


def test_without_a_limit_the_kernel_says(tmp_path):
    found = machine.memory(*system(tmp_path, limits=[("memory.max", "max\n")]))
    assert (found.total_bytes, found.available_bytes, found.limited_by) == (16 * GIB, 8 * GIB, "RAM")


@pytest.mark.parametrize(
    ("group", "path"),
    [
        ("0::/app\n", "app/memory.max"),
        ("0::/app/inner\n", "app/memory.max"),
        ("0::/\n", "memory.max"),
        ("5:memory:/box\n", "memory/box/memory.limit_in_bytes"),
        ("", "memory/memory.limit_in_bytes"),
    ],
)
def test_a_control_group_bounds_it(tmp_path, group, path):
    found = machine.memory(*system(tmp_path, group=group, limits=[(path, f"{4 * GIB}\n")]))
    assert (found.total_bytes, found.available_bytes, found.limited_by) == (4 * GIB, 4 * GIB, "control group")


def test_a_limit_above_the_memory_is_none(tmp_path):
    found = machine.memory(*system(tmp_path, limits=[("memory.max", str(1 << 62))]))
    assert found.limited_by == "RAM"


def test_speed_is_measured_once_and_kept_with_its_date(tmp_path):
    pytest.importorskip("numpy")
    first = machine.speed(tmp_path)
    assert 1e8 < first.bandwidth < 1e14
    assert first.measured == datetime.datetime.now(datetime.UTC).date().isoformat()
    assert machine.is_measured(tmp_path)
    assert machine.speed(tmp_path) == first


@pytest.mark.parametrize(
    "change", [{"machine": "another"}, {"measured": "2001-01-01"}, {"bandwidth": "fast"}, {"measured": 5}]
)
def test_a_kept_speed_of_another_machine_or_time_is_not_used(tmp_path, change):
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    kept = {"machine": machine._machine(), "bandwidth": 1e10, "method": "m", "measured": today, "gpus": []}
    (tmp_path / "machine").mkdir()
    file = tmp_path / "machine" / "speed.json"
    file.write_text(json.dumps(kept))
    assert machine.is_measured(tmp_path)
    file.write_text(json.dumps(kept | change))
    assert not machine.is_measured(tmp_path)
