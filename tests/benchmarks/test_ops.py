import json

import pytest
import torch

from benchmarks import ops
from benchmarks.__main__ import main
from benchmarks.ops import COPY, Case, Map, OpsOptions, Way, figures_of, maps_of
from benchmarks.ops_cases import OPS, Shape, normal, prepare, prepare_copy, prepare_r1
from benchmarks.sampling import MOST_CAPTURED, Sampler, Timed, Timing

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


def test_maps_are_drawn_on_their_device(monkeypatch):
    """A GPU's largest map takes a CPU seconds, and there are hundreds of them."""
    asked = []
    drawn = torch.randn
    monkeypatch.setattr(torch, "randn", lambda *size, **how: asked.append(how) or drawn(*size, **how))
    x = normal("x", (2, 3), CPU)
    assert asked[0]["device"] == asked[0]["generator"].device == CPU
    torch.testing.assert_close(normal("x", (2, 3), CPU), x, rtol=0, atol=0)
    assert not torch.equal(normal("g", (2, 3), CPU), x)


class Clock:
    """A clock that only calls move on."""

    def __init__(self, monkeypatch):
        self.now, self.calls = 0.0, 0
        monkeypatch.setattr("benchmarks.timing.time.perf_counter", lambda: self.now)
        for module in ("timing", "sampling"):
            monkeypatch.setattr(f"benchmarks.{module}.wait_for", lambda device: None)

    def call(self, seconds):
        def run():
            self.calls += 1
            self.now += seconds

        return run


def test_short_calls_are_repeated_until_they_fill_a_sample(monkeypatch):
    clock = Clock(monkeypatch)
    sampler = Sampler(clock.call(0.003), 0.01, CPU)
    assert (sampler.calls, clock.calls) == (4, 2)
    assert sampler() == pytest.approx(0.003)
    assert clock.calls == 6


GPU = torch.device("cuda")


