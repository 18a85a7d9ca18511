import json

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.ops import COPY, Case, Map, Sampler, figures_of
from benchmarks.ops_cases import OPS, Run, Shape, prepare, prepare_copy, prepare_r1

CPU = torch.device("cpu")
SHAPE = Shape(2, 3, 6)


@pytest.fixture(autouse=True)
def _native(monkeypatch):
    monkeypatch.setenv("RTIL_OPS", "native")


@pytest.mark.parametrize("name", [name for name in OPS if name != "tail with z1"])
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_all_ways_compute_the_same(name, layout):
    """Else one's time would be no reference for the other's. Without demodulation, peer-style differs."""
    for backward in (False, True):
        found = {}
        for way in ("ours", "composition", "peer-style"):
            out = prepare(name, way, backward, SHAPE, torch.float32, layout, CPU).call()
            found[way] = out if backward else [out]
        pairs = [("ours", "composition")] + [("ours", "peer-style")] * (not name.startswith("tail"))
        for a, b in pairs:
            for ours, theirs in zip(found[a], found[b], strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_z1_is_drawn():
    x, y = (prepare("tail with z1", way, False, SHAPE, torch.float32, "nhwc", CPU).call() for way in ("ours",) * 2)
    without = prepare("tail", "ours", False, SHAPE, torch.float32, "nhwc", CPU).call()
    torch.testing.assert_close(x, y)
    assert (x - without).std() > 0.5


def test_r1_gradients_agree():
    found = [prepare_r1(way, SHAPE, torch.float32, "nhwc", CPU).call() for way in ("ours", "composition")]
    for ours, torchs in zip(*found, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-6)
        assert ours.norm() > 0


@pytest.mark.parametrize(
    ("name", "backward", "values"),
    [
        ("upfirdn2d up1", False, 2 * 3 * (7 * 7 + 6 * 6)),
        ("upfirdn2d up2", True, 2 * 3 * (3 * 3 + 6 * 6)),
        ("upfirdn2d down2", False, 2 * 3 * (6 * 6 + 3 * 3)),
        ("bias_act", True, 2 * 3 * 3 * 6 * 6),
        ("tail with FIR", False, 2 * 3 * (7 * 7 + 6 * 6)),
        ("tail with FIR", True, 2 * 3 * (6 * 6 + 2 * 7 * 7)),
    ],
)
def test_bytes_are_those_of_maps_read_and_written(name, backward, values):
    run = prepare(name, "ours", backward, SHAPE, torch.bfloat16, "nhwc", CPU)
    noise = 4 * 2 * 6 * 6 if name.startswith("tail") else 0
    assert run.bytes_moved == 2 * values + noise


def test_layouts_and_types_are_those_asked_for():
    y = prepare("tail", "ours", False, SHAPE, torch.bfloat16, "nhwc", CPU).call()
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert prepare_copy(SHAPE, torch.float32, "nchw", CPU).bytes_moved == 2 * 4 * 2 * 3 * 6 * 6


def test_short_calls_are_repeated_until_they_fill_a_sample(monkeypatch):
    now = [0.0]
    calls = []

    def call():
        calls.append(None)
        now[0] += 0.003

    monkeypatch.setattr("benchmarks.timing.time.perf_counter", lambda: now[0])
    sampler = Sampler(Run(call, None), None, 0.01, CPU)
    assert (sampler.calls, len(calls)) == (4, 2)
    assert sampler() == pytest.approx(0.003)
    assert len(calls) == 6


def test_share_of_the_copy():
    case = Case("bias_act", "forward", Map(SHAPE, "float32", "nhwc"))
    found = figures_of(case, {"native": 100, COPY: 200}, {"native": [0.5, 1.0], COPY: [0.25, 0.5]})
    ours, copy = found
    assert ours["gb_per_s"]["high"] == pytest.approx(200e-9)
    assert ours["share_of_copy"] == {"median": 0.25, "low": 0.25, "high": 0.25}
    assert "share_of_copy" not in copy


def test_record(results, capsys):
    words = ["ops", "--sizes", "1x2x4", "--ops", "tail,R1", "--tiers", "native", "--dtypes", "bfloat16"]
    words += ["--repeats", "1", "--sample_ms", "0.01", "--device", "cpu", "--against", "peer-style", "--record"]
    assert main(words) == 0
    assert "tail with FIR backward" in capsys.readouterr().out
    figures = json.loads((results / "ops.jsonl").read_text())["figures"]
    ways = {(run["op"], run["direction"], run["way"]) for run in figures["runs"]}
    assert ("tail", "forward", "native") in ways
    assert ("R1 of 4 convolutions", "R1", "own") in ways
    assert len(ways) == (3 * 2 + 1) * 4
    tail = next(run for run in figures["runs"] if run["way"] == "native")
    assert {"times_faster_than_composition", "times_faster_than_peer-style", "share_of_copy"} <= set(tail)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sizes", "32x64"], "NxCxS"),
        (["--sizes", "1x2x5"], "even"),
        (["--ops", "upfirdm"], "did you mean"),
        (["--tiers", "fast"], "native"),
        (["--repeats", "0"], "above 0"),
    ],
)
def test_mistakes(words, message, capsys):
    assert main(["ops", "--device", "cpu", *words]) == 2
    assert message in capsys.readouterr().err
