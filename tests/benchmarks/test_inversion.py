import json
import warnings

import pytest
import torch

from benchmarks import counts, inversion
from benchmarks.__main__ import main
from benchmarks.inversion import Bench, InversionOptions, waits_of_steps
from ilo import ILO

SMALL = ["--resolution", "8", "--channels", "{4:6,8:4}", "--w_dim", "8", "--mapping_layers", "1", "--steps", "3,2"]
SMALL += ["--batches", "1,3", "--device", "cpu"]


def test_record_of_ours_and_the_reference(results, capsys):
    words = ["inversion", *SMALL, "--against", "peer-style", "--repeats", "2", "--precision", "float32", "--record"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "peer-style, batch 3" in printed
    (line,) = (results / "inversion.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert row["command"].startswith("python -m benchmarks inversion --resolution 8")
    assert row["machine"]["threads"] == 1
    figures = row["figures"]
    assert figures["channels"] == {"4": 6, "8": 4}
    assert figures["precision"] == {"ours": "float32", "peer-style": "float32"}
    ways = {(run["way"], run["batch"]): run for run in figures["runs"]}
    assert set(ways) == {(way, batch) for way in ("ours", "peer-style") for batch in (1, 3)}
    for run in ways.values():
        assert len(run["s_per_step_by_cut"]) == 2
        assert run["steps_per_s"]["low"] <= run["steps_per_s"]["median"] <= run["steps_per_s"]["high"]
        in_steps = sum(s["low"] * n for s, n in zip(run["s_per_step_by_cut"], [3, 2], strict=True))
        assert 0 < in_steps < 1.5 * run["seconds"]["high"]
        assert run["host_waits_by_cut"] == [{}, {}]
    for run in (ways["ours", 1], ways["ours", 3]):
        rates = figures["convolution_tflop_per_s"]
        for flops, seconds in zip(run["gflop_per_step_by_cut"], run["s_per_step_of_convolutions_by_cut"], strict=True):
            assert set(flops) == {"float32"}
            assert seconds == pytest.approx(1e-3 * flops["float32"] / rates["float32"], rel=1e-2)
    assert "gflop_per_step_by_cut" not in ways["peer-style", 1]
    assert set(figures["ratios"]) == {
        "ours: cost of 3 images, that of 1 = 1",
        "peer-style: cost of 3 images, that of 1 = 1",
        "ours against peer-style, batch 1: times faster",
        "ours against peer-style, batch 3: times faster",
    }


def test_nothing_is_recorded_unasked(results):
    assert main(["inversion", *SMALL, "--repeats", "1", "--task", "inpaint", "--rate", "0.5"]) == 0
    assert not results.exists()


def test_perceptual_term_in_both_ways(monkeypatch):
    """With a small network in LPIPS' place, whose weights may be absent."""
    calls = []

    class Small(inversion.torch.nn.Module):
        def __init__(self, *args):
            super().__init__()

        def distance(self, x, reference):
            calls.append("ours")
            return (x - reference).square().mean((1, 2, 3))

        def forward(self, x, reference):
            calls.append("peers")
            return (x - reference).square().mean((1, 2, 3), keepdim=True)

    monkeypatch.setattr("rtil.inverse.solver.open_perceptual", lambda *network: Small())
    monkeypatch.setattr("rtil.inverse.solver.check_size", lambda *picture: None)
    monkeypatch.setattr(inversion, "load_lpips", lambda net: Small())
    words = [*SMALL, "--task", "inpaint", "--perceptual", "lpips", "--against", "peer-style", "--repeats", "1"]
    assert main(["inversion", *words]) == 0
    assert calls.count("peers") == 2 * (4 + 5)  # batches, each with the steps of the warm-up and of the run
    assert calls.count("ours") == 2 * (6 + 7)  # and the last iterate of each round


def test_operations_of_a_step_are_what_one_step_more_takes(results):
    assert main(["inversion", *SMALL, "--repeats", "1", "--precision", "float32", "--record"]) == 0
    runs = json.loads((results / "inversion.jsonl").read_text())["figures"]["runs"]
    network = {"resolution": 8, "channels": {4: 6, 8: 4}, "w_dim": 8, "mapping_layers": 1}
    bench = Bench(InversionOptions(**network, steps=[1], device="cpu"))
    y = bench.operator(torch.rand(3, 3, 8, 8))

    def flops(*steps):
        with counts.flops() as found:
            ILO(bench.generator, steps=tuple(steps), precision="float32").invert(y, bench.operator)
        return found["float32"] / 1e9

    expected = [flops(4, 2) - flops(3, 2), flops(3, 3) - flops(3, 2)]
    assert expected[0] > expected[1] > 0
    (of_three,) = (run for run in runs if run["batch"] == 3)
    assert [of_step["float32"] for of_step in of_three["gflop_per_step_by_cut"]] == pytest.approx(expected, rel=1e-3)


def test_waits_are_those_of_the_second_steps(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def run(callback):
        for k in range(2):
            for step in range(3):
                callback(k, step)
                if step < 2:
                    for _ in range(1 + step + 10 * k):
                        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = waits_of_steps(run, torch.device("cuda"), 2)
    assert [places.total() for places in found] == [2, 12]
    assert all(place.startswith("test_inversion.py:") for places in found for place in places)
    assert modes == ["warn", "default"] * 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--perceptual", "lpips"], "--task inpaint"),
        (["--batches", "0"], "batches is 0"),
        (["--resolution", "8", "--w_dim", "8", "--steps", "1,1,1"], "allows 2"),
        (["--against", "peers"], "peer-style"),
        (["--task", "inpaint", "--perceptual", "vgg", "--against", "peer-style"], "lpips or none"),
    ],
)
def test_mistakes(words, message, capsys):
    assert main(["inversion", "--device", "cpu", *words]) == 2
    assert message in capsys.readouterr().err
