import torch

from rtil.seeds import generator as seeded
from rtil.training.losses import path_lengths


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
