from pathlib import Path

import pytest
import torch

from rtil import machine


def test_peak_memory_is_in_megabytes():
    """Against the kernel's own account, which is in KiB; pages of other threads may not be counted yet."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kib = int(status["VmHWM"].split()[0])
    assert machine.peak_memory_mb(torch.device("cpu")) == pytest.approx(kib * 1024 / 1e6, rel=0.01)
