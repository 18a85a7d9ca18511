import warnings
from collections import Counter
from contextlib import contextmanager

import pytest
import torch

from benchmarks import convolution_rate, counts
from benchmarks.convolution_rate import convolution_rates, in_units, rates_text, seconds_at
from benchmarks.counts import SecondSteps
from rtil.ops import conv2d


def test_operations_of_passes_by_type():
    x = torch.randn(2, 3, 8, 8, dtype=torch.bfloat16, requires_grad=True)
    w = torch.randn(5, 3, 3, 3, dtype=torch.bfloat16, requires_grad=True)
    once = 2 * (2 * 8 * 8) * 5 * (3 * 3 * 3)  # output pixels, channels, and a product for each entry of the kernel
    with counts.flops() as forward:
        y = conv2d(x, w, padding=1)
    assert forward == {"bfloat16": once}
    with counts.flops() as both:
        y.sum().backward()
        torch.ones(4, 6) @ torch.ones(6, 7) + 1
    assert both == {"bfloat16": 2 * once, "float32": 2 * 4 * 6 * 7}
    assert forward == {"bfloat16": once}


def synchronise():
    warnings.warn("called a synchronizing CUDA operation", stacklevel=2)


def test_waits_are_counted_by_place(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with counts.host_waits(torch.device("cuda")) as found:
        assert modes == ["warn"]
        for _ in range(3):
            synchronise()
        synchronise()
        warnings.warn("something else", stacklevel=1)
    assert list(found.values()) == [3, 1]
    (often, line), (once, next_line) = (place.split(":") for place in found)
    assert often == once == "test_counts.py"
    assert int(next_line) == int(line) + 1
    assert modes == ["warn", "default"]


def test_a_failure_leaves_no_debug_mode(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with pytest.raises(ZeroDivisionError), counts.host_waits(torch.device("cuda")):
        raise ZeroDivisionError
    assert modes == ["warn", "default"]


def test_without_a_gpu_nothing_waits_for_it():
    with counts.host_waits(torch.device("cpu")) as found:
        torch.ones(()).item()
    assert not found


def test_only_the_second_step_of_each_round_is_counted():
    done = Counter()

    @contextmanager
    def counting():
        found, before = Counter(), done["work"]
        yield found
        found["work"] = done["work"] - before

    steps = SecondSteps(counting)
    for k, count in enumerate((2, 3)):
        for step in range(count + 1):
            steps(k, step, torch.zeros(()))
            done["work"] += 10**step * (k + 1)
    assert steps.rounds == [{"work": 10}, {"work": 20}]


def test_rate_of_the_fastest_call(monkeypatch):
    seconds = iter([9.0, 4.0, 2.0, 3.0, 4.0, 5.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    calls = []
    monkeypatch.setattr(
        convolution_rate, "seconds_of", lambda function, device: calls.append(function().dtype) or next(seconds)
    )
    monkeypatch.setattr(convolution_rate, "MAPS", {"cpu": (2, 3, 8)})
    rates = convolution_rates(["float32", "bfloat16"], torch.device("cpu"))
    once = 2 * (2 * 8 * 8) * 3 * (3 * 3 * 3)
    assert rates == {"float32": once / 2.0, "bfloat16": once / 1.0}
    assert calls == [torch.float32] * 6 + [torch.bfloat16] * 6


def test_time_at_the_rates_of_the_types():
    rates = {"float32": 1e12, "bfloat16": 4e12}
    assert seconds_at(rates, {"float32": 2e12, "bfloat16": 2e12}) == 2.5
    assert seconds_at(rates, {"bfloat16": 2e12}) == 0.5
    assert rates_text(rates) == "TFLOP/s of a 3x3 convolution alone: 1 in float32, 4 in bfloat16"
    assert in_units({"float32": 1.23456e9}, 1e9) == {"float32": 1.235}
