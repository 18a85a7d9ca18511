"""What every inverter shares around its optimisation: checks, batches, restarts, a frozen generator."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from rtil.devices import Precision, compute_dtype
from rtil.errors import UserError, unknown
from rtil.generators.base import LayeredGenerator
from rtil.inverse.latents import latent_space_of
from rtil.inverse.losses import split_heldout
from rtil.inverse.problem import Callback, Problem
from rtil.inverse.result import Inversion, best_of, join_batches, mean_of
from rtil.inverse.starts import Shapes, check_start, starts_of_attempts

Selection = Literal["measurement", "heldout", "last"]
Combination = Literal["best", "mean"]


class Solver(ABC):
    """An inverter of one generator.

    Args:
        generator: The prior.
        selection: Which iterate of each round is kept, and continued from: ``measurement`` (lowest measurement error),
            ``heldout`` (lowest error on a tenth of the measurements, to which it is not fitted) or ``last``.
        seed: Root seed of every draw.
        precision: Type of the layers while optimising, ``auto`` being bfloat16 where that is faster; losses, variables
            and the returned pictures are float32.
        restarts: Independent attempts.
        combination: What becomes of them: ``best`` keeps each image's lowest error, ``mean`` averages the pictures and
            gives their spread.
        batch_size: Images at a time; None for all. A callback needs all.

    Raises:
        UserError: An option is not valid.
    """

    def __init__(
        self,
        generator: LayeredGenerator,
        *,
        selection: Selection = "measurement",
        seed: int = 0,
        precision: Precision = "auto",
        restarts: int = 1,
        combination: Combination = "best",
        batch_size: int | None = None,
    ) -> None:
        check_choice("selection", selection, Selection)
        check_choice("precision", precision, Precision)
        check_choice("combination", combination, Combination)
        for name, value in (("restarts", restarts), ("batch_size", 1 if batch_size is None else batch_size)):
            if value < 1:
                raise UserError(f"{name} is {value}: valid is a whole number of 1 or more")
        self.generator = generator
        self.selection = selection
        self.seed = seed
        self.compute_dtype = compute_dtype(precision, generator.device)
        self.restarts = restarts
        self.combination = combination
        self.batch_size = batch_size

    @abstractmethod
    def attempt(self, problem: Problem) -> Inversion:
        """Invert one batch once, with the generator frozen."""

    @abstractmethod
    def start_shapes(self) -> Shapes:
        """Return, for one image, the shapes of what an attempt can start from, ``v`` first."""

    def __call__(self, y: Tensor, operator: Any) -> Tensor:
        """Return the pictures [N, 3, R, R] in [0, 1] that :meth:`invert` finds."""
        return self.invert(y, operator).x

    def invert(
        self,
        y: Tensor,
        operator: Any,
        image_ids: Sequence[str] | None = None,
        callback: Callback | None = None,
        start_from: Mapping[str, Tensor] | None = None,
    ) -> Inversion:
        """Reconstruct pictures from measurements y = A x + noise.

        The pictures of every attempt go through the operator's ``consistent`` step, if it has one, before they are
        combined: colorization keeps the observed luma, and what is certain does not count as spread.

        Args:
            y: [N, ...], of pictures in [0, 1].
            operator: Anything with ``A``; this project's operators, or deepinv's.
            image_ids: N names, by which each image's draws are made; by default its place in the batch.
            callback: Watches the iterates, see :data:`rtil.inverse.problem.Callback`.
            start_from: Where to start: ``latents`` of an earlier :class:`Inversion` of N similar pictures by the same
                generator, or some of them, [S, N, ...] each; ``ws`` alone may come from an encoder. What is not there
                is drawn as usual. In place of the solver's ``restarts``, S attempts are made, one from each; further
                ones from the same place would be the same again. With no steps the pictures are those of the start.

        Raises:
            UserError: y cannot be a measurement by this operator of the generator's pictures; image_ids are not N
                different names; a callback is given with a batch_size below N; start_from is not what this solver can
                start from (:meth:`start_shapes`).
        """
        started = time.perf_counter()
        ids = [str(i) for i in range(len(y))] if image_ids is None else list(image_ids)
        self._check(y, operator, ids)
        y = y.float()
        size = self.batch_size or len(y)
        if callback is not None and size < len(y):
            raise UserError(f"a callback sees whole batches: use batch_size None or {len(y)}, not {size}")
        split = split_heldout(operator, y, self.seed) if self.selection == "heldout" else None
        latents = latent_space_of(self.generator)
        starts: list[dict[str, Tensor]] = [{}] * self.restarts
        if start_from is not None:
            self.check_start(start_from, len(y))
            starts = starts_of_attempts(start_from, latents)
        parts = []
        with frozen(self.generator):
            for first in range(0, len(y), size):
                batch = slice(first, first + size)
                attempts = []
                for restart, given in enumerate(starts):
                    # copies: a matrix product's last bits depend on where in memory its factors begin
                    of_batch = {name: t[batch].clone() for name, t in given.items()}
                    problem = Problem(
                        y[batch], operator, split, latents, ids[batch], self.seed, restart, of_batch, callback
                    )
                    attempts.append(_consistent(self.attempt(problem), y[batch], operator))
                parts.append(best_of(attempts) if self.combination == "best" else mean_of(attempts))
        return join_batches(parts, time.perf_counter() - started)

    def check_start(self, start_from: Mapping[str, Tensor], images: int) -> None:
        """Raise UserError unless an inversion of so many images can start there; see :meth:`invert`."""
        check_start(start_from, self.start_shapes(), images)

    def _check(self, y: Tensor, operator: Any, ids: list[str]) -> None:
        G = self.generator
        if hasattr(operator, "check_measurement"):
            operator.check_measurement(y)
        if y.ndim < 2 or len(y) == 0 or not y.is_floating_point() or not bool(y.isfinite().all()):
            raise UserError(
                f"measurements are {y.dtype} of shape {list(y.shape)}: valid are finite floating point [N, ...], N >= 1"
            )
        if y.device != G.device:
            raise UserError(f"measurements are on {y.device} but the generator is on {G.device}: move one of them")
        expected = (3, G.resolution, G.resolution)
        if tuple(getattr(operator, "img_size", expected)) != expected:
            raise UserError(
                f"the operator measures pictures {tuple(operator.img_size)} but the generator's are {expected}"
            )
        if len(ids) != len(y) or len(set(ids)) != len(ids):
            raise UserError(
                f"image_ids are {len(ids)} names, {len(set(ids))} different: give one name to each of {len(y)}"
            )


def _consistent(found: Inversion, y: Tensor, operator: Any) -> Inversion:
    if not hasattr(operator, "consistent"):
        return found
    rounds = torch.stack([operator.consistent(x, y) for x in found.rounds])
    return replace(found, x=operator.consistent(found.x, y), rounds=rounds)


@contextmanager
def frozen(generator: LayeredGenerator) -> Iterator[None]:
    """Put the generator in eval mode without weight gradients, and back as it was afterwards."""
    was_training = generator.training
    trainable = [p for p in generator.parameters() if p.requires_grad]
    generator.eval().requires_grad_(False)
    try:
        yield
    finally:
        generator.train(was_training)
        for parameter in trainable:
            parameter.requires_grad_(True)


def check_choice(kind: str, value: str, choices: Any) -> None:
    """Raise UserError unless the value is one of a Literal's."""
    if value not in get_args(choices):
        raise unknown(kind, value, get_args(choices))
