"""The least time of a training, from the operations of its steps."""

import re

import pytest
import torch

from benchmarks import counts
from rtil.cli.train import main
from rtil.training import duration
from rtil.training.config import config_of
from rtil.training.duration import time_line, work_of
from rtil.training.run import MODULES
from rtil.training.without_trainer import WithoutTrainer

CPU = torch.device("cpu")
SMALL = {"data": "none", "resolution": 8, "channels": {4: 16, 8: 16}, "z_dim": 8, "precision": "float32"}


@pytest.fixture(autouse=True)
def _small_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duration, "MAPS", {"cpu": (1, 4, 8)})


def test_the_work_of_a_training_is_that_of_its_steps() -> None:
    """16 steps of StyleGAN2, counted as they run: R1 in one of them, the path length in two."""
    config = config_of(SMALL | {"batch": 8, "kimg": 0.128, "path_weight": 2.0, "w_dim": 8, "mapping_layers": 1})

    class Steps(WithoutTrainer, MODULES["stylegan2"]):  # type: ignore[misc]
        pass

    module = Steps(config)
    module.start(CPU, torch.float32)
    with counts.flops() as found:
        for _ in range(16):
            module.training_step(torch.zeros(8, 3, 8, 8, dtype=torch.uint8), 0)
    assert work_of(config, CPU)[torch.float32] == pytest.approx(found["float32"], rel=0.001)


def test_stages_and_branches_are_counted_by_their_share() -> None:
    """A PGGAN with one code and with three: as many steps of each, whatever is drawn."""
    growing = SMALL | {"arch": "pggan", "batches": {4: 4, 8: 8}, "kimg": 1.0, "rtil": True, "chunk": 100}
    one, three = (
        work_of(config_of(growing | changes), CPU)[torch.float32]
        for changes in ({"rtil": False}, {"codes": [1, 3], "branch_weights": [0.0, 1.0]})
    )
    both = work_of(config_of(growing | {"codes": [1, 3]}), CPU)[torch.float32]
    assert three > 1.05 * one
    assert both == pytest.approx((one + three) / 2)


def test_the_time_is_work_by_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(SMALL | {"batch": 8, "kimg": 1.0, "w_dim": 8, "mapping_layers": 1})
    monkeypatch.setattr(duration, "rate", lambda dtype, device: work_of(config, CPU)[dtype] / 5400)
    assert time_line(config, CPU) == "time: at least 1.5 h, at the rate at which convolutions alone run here now"
    assert time_line(config, torch.device("mps")) is None


def test_a_dry_run_says_the_time(tmp_path, monkeypatch, make_pictures, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    make_pictures(tmp_path / "faces", 12, 8)
    options = "--data faces --resolution 8 --channels {4:8,8:8} --mapping_layers 1 --z_dim 8 --w_dim 8 --device cpu"
    assert main([*options.split(), "--dry_run"]) == 0
    assert re.search(r"^# time: at least \d.*, at the rate", capsys.readouterr().out, re.MULTILINE)
