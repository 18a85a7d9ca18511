"""Adapted weights against a copy of the generator that is trained on one picture alone."""

import copy

import pytest
import torch
from torch import Tensor

from ilo import CSGM, ILO
from ilo.settings import CSGMSettings
from mganprior import MGANPrior
from rtil.errors import UserError
from rtil.generators.stylegan2 import StyleGAN2Generator
from rtil.inverse.losses import split_heldout
from rtil.inverse.operators import make_operator
from rtil.inverse.solver import Solver

SIZE = (3, 16, 16)


def truth(count: int = 2) -> Tensor:
    return torch.rand(count, *SIZE, generator=torch.Generator().manual_seed(0))


def test_each_picture_has_what_a_copy_trained_on_it_alone_finds(generator: StyleGAN2Generator) -> None:
    operator, steps, lr = make_operator("inpaint", SIZE, rate=0.5), 25, 0.01
    y, before = operator(truth()), copy.deepcopy(generator.state_dict())
    settings = CSGMSettings(steps=5, precision="float32")
    plain = CSGM(generator, settings).invert(y, operator)
    found = CSGM(generator, settings, adapt_steps=steps, adapt_lr=lr).invert(y, operator)
    assert all(torch.equal(t, before[name]) for name, t in generator.state_dict().items())
    assert torch.equal(found.rounds[0], plain.x)
    fit, judge = split_heldout(operator, y, 0, selection="adapt_steps")
    for n in range(2):
        own = copy.deepcopy(generator).requires_grad_()
        adam, best, lowest = torch.optim.Adam(own.parameters(), lr, eps=1e-12), None, float("inf")
        for _ in range(steps + 1):
            picture = own(plain.latents.ws[0, n : n + 1], [t[0, n : n + 1] for t in plain.latents.noise])
            squares = ((picture + 1) / 2 - y[n : n + 1]).square()
            if (score := (squares * judge).sum().item()) < lowest:
                best, lowest = ((picture.detach() + 1) / 2).clamp(0, 1), score
            adam.zero_grad()
            (squares * fit).sum().backward()
            adam.step()
        assert best is not None
        torch.testing.assert_close(found.x[n : n + 1], best, rtol=0, atol=2e-3)
        assert (found.x[n] - plain.x[n]).abs().max() > 0.01


@pytest.mark.parametrize("kind", [ILO, MGANPrior])
def test_results_are_rendered_again_and_do_not_depend_on_the_batch(
    generator: StyleGAN2Generator, kind: type[Solver]
) -> None:
    operator = make_operator("inpaint", SIZE, rate=0.3)
    y = operator(truth(3))
    settings = {"steps": (2, 2) if kind is ILO else 3, "adapt_steps": 4, "restarts": 2, "combination": "mean"}
    solver = kind(generator, precision="float32", **settings)
    found = solver.invert(y, operator, ["a", "b", "c"])
    assert torch.equal(found.latents.render(generator), found.x)
    alone = kind(generator, solver.settings).invert(y[2:], operator, ["c"])
    torch.testing.assert_close(alone.x, found.x[2:], rtol=0, atol=1e-3)
    found.latents.check(generator, 3)
    again = kind(generator, solver.settings).invert(y, operator, start_from=found.latents)
    assert again.latents["adapted"].shape == (2, 3, *SIZE)


def test_back_projection_comes_last(generator: StyleGAN2Generator) -> None:
    operator = make_operator("inpaint", SIZE, rate=0.3)
    y = operator(truth())
    found = CSGM(generator, steps=2, adapt_steps=2, back_projection=True).invert(y, operator)
    assert float(operator.error(found.x, y).max()) < 1e-10


def test_where_nothing_can_be_held_out_it_is_refused(generator: StyleGAN2Generator) -> None:
    operator = make_operator("inpaint", SIZE, rate=0.3)
    operator.entries_have_errors = False  # type: ignore[misc]
    with pytest.raises(UserError, match="'adapt_steps' has no entries to hold out"):
        CSGM(generator, steps=1, adapt_steps=1).invert(operator(truth()), operator)
