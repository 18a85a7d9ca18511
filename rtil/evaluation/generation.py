"""What classifier-guided generation makes, cell by cell (Daras et al., ICML 2021, section 4.3 and figure 5).

A grid has a row for each class and a column for each radius of the l1 balls, which decide how far pictures leave the
generator's range. Every cell starts from the same pictures of its checkpoint, drawn by their number.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ilo.presets import RadiiPreset
from rtil.errors import UserError
from rtil.evaluation.methods import Series, SolverOptions
from rtil.evaluation.rows import settings_hash
from rtil.generators.base import weight_hash
from rtil.inverse.classifier import Classification
from rtil.inverse.solver import Selection, Solver
from rtil.snapshot import Snapshot
from rtil.weights.classifiers import Classifier

NO_BALL = "none"
STANDARD_RADII: RadiiPreset = "a61-1"
RADII = ("radius_noise", "radius_latent", "radius_feature")
WITHOUT_RADII: Mapping[str, Any] = {"radii": "none", **dict.fromkeys(RADII)}


@dataclass(frozen=True)
class Cell:
    """One cell of a grid.

    Attributes:
        method: "ilo" or "csgm".
        checkpoint: Name of the checkpoint.
        class_index: Number of the wanted class.
        class_name: Its name.
        radius: Factor of the radii, or "none".
        arguments: Everything that decides its pictures.
        settings: Hash of the arguments.
    """

    method: str
    checkpoint: str
    class_index: int
    class_name: str
    radius: str
    arguments: Mapping[str, Any]
    settings: str

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.class_name}, {self.method} {self.checkpoint}, {radius_text(self.radius)}"

    @property
    def slug(self) -> str:
        """For file names."""
        words = [self.method, self.checkpoint, f"{self.class_index}-{self.class_name}", self.radius, self.settings[:6]]
        return re.sub(r"[^A-Za-z0-9._+-]+", "-", "_".join(words))


@dataclass(frozen=True)
class Generation:
    """What is generated.

    Attributes:
        checkpoints: Snapshots by name.
        classifier: On their device.
        classes: Numbers of the wanted classes.
        methods: "ilo", "csgm".
        radii: Factors of the radii of the l1 balls, as text, or "none" for no ball; from :func:`check_radii`.
        pictures: Pictures in each cell.
        options: Settings of the methods. The radii are theirs, or RTIL's first set where they have none.
        selection: Which iterate is returned.
        seed: Root seed.

    Raises:
        UserError: A setting is not valid for a checkpoint.
    """

    checkpoints: Mapping[str, Snapshot]
    classifier: Classifier
    classes: Sequence[int]
    methods: Sequence[str]
    radii: Sequence[str]
    pictures: int
    options: SolverOptions
    selection: Selection
    seed: int = 0

    def __post_init__(self) -> None:
        for method in self.methods:
            for snapshot in self.checkpoints.values():
                for radius in (NO_BALL, *self.radii):  # what is wrong without radii is told as such
                    self.solver(method, snapshot, radius)

    def cells(self) -> list[Cell]:
        """Return the cells: by method, checkpoint, class, radius."""
        classifier = {"source": self.classifier.source, "weights": weight_hash(self.classifier)}
        found = []
        for method in self.methods:
            for name, snapshot in self.checkpoints.items():
                for index in self.classes:
                    for radius in self.radii:
                        options = self._options(method, snapshot, radius)
                        arguments: dict[str, Any] = {
                            "method": method,
                            "checkpoint": name,
                            "weights": snapshot.weight_hash,
                            "classifier": classifier | {"side": self.classifier.side},
                            "class": index,
                            "radius": radius,
                            "seed": self.seed,
                            **options.arguments(Series(method), snapshot, self.selection, False),
                        }
                        label = self.classifier.categories[index]
                        found.append(Cell(method, name, index, label, radius, arguments, settings_hash(arguments)))
        return found

    def solver(self, method: str, snapshot: Snapshot, radius: str) -> Solver:
        """Return the solver of a cell."""
        options = self._options(method, snapshot, radius)
        return options.solver(Series(method), snapshot, self.selection, self.seed)

    def starts(self, method: str, snapshot: Snapshot, pictures: Sequence[int], task: Classification) -> Tensor:
        """Return the pictures [N, 3, R, R] in [0, 1] at which every cell of a checkpoint starts: after no step."""
        still: dict[str, Any] = {"steps": [0], "steps_preset": None, "rounds": 1, "range_projection": 0, "restarts": 1}
        options = replace(self.options, **WITHOUT_RADII, **still, lr=self.options.lr[:1])
        solver = options.solver(Series(method), snapshot, self.selection, self.seed)
        y = task.target([self.classes[0]] * len(pictures))
        return solver.invert(y, task, picture_ids(pictures)).x

    def _options(self, method: str, snapshot: Snapshot, radius: str) -> SolverOptions:
        """Return the settings with the radii of one column."""
        if radius == NO_BALL:
            return replace(self.options, **WITHOUT_RADII)
        has_own = self.options.radii != "none" or any(getattr(self.options, name) is not None for name in RADII)
        base = self.options if has_own else replace(self.options, radii=STANDARD_RADII)
        arguments = base.arguments(Series(method), snapshot, self.selection, False)
        scaled = {name: [float(radius) * r for r in arguments[name]] for name in RADII if name in arguments}
        return replace(self.options, **{**WITHOUT_RADII, **scaled})


def check_radii(scales: Sequence[str]) -> list[str]:
    """Return factors of radii as plain text.

    Raises:
        UserError: None, one twice, or one that is neither a number of 0 or more nor "none".

    Example:
        >>> check_radii(["0.50", "2", "none"])
        ['0.5', '2', 'none']
    """
    found = []
    for scale in scales:
        try:
            found.append(NO_BALL if scale == NO_BALL else f"{float(scale):g}")
        except ValueError:
            found.append("nan")
    if not found or len(set(found)) != len(found) or any(s != NO_BALL and not 0 <= float(s) < 1e9 for s in found):
        raise UserError(
            f"radius_scales is {','.join(scales) or 'empty'}: valid are numbers of 0 or more and none, each once, such "
            "as 0.25,1,4,none"
        )
    return found


def radius_text(radius: str) -> str:
    """Return a column's label."""
    return "no ball" if radius == NO_BALL else f"radius {radius}"


def picture_ids(pictures: Sequence[int]) -> list[str]:
    """Return the names by which pictures are drawn."""
    return [f"generated-{index}" for index in pictures]
