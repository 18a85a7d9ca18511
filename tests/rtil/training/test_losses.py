import torch

from rtil.seeds import generator as seeded
from rtil.training.losses import gradient_penalty, path_lengths


def test_path_length_of_mixed_codes_is_that_of_all_of_them():
    """A linear picture x = sum_m B_m w_m of its codes: |J^T y|^2 is the mean over slots of sum_m |B_m^T y|^2."""
    rng = seeded(0, "test")
    codes, L, D = torch.tensor([1, 3]), 2, 5
    B = torch.randn(4, 3 * 4 * 4, L * D, generator=rng, dtype=torch.float64)
    ws = torch.randn(4, L, D, generator=rng, dtype=torch.float64).requires_grad_()
    y = torch.randn(2, 3, 4, 4, generator=rng, dtype=torch.float64)
    rows = torch.einsum("mxd,md->mx", B, ws.flatten(1))
    images = torch.stack([rows[:1].sum(0), rows[1:].sum(0)]).view(2, 3, 4, 4)
    pulled = [(B[m].T @ y[n].flatten()).square().sum() for m, n in enumerate([0, 1, 1, 1])]
    expected = torch.stack([pulled[0], sum(pulled[1:])]).div(L).sqrt()
    torch.testing.assert_close(path_lengths(images, ws, y, codes), expected)


def test_gradient_penalty_of_a_linear_critic():
    """D(x) = <a, x> has gradient a everywhere: the penalty is (|a| - 1)^2 and its gradient 2 (|a| - 1) a / |a|."""
    a = torch.randn(3, 4, 4, dtype=torch.float64, generator=seeded(0, "a")).requires_grad_()
    real, fake = torch.randn(2, 5, 3, 4, 4, dtype=torch.float64, generator=seeded(0, "x"))
    penalty = gradient_penalty(lambda x: (x * a).sum((1, 2, 3)), real, fake, torch.rand(5, dtype=torch.float64))
    norm = a.detach().norm()
    torch.testing.assert_close(penalty, ((norm - 1) ** 2).expand(5))
    (gradient,) = torch.autograd.grad(penalty.mean(), a)
    torch.testing.assert_close(gradient, 2 * (norm - 1) * a.detach() / norm)


def test_gradient_is_taken_between_real_and_fake():
    """D(x) = |x|^2 / 2 has gradient x: at position 0 the real's norm counts, at 1 the fake's, between their mix's."""
    real, fake = torch.full((3, 1, 2, 2), 1.0), torch.full((3, 1, 2, 2), 4.0)
    penalty = gradient_penalty(lambda x: x.square().sum((1, 2, 3)) / 2, real, fake, torch.tensor([0.0, 1.0, 0.5]))
    torch.testing.assert_close(penalty, (torch.tensor([2.0, 8.0, 5.0]) - 1) ** 2)
