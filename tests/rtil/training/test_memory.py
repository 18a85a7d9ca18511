"""The memory of a training: counted without content, refused before work, told when it runs out."""

import math
import re
from typing import Any

import pytest
import torch

from rtil.cli.train import main
from rtil.errors import UserError
from rtil.training import memory
from rtil.training.checkpoint import checkpoints
from rtil.training.config import config_of
from rtil.training.memory import META, LiveBytes, Planner, check_memory
from rtil.training.run import MODULES
from rtil.training.stylegan2 import StyleGAN2Training
from rtil.training.without_trainer import WithoutTrainer

CPU = torch.device("cpu")
SMALL = {"data": "none", "resolution": 8, "channels": {4: 64, 8: 64}, "z_dim": 16, "precision": "float32"}
STYLEGAN2 = SMALL | {"w_dim": 16, "mapping_layers": 1, "path_weight": 2.0, "batch": 8}
PGGAN = SMALL | {"arch": "pggan", "rtil": True, "codes": [1, 4], "chunk": 1000, "kimg": 1.0}


def test_what_lives_is_counted_until_it_is_gone() -> None:
    given = torch.empty(100, device=META)
    with LiveBytes() as counter:
        counter.know([given])
        a = torch.empty(1000, dtype=torch.float64, device=META)
        view = a[:10].view(2, 5)
        b = given + 1
        assert counter.live == 8000 + 400
        del a
        assert counter.live == 8000 + 400, "a view holds it"
        del view, b
        given.add_(1)
    assert (counter.live, counter.peak) == (0, 8400)


def test_the_backward_pass_needs_what_torch_saves_for_it() -> None:
    x = torch.empty(64, 1000, device=META, requires_grad=True)
    with LiveBytes() as counter:
        y = x.exp().exp().exp()  # each keeps its result
        assert counter.live == 3 * 256_000
        y.sum().backward()
        del y
    assert counter.live == 256_000, "the gradient"


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("settings", [STYLEGAN2, PGGAN], ids=["stylegan2", "pggan"])
def test_a_step_without_content_needs_what_one_with_content_does(
    settings: dict[str, Any], checkpointing: bool, fast: str
) -> None:
    """Within 5 %: maps of noise are drawn in one piece or in many."""
    config = config_of(settings | {"activation_checkpointing": checkpointing})

    class Step(WithoutTrainer, MODULES[config.arch]):  # type: ignore[misc]
        def take_step(self, network: torch.nn.Module, phase: str) -> None:
            for parameter in network.parameters():
                parameter.grad = None

    planner = Planner(config, CPU)
    module = Step(config)
    module.start(CPU, torch.float32)
    _, module.branches = planner.branches()[-1]
    for seen, batch in planner.steps().items():
        module.seen = seen
        with LiveBytes(CPU) as counter:
            counter.know([*module.parameters(), *module.buffers()])
            module.training_step(torch.zeros(batch, 3, 8, 8, dtype=torch.uint8), 0)
        assert planner.step_bytes(seen, batch) == pytest.approx(counter.peak, rel=0.05)


def test_networks_and_adam_are_counted() -> None:
    config = config_of(STYLEGAN2)
    need, module = Planner(config, CPU).estimate(), MODULES["stylegan2"](config)
    G, D = (sum(p.numel() for p in network.parameters()) for network in (module.G, module.D))
    assert need.networks == pytest.approx(4 * (2 * G + D), rel=0.001)  # and buffers
    assert need.adam == pytest.approx(4 * 2 * (G + D), rel=0.001)
    assert need.total == need.networks + need.adam + need.step


def test_large_batches_are_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    planner = Planner(config_of(STYLEGAN2), CPU)
    extrapolated = planner.step_bytes(0, 64)
    monkeypatch.setattr(memory, "MOST_COUNTED", 64)
    assert extrapolated == pytest.approx(planner.step_bytes(0, 64), rel=0.02)


def test_the_branch_that_needs_most_is_counted() -> None:
    """A step of a PGGAN has the plain branch or one with codes; what is counted is the latter."""
    few, many = (Planner(config_of(PGGAN | {"codes": codes}), CPU).estimate().step for codes in ([1, 2], [1, 24]))
    assert many > 1.2 * few
    assert Planner(config_of(PGGAN | {"codes": [1, 24, 2]}), CPU).estimate().step == many


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> int:
    limit = 40_000_000
    monkeypatch.setattr(memory, "free_on", lambda device: limit)
    return limit


