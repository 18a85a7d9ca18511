"""One batch of measurements to be inverted once, and what all solvers do with it at the start and at the end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rtil.generators.base import LayeredGenerator
from rtil.inverse.latent_space import LatentSpace, Start, start_noise
from rtil.inverse.latents import SolverLatents
from rtil.inverse.loop import Term, Watch
from rtil.inverse.losses import Split
from rtil.inverse.operators.base import Operator
from rtil.inverse.result import Inversion
from rtil.inverse.sure import Twins
from rtil.ranges import to_unit

Callback = Callable[[int, int, Tensor], None]
"""Called as callback(round, step, x) for every iterate, step 0 to the round's steps; x [N, 3, R, R] in [0, 1] must not
be changed. What it computes, for instance the distance to a true picture, cannot reach the solver."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What an attempt is given.

    Attributes:
        y: Checked measurements [N, ...], float32.
        operator: The operator.
        split: Entries to fit to and to judge by; None where all serve both.
        space: The generator's input space.
        image_ids: One name per image; what is drawn for an image depends on it, not on the place in the batch.
        seed: Root seed of every draw.
        restart: Number of the attempt; every draw depends on it.
        given: Where the attempt starts, [N, ...] each; what is not there is drawn.
        callback: See :data:`Callback`.
        stops: [rounds, N], the step of each round after which an image stops; None: as its score says.
        enough: The score at which an image stops; None for none.
        twins: What the score is computed from where it is Stein's estimate; None where it is an error.
    """

    y: Tensor
    operator: Operator
    split: Split | None
    space: LatentSpace
    image_ids: Sequence[str]
    seed: int
    restart: int = 0
    given: Mapping[str, Tensor] = field(default_factory=dict)
    callback: Callback | None = None
    stops: Tensor | None = None
    enough: float | None = None
    twins: Twins | None = None

    def stops_of(self, number: int) -> Tensor | None:
        """Return where the images stop in a round, [N], or None."""
        return None if self.stops is None else self.stops[number]

    def start_v(self, kind: Start = "normal") -> Tensor:
        """Return the proxies [N, L, D] that are given, else those of ``kind``."""
        given = self.given.get("v")
        return self.space.start(kind, self.image_ids, self.seed, self.restart) if given is None else given

    def start_noise(self, generator: LayeredGenerator) -> list[Tensor]:
        """Return all noise maps, [N, 1, H, W] each: those that are given, the others drawn."""
        names = [f"noise_{i}" for i in range(len(generator.noise_shapes()))]
        if all(name in self.given for name in names):
            return [self.given[name] for name in names]
        drawn = start_noise(generator, self.image_ids, self.seed, self.restart)
        return [self.given.get(name, t) for name, t in zip(names, drawn, strict=True)]

    def all_alive(self) -> Tensor:
        """Return [N] bool, True."""
        return torch.ones(len(self.y), dtype=torch.bool, device=self.y.device)

    def error(self, x: Tensor, heldout: bool = False) -> Tensor:
        """Return the measurement errors [N] of pictures in [0, 1], on the entries to fit to or to judge by."""
        weight = None if self.split is None else self.split.heldout if heldout else self.split.fit
        return self.operator.error(x, self.y, weight)

    def measurement_terms(
        self, x: Tensor, noise: Tensor | None = None, weight: float = 1.0
    ) -> tuple[dict[str, Term], Tensor]:
        """Return the measurement error as terms, and the score [N] by which iterates are selected.

        Args:
            x: Pictures [N, 3, R, R] in [0, 1], not clamped.
            noise: Added to them before they are fitted, not before they are judged.
            weight: Of the error.
        """
        fit = self.error(x if noise is None else x + noise)
        terms, score = {"measurement": Term(weight, fit)}, fit.detach()
        with torch.no_grad():
            if noise is not None:
                score = self.error(x)
                terms["noise_free"] = Term(0.0, score)
            if self.split is not None:
                score = self.error(x, heldout=True)
                terms["heldout"] = Term(0.0, score)
            if self.twins is not None:
                score = self.twins.estimate(x)
                terms["sure"] = Term(0.0, score)
        return terms, score

    def score(self, x: Tensor) -> Tensor:
        """Return [N], by which pictures in [0, 1] are selected."""
        return self.error(x, heldout=True) if self.twins is None else self.twins.estimate(x)

    def watch(self, number: int) -> Watch:
        """Return what shows the iterates of a round, in generator units, to the callback."""

        def on_iterate(step: int, picture: Tensor) -> None:
            if self.callback is not None:
                self.callback(number, step, to_unit(picture).clamp(0, 1))

        return Watch(number, on_iterate)

    @torch.no_grad()
    def inversion(
        self,
        pictures: Sequence[Tensor],
        latents: SolverLatents,
        history: Mapping[str, Tensor],
        alive: Tensor,
        score: Tensor | None = None,
        stops: Sequence[Tensor] = (),
    ) -> Inversion:
        """Return the result of an attempt.

        Args:
            pictures: At the end of each round, [N, 3, R, R] in [0, 1], not clamped.
            latents: From which the last one is rendered, [N, ...] each.
            history: [N, steps] each.
            alive: [N] bool, False where an image diverged.
            score: [N], of the last picture; None computes it.
            stops: Of each round, [N], the step behind which its selected iterate was; of solvers that stop early.
        """
        rounds = torch.stack(list(pictures)).clamp(0, 1)
        return Inversion(
            x=rounds[-1],
            rounds=rounds,
            score=self.score(pictures[-1]) if score is None else score,
            latents=latents.mapped(lambda t: t[None]),
            history=dict(history),
            status=["ok" if ok else "diverged" for ok in alive.tolist()],
            seconds=0.0,
            stops=torch.stack(list(stops)) if stops else None,
        )
