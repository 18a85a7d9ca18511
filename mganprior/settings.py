"""The settings of mGANprior. Nothing here needs torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

from rtil.errors import UserError
from rtil.inverse.settings import (
    NoiseRule,
    OptimizerName,
    PerceptualSettings,
    RampSettings,
    SolverSettings,
    option,
)

AlphaInit = Literal["uniform", "dirichlet", "channels"]
Pair = Literal["common", "paper"]

PAPER_PAIR: Mapping[bool, Mapping[str, Any]] = {
    True: {"optimizer": "adam", "lr": 0.1, "alpha_init": "dirichlet", "perceptual_weight": 0.1},
    False: {"optimizer": "sgd", "lr": 1.0, "alpha_init": "channels", "perceptual_weight": 0.5},
}
"""mGANprior as tuned in RTIL (A.4 and its code) for its own checkpoints (True) and for vanilla ones (False).

The numbers are theirs, the scale of the loss is this project's (pictures in [-1, 1], every task normalised): SGD with
rate 1 takes other steps than there, and a difference between two checkpoints is also one between two optimisers."""


@dataclass(frozen=True, kw_only=True)
class MGANPriorSettings(RampSettings, PerceptualSettings, SolverSettings):
    """The settings of :class:`mganprior.MGANPrior`.

    Args:
        steps: Optimiser steps; null is the sum of ILO's, by default 320. 0 returns the start.
        lr: Peak learning rate of all variables. 0.1 with Adam is RTIL's; vanilla models had SGD with 1 there.
        codes: Codes of a picture. A comparison may name several numbers, as 1,10,20.
        compose_side: Side in pixels of the feature at which the codes become one. null is where the RTIL checkpoints of
            the same architecture that are compared were trained to mix them, for vanilla ones too; without any,
            resolution / 8, at least 4.
        alpha_init: Where the weights start: uniform (1 / codes), dirichlet (one draw for all channels) or channels
            (1 / channels).
        optimizer: adam, or sgd without momentum.
        sphere: Keep the norms that style rows start with; the paper leaves them free. Noise maps that move always keep
            theirs.
        noise: Noise maps that move, shared by the codes of a picture: 5+2k, first5 and next5 are all the first five, as
            in CSGM; none; all.
        chunk: Heads whose activations are kept for the backward pass at one time: bounds memory, changes no value.
        pair: common is one mGANprior for all checkpoints; paper is RTIL's two, which set optimizer, lr, alpha_init and
            perceptual_weight: adam, 0.1, dirichlet, 0.1 for RTIL checkpoints, sgd, 1, channels, 0.5 for vanilla ones.
    """

    SEVERAL: ClassVar[str] = "codes"

    steps: int | None = option(None, least=0)
    lr: float = option(0.1, above=0)
    codes: int = option(20, least=1)
    compose_side: int | None = option(None, least=1)
    alpha_init: AlphaInit = "uniform"
    optimizer: OptimizerName = "adam"
    sphere: bool = option(False, off=True)
    noise: NoiseRule = "5+2k"
    perceptual_weight: float = option(0.1, of="perceptual", above=0)
    chunk: int = option(1024, hidden=True, recorded=False, least=1)
    pair: Pair = option("common", off=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        standard = {f.name: f.default for f in fields(self)}
        clash = [name for name in PAPER_PAIR[True] if getattr(self, name) != standard[name]]
        if self.pair == "paper" and clash:
            raise UserError(f"pair 'paper' sets {clash[0]} itself: leave {clash[0]} away, or use pair common")

    def of_checkpoint(self, info: Mapping[str, Any], compared: Sequence[Mapping[str, Any]]) -> Self:
        """Return the settings of the pair's for a checkpoint, composing where RTIL ones were trained to.

        Raises:
            UserError: The compared ones were trained to mix at different sides.
        """
        found = self
        if self.pair == "paper":
            found = replace(self, pair="common", **PAPER_PAIR[bool(info.get("rtil"))])
        if self.compose_side is not None:
            return found
        trained = [other for other in compared if other.get("rtil") and other.get("arch") == info.get("arch")]
        sides = {int(other["mixture_side"]) for other in trained if other.get("branches") == "mixture"}
        if len(sides) > 1:
            raise UserError(f"checkpoints were trained to mix codes at sides {sorted(sides)}: give compose_side")
        return replace(found, compose_side=sides.pop()) if sides else found
