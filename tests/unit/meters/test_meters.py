from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pilotfish.meters.build import memory_meters, work_meters
from pilotfish.meters.estimate import EstimateMeter
from pilotfish.meters.memory import MemoryMeter, tree_bytes
from pilotfish.meters.nvidia import NvidiaMeter
from pilotfish.meters.powercap import PowercapMeter

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
def test_the_peak_is_seen_although_it_is_gone_at_the_end():
    meter = MemoryMeter()
    meter.start()
    block = bytearray(os.urandom(1) * 60_000_000)
    time.sleep(0.15)
    del block
    (reading,) = meter.stop()
    assert reading.value > tree_bytes(os.getpid()) + 30_000_000
    assert "sampled every 50 ms" in reading.method
    assert "process tree" in reading.scope


@linux
def test_the_tree_holds_what_was_started():
    code = "import time; block = b'x' * 50_000_000; print('ready', flush=True); time.sleep(20)"
    alone = tree_bytes(os.getpid())
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert tree_bytes(os.getpid()) > alone + 50_000_000
        child.kill()
        child.communicate()
    assert tree_bytes(2**22 + 1) == 0


def counter(root: Path, name: str, energy_uj: int) -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(str(energy_uj))
    (folder / "max_energy_range_uj").write_text("1000000000")
    return folder


def test_packages_are_counted_their_parts_are_not_and_a_wrap_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("pilotfish.meters.powercap.SHORTEST_S", 0.0)
    package = counter(tmp_path, "intel-rapl:0", 999_000_000)
    counter(tmp_path, "intel-rapl:0:0", 5)
    meter = PowercapMeter(tmp_path, gap_s=0.01)
    meter.start()
    (package / "energy_uj").write_text("500000000")
    (reading,) = meter.stop()
    assert (reading.value, reading.method) == (pytest.approx(501.0), "rapl")


def test_without_a_counter_energy_is_not_measured(tmp_path):
    meter = PowercapMeter(tmp_path)
    meter.start()
    (reading,) = meter.stop()
    assert (reading.value, reading.method) == (None, "none")
    assert "no powercap" in reading.why_none


def test_a_window_that_is_too_short_and_a_broken_counter_say_so(tmp_path):
    package = counter(tmp_path, "intel-rapl:0", 1)
    meter = PowercapMeter(tmp_path)
    meter.start()
    assert "at least 1 s" in meter.stop()[0].why_none
    (package / "energy_uj").write_text("?")
    meter = PowercapMeter(tmp_path)
    meter.start()
    assert "cannot be read" in meter.stop()[0].why_none


def smi(folder: Path, lines: str) -> str:
    program = folder / "nvidia-smi"
    program.write_text(f"#!{sys.executable}\nimport time\n{lines}\n")
    program.chmod(0o755)
    return str(program)


def test_power_is_summed_over_time_and_memory_over_devices(tmp_path, monkeypatch):
    monkeypatch.setattr("pilotfish.meters.nvidia.SHORTEST_S", 0.1)
    meter = NvidiaMeter(
        smi(
            tmp_path,
            "for i in range(200):\n"
            "    print(f'0, 100.0, {1000 + 10 * (i == 3)}', flush=True)\n"
            "    print('1, 50.0, 500', flush=True)\n"
            "    time.sleep(0.02)",
        )
    )
    meter.start()
    time.sleep(0.6)
    energy, memory = meter.stop()
    assert energy.method == "nvml_sampled"
    assert 150 * 0.1 < energy.value < 150 * energy.window_s * 1.01
    assert memory.value == (1010 + 500) * 1024**2


def test_a_device_without_power_or_a_machine_without_a_device_says_so(tmp_path):
    meter = NvidiaMeter(smi(tmp_path, "print('0, [N/A], 10', flush=True)\ntime.sleep(20)"))
    meter.start()
    time.sleep(0.4)
    energy, memory = meter.stop()
    assert (energy.value, memory.value) == (None, 10 * 1024**2)
    assert "reports no power for device 0" in energy.why_none
    missing = NvidiaMeter("no-such-program")
    missing.start()
    assert {reading.why_none for reading in missing.stop()} == {"no nvidia-smi on this machine"}


def test_an_estimate_is_labelled_and_comes_only_on_request():
    meter = EstimateMeter(50.0)
    meter.start()
    time.sleep(0.05)
    (reading,) = meter.stop()
    assert reading.method == "tdp_estimate"
    assert reading.value == pytest.approx(50.0 * reading.window_s)
    assert not any(isinstance(found, EstimateMeter) for found in (*memory_meters(), *work_meters()))
    assert any(isinstance(found, EstimateMeter) for found in work_meters(50.0))