@pytest.mark.parametrize(
    "settings", [STYLEGAN2 | {"batch": 1000}, PGGAN | {"batches": {8: 1000}}], ids=["stylegan2", "pggan"]
)
def test_a_batch_that_cannot_fit_is_refused_with_the_largest_that_does(
    settings: dict[str, Any], small_machine: int
) -> None:
    config = config_of(settings)
    with pytest.raises(
        UserError, match=r"at least .* and 0\.0 GB are free for it on this machine: the largest that fits is --batch"
    ) as caught:
        check_memory(config, CPU)
    assert str(caught.value).endswith("or try --activation_checkpointing")
    told = str(caught.value).partition(", or as large with")[0]
    n = int(re.findall(r"\d+", told)[-1])
    assert n % 4 == 0
    for batch, fits in ((n, True), (n + 4, False)):
        changed = {"batch": batch} if "batch" in settings else {"batches": {8: batch}}
        assert (Planner(config_of(settings | changed), CPU).estimate().total <= small_machine) is fits


def test_networks_that_cannot_fit_are_told() -> None:
    config = config_of(STYLEGAN2 | {"channels": {4: 64, 8: 10**6}})
    with pytest.raises(UserError, match="not even one picture of 8 px fits, or try --activation_checkpointing"):
        check_memory(config, CPU)


def test_what_fits_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "Planner", None)
    check_memory(config_of(STYLEGAN2), CPU)


@pytest.mark.parametrize("settings", [STYLEGAN2, PGGAN, STYLEGAN2 | {"rtil": True, "estimator": "all"}])
def test_what_is_not_counted_is_far_above(settings: dict[str, Any]) -> None:
    config = config_of(settings)
    assert memory._crude_bound(config) > 2 * Planner(config, CPU).estimate().total


OPTIONS = ["--resolution", "8", "--channels", "{4:8,8:8}", "--mapping_layers", "1", "--z_dim", "8", "--w_dim", "8"]
OPTIONS += ["--device", "cpu", "--out", "run"]


@pytest.fixture
def here(tmp_path, monkeypatch, make_pictures):
    monkeypatch.chdir(tmp_path)
    make_pictures(tmp_path / "faces", 12, 8)
    return tmp_path


def test_a_command_with_a_huge_batch_ends_in_one_line(here, capsys) -> None:
    assert main([*OPTIONS, "--data", "faces", "--batch", str(4 * 10**8)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"error: this training needs at least .* GB of memory and .* are free", line)
    assert not (here / "run").exists()


def test_a_dry_run_says_the_memory(here, capsys) -> None:
    assert main([*OPTIONS, "--data", "faces", "--batch", "4", "--dry_run"]) == 0
    assert re.search(
        r"^# memory: at least 0\.\d GB \(networks .*\), and \d.* are free for it on this machine$",
        capsys.readouterr().out,
        re.M,
    )


@pytest.mark.parametrize("step", [0, 3])
def test_running_out_of_memory_keeps_the_checkpoint(step: int, here, monkeypatch, capsys) -> None:
    """By torch's own words, before the first checkpoint and behind it."""
    losses, full = [], [True]

    def loss(self, scores, of=StyleGAN2Training.generator_loss):
        if scores.is_meta:  # counting what would fit
            return of(self, scores)
        losses.append(scores.detach().mean())
        return of(self, scores) + (torch.empty(2**50).sum() if full and len(losses) > step else 0)

    monkeypatch.setattr(StyleGAN2Training, "generator_loss", loss)
    words = [*OPTIONS, "--data", "faces", "--batch", "8", "--kimg", "0.08", "--checkpoint_kimg", "0.008"]
    assert main(words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    kept = checkpoints(here / "run")
    assert len(kept) == min(step, 2)
    assert "this machine has no memory left for a step of this training: " in line
    assert line.endswith(f"checkpoint kept: {kept[-1].name}" if kept else "no checkpoint was written yet")
    assert ("--resume --activation_checkpointing, or a new run with --batch 4" in line) is bool(kept)
    full.clear()
    if kept:
        assert main(["--out", "run", "--resume", "--activation_checkpointing"]) == 0
        assert int(torch.load(checkpoints(here / "run")[-1], weights_only=True)["state_dict"]["images_seen"]) == 80
    assert not any(map(math.isnan, losses))


def test_a_batch_that_can_be_taken_in_turns_is_counted_by_turn(small_machine: int) -> None:
    turns = Planner(config_of(STYLEGAN2 | {"batch": 96, "accumulate": 4}), CPU)
    assert turns.steps() == {0: 24}
    assert turns.estimate() == Planner(config_of(STYLEGAN2 | {"batch": 24}), CPU).estimate()
    whole = Planner(config_of(STYLEGAN2 | {"batch": 96, "devices": 2}), CPU)
    rest = whole.estimate().networks + whole.estimate().adam
    assert whole.fitting(rest + whole.step_bytes(0, 5)) == "--batch 8, or as large with --accumulate 12"
    assert whole.fitting(rest + whole.step_bytes(0, 9)) == "--batch 16, or as large with --accumulate 6"
