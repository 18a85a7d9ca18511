"""How an operator was made, so that it can be made again from a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtil.errors import UserError, unknown
from rtil.inverse.file_content import check_finite, table_of, tensor_of
from rtil.inverse.operators import OPERATORS, PARAMETERS, GaussianNoise, Inpainting, Operator, make_operator
from rtil.inverse.operators.base import check_img_size
from rtil.schema import typed_table

KINDS: Mapping[str, Any] = {
    "task": str,
    "img_size": list[int],
    "parameters": dict[str, Any],
    "seed": int,
    "noise_sigma": float,
}
OF_OTHER_TYPE = {"factor": int, "exposures": int, "mask": str}
MOST_VALUES = 3 * 4096**2
"""Of one picture that a file says its operator is for."""


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
        """Return the recipe that :meth:`to_json` and :meth:`tensors` tell.

        Raises:
            UserError: They tell none, or one for pictures that are too large.
        """
        told = table_of(values, KINDS, "its operator")
        task, size = told["task"], told["img_size"]
        if task not in OPERATORS:
            raise unknown("task", task, OPERATORS)
        C, H, W = check_img_size(size)
        if C * H * W > MOST_VALUES:
            raise UserError(f"its operator is for pictures {size}: valid are at most {MOST_VALUES:,} values")
        parameters = typed_table(told["parameters"], dict.fromkeys(PARAMETERS, float) | OF_OTHER_TYPE, "its operator")
        mask = None if "mask" not in tensors else tensor_of(tensors, "mask", (H, W), torch.bool)
        if (mask is None) != ("mask" not in parameters):
            raise UserError("its operator and its tensors do not agree on whether there is a mask")
        if mask is not None and task != "inpaint":
            raise UserError(f"its operator has a mask but is of the task {task}")
        return cls(task, (C, H, W), parameters, told["seed"], told["noise_sigma"], mask)

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


def measurements_of(tensors: Mapping[str, Tensor], recipe: OperatorRecipe) -> Tensor:
    """Return the measurements y [N, ...] among the tensors of a file.

    Args:
        tensors: Of the file.
        recipe: How they were made. Its operator is not, so that a file cannot ask for one that its reader does not use.

    Raises:
        UserError: There are none, or they cannot be measurements by any operator for its pictures.
    """
    found = tensors.get("y")
    y = tensor_of(tensors, "y", (None,) * max(2, 2 if found is None else found.ndim), torch.float32)
    exposures = recipe.parameters.get("exposures", 1)
    if recipe.task == "phase" and y.shape[1] != exposures:
        raise UserError(f"y has {y.shape[1]} exposures but its operator {exposures}")
    check_finite("y", y)
    return y
