"""What may change of an operator after it was built, by deepinv's names: its tensors and its noise."""

import copy
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from rtil.errors import UserError
from rtil.inverse.operators.noise import GaussianNoise, OtherNoise, as_noise


class Adjustable(nn.Module):
    """An operator's ``update``, ``set_noise_model`` and ``clone``.

    Attributes:
        name: What is measured, for reports.
        noise_model: Called as ``noise_model(y, image_ids)``.
    """

    name: str
    noise_model: GaussianNoise | OtherNoise

    def set_noise_model(self, noise_model: GaussianNoise | OtherNoise | Callable[[Tensor], Tensor], **_: Any) -> None:
        """Set what :meth:`forward` adds to A(x).

        Args:
            noise_model: Ours; or deepinv's, whose ``GaussianNoise`` of one sigma becomes ours, drawn by image id.
        """
        self.noise_model = as_noise(noise_model)

    def update(self, **parameters: Any) -> None:
        """Change tensors of the operator, and of its noise; see :meth:`update_parameters`."""
        self.update_parameters(**parameters)
        self.noise_model.update_parameters(**parameters)

    def update_parameters(self, **parameters: Any) -> None:
        """Replace tensors that ``state_dict`` holds, by name: ``mask=...``.

        Names that are not the operator's are left alone, as in deepinv: parameters of a data set go to all parts of a
        physics, and each takes its own.

        Raises:
            UserError: A tensor has another shape than the one that it replaces, apart from leading ones.
        """
        for name, new in parameters.items():
            if not isinstance(new, Tensor) or name not in self.state_dict(keep_vars=True):
                continue
            old = self.get_buffer(name)
            while new.ndim > old.ndim and len(new) == 1:
                new = new[0]
            if new.shape != old.shape:
                raise UserError(
                    f"{name} has shape {list(new.shape)} but '{self.name}' has one {list(old.shape)}, the "
                    "same for all pictures"
                )
            setattr(self, name, new.to(old))
            self.name = f"{self.name.removesuffix(' (changed)')} (changed)"

    def clone(self) -> Self:
        """Return a copy that shares nothing with this one."""
        rngs = [getattr(module, "rng", None) for module in self.modules()]
        return copy.deepcopy(self, {id(rng): rng.clone_state() for rng in rngs if isinstance(rng, torch.Generator)})
