"""The inverters by name, and their settings as a user gives them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ilo import CSGM, ILO
from ilo.ilo import Z1Start
from ilo.rounds import NoiseRule
from rtil.devices import Precision
from rtil.errors import UserError, unknown
from rtil.generators.base import LayeredGenerator
from rtil.inverse.latents import Start
from rtil.inverse.schedules import Ramp
from rtil.inverse.solver import Combination, Selection

METHODS: Mapping[str, type[ILO]] = {"ilo": ILO, "csgm": CSGM}
"""The methods, by the name that users type."""
STEPS = (100, 60, 60, 100)
"""ILO's own default."""


@dataclass
class SolverOptions:
    """Settings of the inverters; the defaults are those of :class:`ilo.ILO`.

    Args:
        steps: Adam steps of each round; one number stands for every round; null is 100,60,60,100, as far as the
            generator has blocks. CSGM runs their sum in its one round.
        rounds: Run only the first rounds, this many; with one number of steps, this many rounds (null is 4, or as many
            as the generator has blocks).
        lr: Peak learning rate, one number or one for each round; CSGM takes the first.
        noise: Noise maps that round k optimises, of those behind its cut: 5+2k (ILO's code), first5, next5, none, all.
        geodesic_weight: Weight of the geodesic term.
        z1_weight: Weight of the Gaussian penalty on z1.
        z1_start: zero continues from the round before, normal draws N(0, 1).
        sphere: Keep the norms of latents and noise maps during a round.
        start: Where the latents start: normal (drawn) or mean.
        rampup: Fraction of a round over which the learning rate rises.
        rampdown: Fraction of a round over which it falls.
        precision: Type of the layers while optimising: float32, bfloat16, or auto (bfloat16 where it is faster).
        restarts: Independent attempts.
        combination: best keeps each image's attempt of lowest error, mean averages the pictures.
    """

    steps: list[int] | None = None
    rounds: int | None = None
    lr: list[float] = field(default_factory=lambda: [0.1])
    noise: NoiseRule = "5+2k"
    geodesic_weight: float = 1e-4
    z1_weight: float = 0.0
    z1_start: Z1Start = "zero"
    sphere: bool = True
    start: Start = "normal"
    rampup: float = Ramp.rampup
    rampdown: float = Ramp.rampdown
    precision: Precision = "auto"
    restarts: int = 1
    combination: Combination = "best"

    def steps_per_round(self, num_blocks: int) -> tuple[int, ...]:
        """Return the steps of ILO's rounds for a generator with this many blocks.

        Raises:
            UserError: More rounds are wanted than steps are given.

        Example:
            >>> SolverOptions().steps_per_round(3), SolverOptions(steps=[50], rounds=2).steps_per_round(3)
            ((100, 60, 60), (50, 50))
        """
        if self.rounds is not None and self.rounds < 1:
            raise UserError(f"rounds is {self.rounds}: valid is a whole number of 1 or more")
        if self.steps is None:
            steps = STEPS[:num_blocks]
        elif len(self.steps) == 1:
            steps = tuple(self.steps) * (self.rounds or min(len(STEPS), num_blocks))
        else:
            steps = tuple(self.steps)
        if self.rounds is not None and self.rounds > len(steps):
            raise UserError(f"rounds is {self.rounds} but steps has {len(steps)}: give as many steps as rounds")
        return steps[: self.rounds]

    def arguments(self, method: str, num_blocks: int, selection: Selection) -> dict[str, Any]:
        """Return everything of a method that decides its result besides generator and seed, as JSON values.

        Raises:
            UserError: There is no such method.
        """
        if method not in METHODS:
            raise unknown("method", method, METHODS)
        steps, lr = self.steps_per_round(num_blocks), self.lr
        if METHODS[method] is CSGM:
            steps, lr = (sum(steps),), self.lr[:1]
        return {
            "steps": list(steps),
            "lr": lr * len(steps) if len(lr) == 1 else lr,
            "noise": self.noise,
            "geodesic_weight": self.geodesic_weight,
            "z1_weight": self.z1_weight,
            "z1_start": self.z1_start,
            "sphere": self.sphere,
            "start": self.start,
            "rampup": self.rampup,
            "rampdown": self.rampdown,
            "selection": selection,
            "precision": self.precision,
            "restarts": self.restarts,
            "combination": self.combination,
        }

    def solver(self, method: str, generator: LayeredGenerator, selection: Selection, seed: int) -> ILO:
        """Return the inverter.

        Raises:
            UserError: A setting is not valid for this generator.
        """
        arguments = self.arguments(method, generator.num_blocks, selection)
        schedule = Ramp(arguments.pop("rampup"), arguments.pop("rampdown"))
        return METHODS[method](generator, seed=seed, schedule=schedule, **arguments)
