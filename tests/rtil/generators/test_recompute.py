"""Activation checkpointing: the gradients of every phase of a training step are those without it, and less is kept."""

from typing import Any

import pytest
import torch

from rtil.training.config import config_of
from rtil.training.run import MODULES
from rtil.training.without_trainer import WithoutTrainer

SMALL = {"resolution": 16, "channels": {4: 8, 8: 8, 16: 8}, "z_dim": 8, "rtil": True, "data": "none"}
STYLEGAN2 = {"batch": 8, "w_dim": 8, "path_weight": 2.0, "style_mixing": 0.9}
PGGAN = {"arch": "pggan", "batches": {4: 4, 8: 4, 16: 4}, "kimg": 0.1}
CASES = {
    "stylegan2": STYLEGAN2,
    "stylegan2, all branches, bfloat16": STYLEGAN2 | {"estimator": "all", "precision": "bfloat16"},
    "stylegan2, codes mixed in chunks": STYLEGAN2 | {"branches": "mixture", "codes": [1, 3], "chunk": 4},
    "pggan": PGGAN | {"codes": [1, 3], "chunk": 4, "estimator": "all"},
    "pggan, additive": PGGAN | {"branches": "additive", "estimator": "all", "fade_reals": True},
}


def gradients_of_a_step(settings: dict[str, Any], seen: int, **changes: Any) -> tuple[list[torch.Tensor], int]:
    """Return the gradients before each of Adam's steps, and how often a block of the generator ran."""
    config = config_of(SMALL | settings | changes)
    found: list[torch.Tensor] = []
    runs = []

    class Step(WithoutTrainer, MODULES[config.arch]):  # type: ignore[misc]
        def take_step(self, network: torch.nn.Module, phase: str) -> None:
            found.extend(p.grad for p in network.parameters() if p.grad is not None)
            super().take_step(network, phase)

    module = Step(config)
    module.start(torch.device("cpu"), torch.bfloat16 if config.precision == "bfloat16" else torch.float32)
    run_block = module.G.run_block
    module.G.run_block = lambda *given: runs.append(given) or run_block(*given)
    module.seen = seen
    reals = torch.randint(0, 256, (config.batch_at(seen), 3, 16, 16), generator=torch.Generator().manual_seed(0))
    module.training_step(reals.to(torch.uint8), 0)
    return found, len(runs)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_of_every_phase_are_the_same(case: str, fast: str) -> None:
    """With R1 and path length, of a PGGAN in the middle of a fade with its gradient penalty."""
    settings = CASES[case]
    seen = 0
    if settings.get("arch") == "pggan":
        stage = config_of(SMALL | settings).schedule().stages[-1]
        seen = stage.first_image + stage.batch * (stage.fade_images // stage.batch // 2)
    plain, runs = gradients_of_a_step(settings, seen)
    again, more_runs = gradients_of_a_step(settings, seen, activation_checkpointing=True)
    assert more_runs > runs
    assert len(plain) == len(again) > 30
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-6 * float(a.abs().max()))
    assert sum(bool(a.any()) for a in plain) > len(plain) * 0.8


def test_what_is_kept_is_a_blocks_input() -> None:
    from rtil.generators import StyleGAN2Generator

    G = StyleGAN2Generator(32, dict.fromkeys((4, 8, 16, 32), 8), z_dim=8, w_dim=8)
    ws, noise = torch.zeros(2, G.num_ws, 8), G.draw_noise(2, torch.Generator().manual_seed(0))

    def bytes_kept() -> int:
        kept: dict[int, int] = {}

        def note(x: torch.Tensor) -> torch.Tensor:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            picture = G(ws, noise)
        assert picture.requires_grad
        return sum(kept.values())

    all_of_it = bytes_kept()
    G.activation_checkpointing = True
    assert bytes_kept() < all_of_it / 3


def test_nothing_runs_again_where_no_gradient_is_wanted() -> None:
    from rtil.generators import PGGANGenerator

    G = PGGANGenerator(8, {4: 4, 8: 4}, z_dim=4)
    plain = G(torch.ones(1, 1, 4), [])
    G.activation_checkpointing = True
    with torch.no_grad():
        assert torch.equal(G(torch.ones(1, 1, 4), []), plain)
