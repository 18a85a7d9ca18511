import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rtil.devices import compute_dtype, peak_memory_mb, pick_device, to_device, training_convolutions
from rtil.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def settings():
    cudnn = torch.backends.cudnn
    return cudnn.benchmark, cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision


@pytest.mark.parametrize(("dtype", "precision"), [(torch.float32, "ieee"), (torch.bfloat16, "tf32")])
@pytest.mark.parametrize("error", [UserError, KeyboardInterrupt])
def test_convolutions_of_a_training_are_set_and_set_back(dtype, precision, error):
    before = settings()
    with suppress(error), training_convolutions(GPU, dtype):
        assert settings() == (True, precision, before[2])
        raise error
    assert settings() == before


def test_on_a_processor_nothing_is_set():
    before = settings()
    with training_convolutions(CPU, torch.bfloat16):
        assert settings() == before


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("mps", "device 'mps' is not there (it is Apple's GPU, on macOS): use --device cpu"),
        ("cuda:99", "device 'cuda:99' is not there"),
        ("xpu", "device 'xpu' is not supported: use auto, cpu, cuda, cuda:N or mps"),
        ("tpu", "device 'tpu' is not valid: use auto, cpu, cuda, cuda:N or mps"),
    ],
)
def test_a_device_that_is_not_there_is_told(asked, message, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError) as told:
        pick_device(asked)
    assert str(told.value).startswith(message)


def test_apples_gpu_is_used_where_asked_for_only(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("mps") == torch.device("mps")
    assert pick_device("auto") == CPU
    assert compute_dtype("auto", torch.device("mps")) == torch.float32


def test_peak_memory_is_in_megabytes():
    """Of 10^6 bytes; the kernel counts KiB."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    assert peak_memory_mb(CPU) == pytest.approx(int(line.split()[1]) * 1024 / 1e6, rel=0.01)


def test_peak_memory_has_the_unit_of_the_system(monkeypatch):
    """Linux counts KiB and macOS bytes; on Windows another library tells it."""
    on_linux = peak_memory_mb(CPU)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert peak_memory_mb(CPU) == pytest.approx(on_linux / 1024, rel=0.01)
    monkeypatch.setattr(sys, "platform", "win32")
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=3_000_000))
    monkeypatch.setitem(sys.modules, "psutil", SimpleNamespace(Process=lambda: process))
    assert peak_memory_mb(CPU) == 3


def test_what_is_sent_to_the_processor_is_what_was_there():
    x = torch.arange(6.0)
    assert to_device(x, CPU) is x


def test_what_is_sent_to_a_gpu_is_pinned_first(monkeypatch):
    """A stand-in for the copies, as there need be no GPU."""
    done = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: done.append("pinned") or x)
    monkeypatch.setattr(torch.Tensor, "to", lambda x, device, non_blocking: done.append((device, non_blocking)) or x)
    to_device(torch.ones(2), GPU)
    assert done == ["pinned", (GPU, True)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gets_the_numbers_without_a_wait():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        there = to_device(x, GPU)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(there.cpu(), x)
    assert to_device(there, GPU) is there
