import gc
import json
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from benchmarks import counts, training, training_step
from benchmarks.__main__ import main
from benchmarks.training import Way, middle, ratios_of
from benchmarks.training_step import Bench, PeerTraining, TimedTraining, Turn
from rtil.branches import Part
from rtil.training.config import StyleGAN2Config

TINY = {"resolution": 8, "channels": {4: 4, 8: 4}, "z_dim": 8, "w_dim": 8, "mapping_layers": 1, "batch": 4}
TINY |= {"path_weight": 2.0, "style_mixing": 0.9}
SMALL = ["--resolution", "8", "--channels", "{4:4,8:4}", "--w_dim", "8", "--mapping_layers", "1", "--batch", "4"]


@pytest.fixture(autouse=True)
def _native(monkeypatch):
    monkeypatch.setenv("RTIL_OPS", "native")


def config(**changes):
    return StyleGAN2Config(**TINY, device="cpu", precision="float32", **changes)


class Here:
    """A worker that is no process."""

    def __init__(self, make, environment, *args):
        self.environment, self.made = environment, make(*args)

    def call(self, method, *args):
        return getattr(self.made, method)(*args)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        return None


def test_record_of_ours_and_the_reference(results, capsys, monkeypatch):
    monkeypatch.setattr(training, "Worker", Here)
    words = ["training", *SMALL, "--tiers", "native", "--trainings", "vanilla,sampled", "--against", "peer-style"]
    words += ["--cycle", "weighted", "--repeats", "1", "--precision", "float32", "--device", "cpu"]
    assert main([*words, "--record"]) == 0
    printed = capsys.readouterr().out
    assert "sampled, native against all, peer-style: times faster" in printed
    figures = json.loads((results / "training.jsonl").read_text())["figures"]
    assert figures["cycle"] == {"ours": "weighted", "peer-style": "weighted"}
    assert figures["channels"] == {"4": 4, "8": 4}
    runs = {(run["training"], run["tier"]): run for run in figures["runs"]}
    assert set(runs) == {
        ("vanilla", "native"),
        ("sampled", "native"),
        ("vanilla", "peer-style"),
        ("all", "peer-style"),  # what the published codes run for RTIL
    }
    for (_, tier), run in runs.items():
        assert ("gflop_per_image" in run) == (tier == "native")
        if tier == "native":
            assert run["images_per_s_of_convolutions"] == pytest.approx(
                1e3 * figures["convolution_tflop_per_s"]["float32"] / run["gflop_per_image"]["float32"], rel=1e-2
            )
        assert run["images_per_s"]["median"] == pytest.approx(1000 / run["s_per_kimg"]["median"], rel=1e-2)
        ms_per_step = 4 * run["s_per_kimg"]["median"]
        assert sum(run["ms_per_step_by_phase"].values()) == pytest.approx(ms_per_step, rel=0.1)
        assert set(run["ms_per_step_by_phase"]) == {
            "data", "draws", "G main", "path length", "D main", "R1", "Adam", "EMA and rest"
        }  # fmt: skip
    assert set(figures["ratios"]) == {
        "sampled, native: cost of an image, vanilla = 1",
        "vanilla, native against vanilla, peer-style: times faster",
        "sampled, native against all, peer-style: times faster",
        "all, peer-style: cost of an image, vanilla = 1",
    }


@pytest.mark.slow
def test_profile_from_a_process_of_its_own(results, capsys):
    words = ["training", *SMALL, "--tiers", "native", "--trainings", "vanilla", "--cycle", "weighted", "--profile"]
    assert main([*words, "--repeats", "1", "--device", "cpu", "--record"]) == 0
    assert "vanilla, native: operations of the mean step" in capsys.readouterr().out
    (run,) = json.loads((results / "training.jsonl").read_text())["figures"]["runs"]
    assert any("convolution" in name for name in run["ms_per_step_by_operation"])
    assert len(run["ms_per_step_by_operation"]) <= 15


def test_a_cycle_has_every_regulariser_in_its_proportion(monkeypatch):
    bench = Bench(config(), peer=False, weighted=False)
    assert bench.cycle == 16
    assert bench.kinds() == {0: 1, 1: 14, 8: 1}
    taken = []
    for name in ("generator_phase", "path_length_phase", "discriminator_phase", "r1_phase"):
        monkeypatch.setattr(TimedTraining, name, lambda self, *args, name=name: taken.append(name) or [])
    bench.turn()
    assert taken.count("generator_phase") == taken.count("discriminator_phase") == 16
    assert taken.count("path_length_phase") == 2
    assert taken.count("r1_phase") == 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_operations_of_an_image_are_those_of_a_whole_cycle(precision):
    """Each of the three kinds of steps is run once for all of its kind."""
    bench = Bench(replace(config(), precision=precision), peer=False, weighted=False)
    found = bench.warm_up()
    with counts.flops() as of_cycle:
        bench.turn()
    assert set(found) == {"float32", precision}
    assert found == {dtype: pytest.approx(flops / 16 / 4) for dtype, flops in of_cycle.items()}


