"""Training steps without Lightning's loop, so that they can be stopped, entered and timed at any step."""

from typing import Any

import torch
from torch import Tensor

from rtil.training.module import GANTraining


class WithoutTrainer(GANTraining):
    """A training step that is its own trainer; goes before an architecture's step among the base classes."""

    _own_optimizers: list[Any]

    def start(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device, compute the main phases in a type, and make the optimisers."""
        self.to(device)
        self.dtype_main = dtype
        configured: Any = self.configure_optimizers()
        self._own_optimizers = [Standalone(opt) for opt in configured]

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        """Return the optimisers."""
        return self._own_optimizers

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Run the backward pass."""
        loss.backward(*args, **kwargs)


class Standalone:
    """An optimiser as Lightning wraps it, without Lightning."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.step, self.zero_grad = optimizer.step, optimizer.zero_grad
