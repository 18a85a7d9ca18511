"""The options that say how something was measured, for the commands that measure and that reconstruct."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from rtil.errors import UserError

if TYPE_CHECKING:
    from rtil.inverse.operators import Operator
    from rtil.inverse.recipe import OperatorRecipe


@dataclass
class OperatorOptions:
    """How something was measured.

    Args:
        task: cs, inpaint, box, hole, sr, denoise, colorize, inversion, blur, motion, gaussian, mri, fourier, phase,
            fourier_phase or hdr.
        rate: Observed fraction (cs, gaussian, mri, fourier, box, hole, and inpaint without a mask).
        factor: Factor of sr.
        sigma: Noise of denoise, on the 0-255 scale.
        mask: Mask file of inpaint: white is observed, black or transparent is missing.
        width: Standard deviation of blur, in pixels.
        length: Length of motion, in pixels.
        exposures: Number of coded masks of phase.
        operator_seed: Seed of the operator that measured (cs, gaussian, mri, fourier, hole, motion, phase; inpaint by
            rate).
    """

    task: str = "inversion"
    rate: float | None = None
    factor: int | None = None
    sigma: float | None = None
    mask: str | None = None
    width: float | None = None
    length: float | None = None
    exposures: int | None = None
    operator_seed: int = 0

    def make(self, side: int, noise_sigma: float = 0.0) -> "tuple[Operator, OperatorRecipe]":
        """Return the operator for pictures of a side in pixels, and its recipe.

        Raises:
            UserError: The options do not make one.
        """
        from rtil.inverse.recipe import make_with_recipe

        parameters = {name: getattr(self, name) for name in _parameters()}
        size = (3, side, side)
        return make_with_recipe(self.task, size, noise_sigma=noise_sigma, seed=self.operator_seed, **parameters)

    def adopt(self, recipe: "OperatorRecipe", given: Collection[str], path: Path) -> None:
        """Take over how a file was measured.

        Args:
            recipe: What the file says.
            given: Names of the options that the user gave.
            path: The file.

        Raises:
            UserError: One of them says something else.
        """
        from rtil.inverse.operators import mask_from_file

        told = {"task": recipe.task, "operator_seed": recipe.seed} | {
            n: recipe.parameters.get(n) for n in _parameters()
        }
        for name, value in told.items():
            got = getattr(self, name)
            agrees = got == value
            if name == "mask" and recipe.mask is not None and got is not None:
                agrees = bool((mask_from_file(got, *recipe.mask.shape) == recipe.mask).all())
            if name in given and not agrees:
                says = "no" if value is None else f"'{value}' as" if isinstance(value, str) else f"{value:g} as"
                raise UserError(
                    f"{path} says that it was measured with {says} {name}, but {name} is {got}: leave the options of "
                    "the task away, the file has them"
                )
            setattr(self, name, value)


def _parameters() -> list[str]:
    return [f.name for f in fields(OperatorOptions) if f.name not in ("task", "operator_seed")]
