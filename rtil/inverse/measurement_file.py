"""Measurements as one file, with the recipe of the operator that made them: who opens it need not be told the task.

A sealed file (:mod:`rtil.inverse.sealed`) with the tensors ``y`` and, of a mask file, ``mask``. Any operator that
:func:`rtil.inverse.recipe.make_with_recipe` makes can measure for it:

    operator, recipe = make_with_recipe("cs", (3, 32, 32), rate=0.1, seed=7)
    save_measurement("y.safetensors", operator(x), recipe)  # x [N, 3, 32, 32] in [0, 1]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rtil import __version__
from rtil.errors import UserError
from rtil.inverse.file_content import table_of
from rtil.inverse.recipe import OperatorRecipe, measurements_of
from rtil.inverse.result_file import RESULT
from rtil.inverse.sealed import Kind, content_of, kept, load_sealed, save_sealed

MEASUREMENT = Kind(
    "measurement", 1, "give a file that rtil measure wrote, or the result.safetensors of a reconstruction"
)


@dataclass(frozen=True, eq=False)
class MeasurementFile:
    """What the file of N measurements holds, on the CPU.

    Attributes:
        y: Measurements [N, ...], float32.
        recipe: How the operator that made them is made.
        names: Of what was measured, N of them; empty where that is not known.
    """

    y: Tensor
    recipe: OperatorRecipe
    names: list[str]


def save_measurement(path: Path | str, y: Tensor, recipe: OperatorRecipe, names: Sequence[str] = ()) -> None:
    """Write measurements with the recipe of their operator, atomically.

    Args:
        path: The .safetensors file.
        y: [N, ...], by the operator that the recipe makes.
        recipe: From :func:`rtil.inverse.recipe.make_with_recipe`.
        names: N names of what was measured, by which pictures of it are called.

    Raises:
        UserError: y cannot be measurements by that operator, names are not N, or the file has another ending.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UserError(f"measurements go to a .safetensors file: got {path}")
    if names and len(names) != len(y):
        raise UserError(f"{len(names)} names for {len(y)} measurements: give one for each, or none")
    y = y.detach().cpu().float()
    recipe.make().check_measurement(y)
    about = {"tool": f"rtil {__version__}", "names": list(names), "operator": recipe.to_json()}
    save_sealed(path, MEASUREMENT, about, {"y": kept(y)} | recipe.tensors())


def load_measurement(path: Path | str) -> MeasurementFile:
    """Open a file of measurements, or those that the file of a result holds.

    Raises:
        UserError: There is none, it is damaged, or no such file that this version can read.
    """
    path = Path(path)
    kind, about, tensors = load_sealed(path, MEASUREMENT, RESULT)
    with content_of(path):
        field = "names" if kind is MEASUREMENT else "labels"  # older results have none
        told = table_of(about, {field: list[str], "operator": dict[str, Any]}, "its table 'about'", optional=["labels"])
        recipe = OperatorRecipe.from_json(told["operator"], tensors)
        y = measurements_of(tensors, recipe)
        names = told.get(field, [])
        if names and len(names) != len(y):
            raise UserError(f"it has {len(names)} names for {len(y)} measurements")
        return MeasurementFile(y, recipe, names)
