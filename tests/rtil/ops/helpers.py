"""Maps to try operations on, and their derivatives."""

from collections.abc import Callable

import torch
from torch import Tensor

from rtil.ops.selftest import using_tier

TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
LAYOUTS = ("NCHW", "NHWC", "cut")


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Return a float64 tensor of normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lay(x: Tensor, layout: str) -> Tensor:
    """Return x in a layout; ``cut`` is out of a larger map."""
    if layout == "cut":
        room = x.new_zeros(*x.shape[:2], x.shape[2] + 1, x.shape[3] + 3)
        room[:, :, 1:, 2:-1] = x
        return room[:, :, 1:, 2:-1]
    return x.contiguous(memory_format=torch.channels_last if layout == "NHWC" else torch.contiguous_format)


def derivatives(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """Return value, gradients, and those of <gradients, fixed directions> by inputs and incoming gradient."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    y = function(*leaves)
    g = draw(*y.shape, seed=1).to(y.dtype).requires_grad_()
    first = torch.autograd.grad(y, leaves, g, create_graph=True)
    along = torch.stack([(f * draw(*f.shape, seed=2).to(f.dtype)).double().sum() for f in first]).sum()
    second = torch.autograd.grad(along, [*leaves, g], allow_unused=True, materialize_grads=True)
    return [t.detach() for t in (y, *first, *second)]


def relative(ours: Tensor, exact: Tensor) -> float:
    """Return ||ours - exact|| / ||exact||, or ||ours|| where the exact value is 0."""
    ours, exact = ours.detach().double(), exact.detach().double()
    return float((ours - exact).norm()) / (float(exact.norm()) or 1.0)


CONVOLUTIONS_WITHIN = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 0.02 / 8, torch.bfloat16: 0.02}


def assert_close_to_ref(function: Callable[..., Tensor], *inputs: Tensor, within: float) -> None:
    """Hold a function's derivatives in the tier that is set against those of ``ref`` on the same numbers in float64."""
    with using_tier("ref"):
        exact = derivatives(function, *(x.double() for x in inputs))
    errors = [relative(a, b) for a, b in zip(derivatives(function, *inputs), exact, strict=True)]
    assert max(errors) < within, errors
