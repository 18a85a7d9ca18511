"""How an operator was made, so that it can be made again from a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rtil.inverse.operators import GaussianNoise, Inpainting, Operator, make_operator


@dataclass(frozen=True, eq=False)
class OperatorRecipe:
    """The arguments of :func:`rtil.inverse.operators.make_operator`, with the content of files in place of their paths.

    Attributes:
        task: Name of the task.
        img_size: (C, H, W).
        parameters: {name: value} of those that were given; of a mask the file's name.
        seed: Root seed of everything drawn.
        noise_sigma: Measurement noise in the units of y.
        mask: bool [H, W], the content of the mask file; None without one.
    """

    task: str
    img_size: tuple[int, int, int]
    parameters: dict[str, Any]
    seed: int = 0
    noise_sigma: float = 0.0
    mask: Tensor | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "OperatorRecipe":
        """Return the recipe that :meth:`to_json` and :meth:`tensors` tell; KeyError or TypeError if they do not."""
        C, H, W = values["img_size"]
        told = values["task"], (C, H, W), values["parameters"], values["seed"], values["noise_sigma"]
        return cls(*told, tensors.get("mask"))

    def to_json(self) -> dict[str, Any]:
        """Return everything but the mask, as JSON values."""
        return {
            "task": self.task,
            "img_size": self.img_size,
            "parameters": self.parameters,
            "seed": self.seed,
            "noise_sigma": self.noise_sigma,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return the mask, if there is one, as files take it."""
        return {} if self.mask is None else {"mask": self.mask.detach().cpu().contiguous()}

    def make(self) -> Operator:
        """Return the operator, with the same buffers and label, on the CPU.

        Raises:
            UserError: See :func:`rtil.inverse.operators.make_operator`.
        """
        if self.mask is not None:
            name = f"inpaint {Path(self.parameters['mask']).stem}"
            return Inpainting(self.img_size, self.mask, GaussianNoise(self.noise_sigma, self.seed), name)
        return make_operator(self.task, self.img_size, noise_sigma=self.noise_sigma, seed=self.seed, **self.parameters)


def make_with_recipe(
    task: str, img_size: Sequence[int], *, noise_sigma: float = 0.0, seed: int = 0, **parameters: Any
) -> tuple[Operator, OperatorRecipe]:
    """Return an operator and its recipe.

    Args:
        task: See :func:`rtil.inverse.operators.make_operator`, as for the others.
        img_size: (C, H, W) of one picture.
        noise_sigma: Measurement noise.
        seed: Root seed.
        parameters: The task's; None stands for what is not given.

    Raises:
        UserError: An unknown task, a parameter that is missing, out of range or not the task's.

    Example:
        >>> operator, recipe = make_with_recipe("sr", (3, 32, 32), factor=4)
        >>> recipe.make().label == operator.label
        True
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    operator = make_operator(task, img_size, noise_sigma=noise_sigma, seed=seed, **given)
    mask = None
    if "mask" in given and isinstance(operator, Inpainting):
        given["mask"] = Path(given["mask"]).name
        mask = operator.mask
    return operator, OperatorRecipe(task, operator.img_size, given, seed, noise_sigma, mask)