class Graph:
    """What stands for a CUDA graph: a replay takes a tenth of the captured calls."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.captured = clock, seconds, 0
        self.ended = False

    def capture_begin(self):
        self.before = self.clock.calls

    def capture_end(self):
        self.captured, self.ended = self.clock.calls - self.before, True

    def replay(self):
        self.clock.now += self.captured * self.seconds / 10


@pytest.mark.parametrize(("seconds", "captured"), [(1e-5, MOST_CAPTURED), (0.004, 3), (0.5, 1)])
def test_on_a_gpu_replays_are_timed_and_calls_beside(monkeypatch, seconds, captured):
    clock = Clock(monkeypatch)
    graph = Graph(clock, seconds)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    found = Timing(0.01, GPU)(clock.call(seconds))
    assert graph.captured == captured
    assert found.eager_s == pytest.approx(seconds)
    assert found.sampler() == pytest.approx(seconds / 10)
    assert found.not_captured is None
    assert found.sampler.calls * captured * seconds / 10 >= 0.01


def test_on_a_gpu_what_cannot_be_captured_is_timed_from_python(monkeypatch):
    clock = Clock(monkeypatch)
    graph = Graph(clock, 0.001)
    call = clock.call(0.001)

    def waiting():
        call()
        if hasattr(graph, "before"):
            raise RuntimeError("operation not permitted when stream is capturing\nand so on")

    def ends():
        graph.ended = True
        raise RuntimeError("operation failed due to a previous error during capture")

    graph.capture_end = ends
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    timing = Timing(0.01, GPU)
    found = timing(waiting)
    assert found.not_captured == "operation not permitted when stream is capturing"
    assert graph.ended
    assert found.eager_s is None
    del graph.before
    assert found.sampler() == pytest.approx(0.001)
    again = timing(clock.call(0.001))  # could be captured, but is not tried
    assert again.not_captured == "not tried after: operation not permitted when stream is capturing"
    assert again.eager_s is None


def way(bytes_moved, **how):
    return Way(Timed(None, **how), bytes_moved)


def test_share_of_the_copy():
    case = Case("bias_act", "forward", Map(SHAPE, "float32", "nhwc"))
    ways = {"native": way(100, eager_s=0.25), COPY: way(200, not_captured="a copy waits")}
    found = figures_of(case, ways, {"native": [0.5, 1.0], COPY: [0.25, 0.5]})
    ours, copy = found
    assert ours["gb_per_s"]["high"] == pytest.approx(200e-9)
    assert ours["share_of_copy"] == {"median": 0.25, "low": 0.25, "high": 0.25}
    assert "share_of_copy" not in copy
    assert (ours["eager_ms"], copy["not_captured"]) == (250, "a copy waits")


def test_layouts_come_one_after_the_other():
    """So that all of the first are measured when time runs out."""
    options = OpsOptions(sizes=["1x2x4", "1x2x6"], dtypes=["float32"], layouts=["nhwc", "nchw"])
    found = [(on.layout, on.shape.S) for on in maps_of(options, CPU)]
    assert found == [("nhwc", 4), ("nhwc", 6), ("nchw", 4), ("nchw", 6)]


WORDS = ["ops", "--sizes", "1x2x4", "--tiers", "native", "--dtypes", "bfloat16", "--repeats", "1", "--device", "cpu"]
WORDS += ["--sample_ms", "0.01", "--record"]


def test_what_was_measured_in_time_is_recorded(results, capsys, monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr("benchmarks.ops.perf_counter", lambda: next(now))
    assert main([*WORDS, "--ops", "bias_act,R1", "--limit_s", "1.5"]) == 0
    assert "left out after 1.5 s: 2, from 'bias_act backward, 1x2x4" in capsys.readouterr().out
    figures = json.loads((results / "ops.jsonl").read_text())["figures"]
    assert {run["direction"] for run in figures["runs"]} == {"forward"}
    on = "1x2x4 bfloat16 nhwc"
    assert figures["left_out"] == [f"bias_act backward, {on}", f"R1 of 4 convolutions, {on}"]


def test_a_way_that_fails_is_named_and_the_others_are_measured(results, capsys, monkeypatch):
    def fails(*where):
        raise torch.OutOfMemoryError("no memory\nand so on")

    monkeypatch.setattr("benchmarks.ops.prepare_copy", fails)
    assert main([*WORDS, "--ops", "bias_act"]) == 0
    assert "bias_act forward, 1x2x4 bfloat16 nhwc: copy failed: no memory\n" in capsys.readouterr().out
    figures = json.loads((results / "ops.jsonl").read_text())["figures"]
    assert figures["failures"]["bias_act backward, 1x2x4 bfloat16 nhwc, copy"] == "no memory"
    assert {run["way"] for run in figures["runs"]} == {"native", "composition"}


def test_record(results, capsys):
    assert main([*WORDS, "--ops", "tail,R1", "--against", "peer-style"]) == 0
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
        (["--repeats", "0"], "repeats is 0: valid are numbers above 0"),
        (["--limit_s", "0"], "limit_s is 0"),
    ],
)
def test_mistakes(words, message, capsys):
    assert main(["ops", "--device", "cpu", *words]) == 2
    assert message in capsys.readouterr().err


def test_what_was_measured_is_kept_when_a_kernel_fails(monkeypatch):
    real = ops.in_turns

    def crashes(ways, repeats):
        if broken:
            raise RuntimeError("CUDA error: an illegal memory access\nmore")
        broken.append(True)
        return real(ways, repeats)

    broken = []
    monkeypatch.setattr(ops, "in_turns", crashes)
    figures = ops.measure(OpsOptions(sizes=["1x2x4"], dtypes=["float32"], ops=["bias_act"], repeats=1, device="cpu"))
    assert {run["direction"] for run in figures["runs"]} == {"forward"}
    assert figures["failures"] == {"bias_act backward, 1x2x4 float32 nhwc": "CUDA error: an illegal memory access"}