def test_weighted_steps_stand_for_the_cycle(monkeypatch):
    bench = Bench(config(), peer=False, weighted=True)
    seconds = {0: 5.0, 1: 1.0, 8: 3.0}
    clock = iter([0.0, 5.0, 10.0, 11.0, 20.0, 23.0])
    monkeypatch.setattr("benchmarks.timing.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr(bench, "step", lambda number: seconds.pop(number))
    assert bench.turn().seconds_per_image == pytest.approx((5 + 14 * 1 + 3) / 16 / 4)
    assert not seconds


def test_the_reference_trains_as_ours(monkeypatch):
    """Same weights, draws and losses: after a cycle both averages have gone the same way."""
    monkeypatch.delattr(PeerTraining, "inputs")
    moved = []
    for peer in (False, True):
        bench = Bench(config(rtil=True, estimator="all"), peer, weighted=False)
        before = torch.cat([p.flatten().clone() for p in bench.module.G.parameters()])
        for number in (0, 1):
            bench.step(number)
        assert isinstance(bench.module, PeerTraining) == peer
        moved.append(torch.cat([p.detach().flatten() for p in bench.module.G.parameters()]) - before)
    assert torch.nn.functional.cosine_similarity(*moved, dim=0) > 0.99
    assert moved[0].norm() > 0


@pytest.mark.parametrize(("peer", "passes"), [(False, (1, 2)), (True, (2, 3))])
def test_only_the_reference_makes_and_scores_its_pictures_anew(peer, passes):
    """A plain step of ours runs G once and D twice: on the pictures for both turns, and on the reals."""
    module = (bench := Bench(config(), peer, weighted=False)).module
    counts = {}
    for network in (module.G, module.D):
        counts[network] = 0

        def count(network, *_):
            counts[network] += 1

        network.register_forward_hook(count)
    bench.step(bench.plain())
    assert tuple(counts.values()) == passes


def test_the_reference_keeps_no_graph_of_the_generators_turn():
    module = Bench(config(), peer=True, weighted=False).module
    part = Part(torch.zeros(4, dtype=torch.int64), 1.0)
    images = module.generate(part.branch, torch.Generator())
    assert not module.generator_backward(images, part).scores.requires_grad


@pytest.mark.parametrize(("plain", "expected"), [(False, [torch.float32]), (True, [])])
def test_convolutions_are_computed_as_in_a_training(plain, expected, monkeypatch):
    """As long as the bench lives."""
    now = []

    @contextmanager
    def pretended(device, dtype):
        now.append(dtype)
        yield
        now.clear()

    monkeypatch.setattr(training_step, "training_convolutions", pretended)
    bench = training.make_bench(config(), Way("vanilla", "native"), weighted=True, plain_cudnn=plain, threads=1)
    gc.collect()
    assert now == expected
    del bench


def test_what_was_measured_in_time_is_recorded(results, capsys, monkeypatch):
    monkeypatch.setattr(training, "Worker", Here)
    words = ["training", *SMALL, "--tiers", "native", "--trainings", "vanilla", "--cycle", "weighted", "--profile"]
    assert main([*words, "--limit_s", "0.001", "--repeats", "3", "--device", "cpu", "--record"]) == 0
    figures = json.loads((results / "training.jsonl").read_text())["figures"]
    assert figures["repeats"] == 1
    assert figures["runs"][0]["images_per_s"]["median"] > 0
    assert "ms_per_step_by_operation" not in figures["runs"][0]
    assert "out of time after 0.001 s" in capsys.readouterr().out


def test_phases_are_those_of_the_turn_of_median_speed():
    turns = [Turn(seconds, {"R1": seconds}, 0) for seconds in (3.0, 1.0, 2.0)]
    assert middle(turns).phases == {"R1": 2.0}


def test_phases_are_without_the_phases_inside():
    clock = training_step.PhaseClock()
    clock.running = True
    times = iter([0.0, 1.0, 4.0, 6.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_step.time, "perf_counter", lambda: next(times))
        with clock("outer"), clock("inner"):
            pass
    assert clock.seconds == {"outer": 1.0 + 2.0, "inner": 3.0}


def test_ratios_are_taken_within_turns():
    def turns(*seconds):
        return [Turn(s, {}, 0) for s in seconds]

    found = ratios_of(
        {
            Way("vanilla", "native"): turns(2.0, 4.0),
            Way("vanilla", "ext"): turns(1.0, 2.0),
            Way("sampled", "ext"): turns(1.5, 3.0),
            Way("all", "peer-style"): turns(30.0, 60.0),
        }
    )
    assert {name: spread.median for name, spread in found.items()} == {
        "vanilla, ext against native: times faster": 2.0,
        "sampled, ext: cost of an image, vanilla = 1": 1.5,
        "sampled, ext against all, peer-style: times faster": 20.0,
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trainings", "vanila"], "vanilla"),
        (["--tiers", "native,native"], "each wanted one once"),
        (["--batch", "0"], "batch 0"),
        (["--resolution", "30"], "power of two"),
        (["--repeats", "0"], "repeats"),
    ],
)
def test_mistakes(words, message, capsys):
    assert main(["training", "--device", "cpu", *words]) == 2
    assert message in capsys.readouterr().err
