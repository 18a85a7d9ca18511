"""What every inverter shares around its optimisation: settings, checks, batches, restarts, a frozen generator."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from rtil import cuda_graphs
from rtil.devices import compute_dtype
from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.inverse.adaptation import adapted_picture
from rtil.inverse.back_projection import check_back_projection, reported
from rtil.inverse.latent_space import latent_space_of
from rtil.inverse.latents import SolverLatents
from rtil.inverse.operators.base import Operator
from rtil.inverse.operators.foreign import as_operator, packed
from rtil.inverse.perceptual import check_size, is_picture, open_perceptual
from rtil.inverse.perceptual_term import PerceptualTerm, PictureDistance
from rtil.inverse.problem import Callback, Problem
from rtil.inverse.result import Inversion, best_of, join_batches, mean_of
from rtil.inverse.settings import PerceptualChoice, PerceptualMode, PerceptualSettings, SolverSettings
from rtil.inverse.starts import ADAPTED, Shapes, check_start, noise_start_shapes, row_shape, starts_of_attempts
from rtil.inverse.stopping import Stopping, check_selection


class Solver(ABC):
    """An inverter of one generator.

    Args:
        generator: The prior.
        settings: Of the class's ``Settings``; None for their defaults.
        seed: Root seed of every draw.
        batch_size: Images at a time; None for all. A callback needs all.
        distance: Computes the perceptual term in place of the network that the settings name.
        fields: Options in place of those of the settings.

    Attributes:
        settings: As resolved for the generator: what was left open is filled in.

    Raises:
        UserError: An option is not valid, or not for this generator.
    """

    Settings: ClassVar[type[SolverSettings]]
    Latents: ClassVar[type[SolverLatents]] = SolverLatents
    SELECTIONS: ClassVar[Sequence[str]] = ("measurement", "heldout", "last")
    """Those that it has beside auto; the others need ``stops``, ``enough`` and ``score`` of a problem to be heeded."""
    FITS_NOISE: ClassVar[bool] = False
    """Whether it is so free that it reproduces noise, where nothing stops it."""
    settings: SolverSettings

    def __init__(
        self,
        generator: LayeredGenerator,
        settings: SolverSettings | None = None,
        *,
        seed: int = 0,
        batch_size: int | None = None,
        distance: PictureDistance | None = None,
        **fields: Any,
    ) -> None:
        given = self.Settings() if settings is None else settings
        if not isinstance(given, self.Settings):
            raise UserError(
                f"settings are {type(given).__name__}: {type(self).__name__} takes {self.Settings.__name__}"
            )
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch_size is {batch_size}: valid is a whole number of 1 or more")
        cuda_graphs.wanted_on(generator.device)  # raises
        self.generator, self.seed, self.batch_size, self.own_distance = generator, seed, batch_size, distance
        given = given.changed(**fields)
        self.is_precision_given = given.precision != "auto"
        self.settings = self.resolved(given)
        if distance is not None and self.perceptual == "none":
            raise UserError("distance is given but there is no perceptual term: name the one that it stands for")

    def resolved(self, settings: Any) -> Any:
        """Return settings of this class in which all that depends on the generator is filled in.

        Raises:
            UserError: They are not valid for this generator.
        """
        valid = list(dict.fromkeys(["auto", *self.SELECTIONS]))
        if settings.selection not in valid:
            raise UserError(
                f"selection '{settings.selection}' is not for {type(self).__name__}: valid are {', '.join(valid)}"
            )
        if settings.selection == "sure" and settings.precision == "auto":
            settings = settings.changed(precision="float32")  # it is made of small differences
        low = compute_dtype(settings.precision, self.generator.device) == torch.bfloat16
        return settings.changed(precision="bfloat16" if low else "float32")

    @property
    def compute_dtype(self) -> torch.dtype:
        """Type of the layers while optimising."""
        return compute_dtype(self.settings.precision, self.generator.device)

    @property
    def perceptual(self) -> PerceptualChoice:
        """Name of the perceptual term, for measurements that are pictures."""
        return self.settings.perceptual if isinstance(self.settings, PerceptualSettings) else "none"

    @abstractmethod
    def attempt(self, problem: Problem) -> Inversion:
        """Invert one batch once, with the generator frozen."""

    def attempts(self, problem: Problem) -> list[Inversion]:
        """Return the attempts at one batch that one run makes: one, where a solver does not draw several samples."""
        return [self.attempt(problem)]

    def start_shapes(self) -> Shapes:
        """Return, for one image, the shapes of what an attempt can start from, ``v`` first."""
        return {"v": row_shape(self.generator), **noise_start_shapes(self.generator)}

    def trained_otherwise(self, info: Mapping[str, Any]) -> bool:
        """Return whether a checkpoint got other random input in training than this solver optimises.

        The plain generator is a branch of every training; what enters deeper was trained for only by RTIL's branches.
        Vanilla checkpoints have none to differ from.

        Args:
            info: What the snapshot says of its training; one without ``branches`` is older than mixtures, and additive.
        """
        return False

    def iterates(self) -> int | None:
        """Return how many iterates an attempt shows to a callback, at most; None where that is not known before."""
        return None

    def has_perceptual_term(self, operator: Operator) -> bool:
        """Return whether the settings want their perceptual term for measurements by this operator, if it can be."""
        return True

    def fits_noise(self, operator: Operator) -> bool:
        """Return whether it would reproduce the known noise of measurements by an operator that see every pixel."""
        return self.FITS_NOISE and operator.is_identity and operator.noise_model.sigma > 0

    def settings_for(self, operator: Operator) -> Any:
        """Return the settings that act on measurements by an operator.

        They have no perceptual term where there is none, and the selection that auto stands for.

        Raises:
            UserError: The measurements are too small for the term, or the operator is not linear but back-projection is
                wanted, or the selection is not for them.
        """
        self._check_steps(operator)
        settings, shape = self.settings, operator.measurement_shape
        if settings.selection == "auto" and self.fits_noise(operator):
            precision = settings.precision if self.is_precision_given else "float32"  # see resolved
            settings = settings.changed(selection="sure", precision=precision)
        elif settings.selection == "auto":
            settings = settings.changed(selection="measurement")
        if not isinstance(settings, PerceptualSettings) or settings.perceptual == "none":
            return settings
        if not is_picture(shape) or not self.has_perceptual_term(operator):
            return settings.changed(perceptual="none")
        if self.own_distance is None:
            check_size(settings.perceptual, shape)
        return settings

    def perceptual_term(self, problem: Problem, mode: PerceptualMode = "mask") -> PerceptualTerm | None:
        """Return the perceptual term that a problem gets, or None.

        Raises:
            UserError: The weights of its network are not on this machine.
        """
        if self.perceptual == "none" or self.settings_for(problem.operator).perceptual == "none":
            return None
        distance = self.own_distance or open_perceptual(self.perceptual, self.compute_dtype, self.generator.device)
        return PerceptualTerm(distance, problem, mode)

    def open_networks(self) -> None:
        """Open the network of the perceptual term, if there is one, so that what it lacks shows before any work.

        Raises:
            UserError: Its weights are not on this machine.
        """
        if self.perceptual != "none" and self.own_distance is None:
            open_perceptual(self.perceptual, self.compute_dtype, self.generator.device)

    def __call__(self, y: Any, operator: Any) -> Tensor:
        """Return the pictures [N, 3, R, R] in [0, 1] that :meth:`invert` finds."""
        return self.invert(y, operator).x

    @torch.inference_mode(False)
    @torch.enable_grad()
    def invert(
        self,
        y: Any,
        operator: Any,
        image_ids: Sequence[str] | None = None,
        callback: Callback | None = None,
        start_from: Mapping[str, Tensor] | None = None,
    ) -> Inversion:
        """Reconstruct pictures from measurements y = A x + noise.

        The pictures of every attempt go through back-projection, if that is wanted, and the operator's ``consistent``
        step before they are combined: colorization keeps the observed luma, and what is certain does not count as
        spread.

        Args:
            y: Of pictures in [0, 1], [N, ...]; of an operator of another library complex, or a list of tensors, too.
            operator: Anything with ``A``; this project's operators, or deepinv's. See
                :class:`rtil.inverse.operators.foreign.ForeignOperator`.
            image_ids: N names, by which each image's draws are made; by default its place in the batch.
            callback: Watches the iterates, see :data:`rtil.inverse.problem.Callback`.
            start_from: Where to start: ``latents`` of an earlier :class:`Inversion` of N similar pictures by the same
                generator, or some of them, [S, N, ...] each; ``ws`` alone may come from an encoder. What is not there
                is drawn as usual. In place of the ``restarts`` of the settings, S attempts are made, one from each;
                further ones from the same place would be the same again. With no steps the pictures are those of the
                start.

        Raises:
            UserError: y cannot be a measurement by this operator of the generator's pictures; image_ids are not N
                different names; a callback is given with a batch_size below N; start_from is not what this solver can
                start from (:meth:`start_shapes`).
        """
        space = latent_space_of(self.generator)  # its fit, once for a generator, is no part of any picture's time
        started = time.perf_counter()
        y = packed(y)
        ids = [str(i) for i in range(len(y))] if image_ids is None else list(image_ids)
        operator = self._checked(y, operator, ids)
        if self.settings.selection == "auto" and self.fits_noise(operator):
            own = self.settings_for(operator)
            stopped = self.settings.changed(selection=own.selection, precision=own.precision)
            solver = type(self)(
                self.generator, stopped, seed=self.seed, batch_size=self.batch_size, distance=self.own_distance
            )
            return solver.invert(y, operator, image_ids, callback, start_from)
        y = y.detach().float()
        y = y.clone() if y.is_inference() else y
        size = self.batch_size or len(y)
        if callback is not None and size < len(y):
            raise UserError(f"a callback sees whole batches: use batch_size None or {len(y)}, not {size}")
        stopping = Stopping(self.settings, operator, y, self.seed)
        starts: list[dict[str, Tensor]] = [{}] * self.settings.restarts
        if start_from is not None:
            self.check_start(start_from, len(y))
            starts = starts_of_attempts(start_from, space)
        parts = []
        with frozen(self.generator):
            for first in range(0, len(y), size):
                batch = slice(first, first + size)
                attempts, stops = list[Inversion](), None
                for restart, given in enumerate(starts):
                    # copies: a matrix product's last bits depend on where in memory its factors begin
                    of_batch = {name: t[batch].clone() for name, t in given.items()}
                    problem = Problem(
                        y[batch], operator, stopping.split, space, ids[batch], self.seed, restart, of_batch, callback
                    )
                    if stops is None:  # the first attempt's serve all
                        stops = stopping.stops(problem, self.attempt)
                    of_problem = stopping.attempts(problem, stops, self.attempts, self.generator)
                    attempts += [self._reported(self._adapted(found, problem), problem) for found in of_problem]
                parts.append(best_of(attempts) if self.settings.combination == "best" else mean_of(attempts))
        return join_batches(parts, time.perf_counter() - started)

    def check_start(self, start_from: Mapping[str, Tensor], images: int) -> None:
        """Raise UserError unless an inversion of so many images can start there; see :meth:`invert`."""
        check_start(start_from, self.start_shapes(), images)

    def check_pictures(self, operator: Operator) -> None:
        """Raise UserError where the settings want a perceptual term but measurements are no pictures."""
        wanted = self.perceptual != "none" and self.has_perceptual_term(operator)
        if wanted and not is_picture(operator.measurement_shape):
            raise UserError(
                f"a perceptual term compares pictures but measurements have shape {list(operator.measurement_shape)}: "
                "valid are [3, h, w] and [1, h, w]; for this operator leave perceptual out"
            )

    def _checked(self, y: Tensor, operator: Any, ids: list[str]) -> Operator:
        """Return the operator, one of another library wrapped, if y can be its measurements of the generator's."""
        G = self.generator
        if y.ndim < 2 or len(y) == 0 or not y.is_floating_point():
            raise UserError(
                f"measurements are {y.dtype} of shape {list(y.shape)}: valid are finite floating point [N, ...], N >= 1"
            )
        if y.device != G.device:
            raise UserError(f"measurements are on {y.device} but the generator is on {G.device}: move one of them")
        known = as_operator(operator, y[: self.batch_size], G.resolution)
        known.check_measurement(y)
        expected = (3, G.resolution, G.resolution)
        if known.img_size != expected:
            raise UserError(f"the operator measures pictures {known.img_size} but the generator's are {expected}")
        if len(ids) != len(y) or len(set(ids)) != len(ids):
            raise UserError(
                f"image_ids are {len(ids)} names, {len(set(ids))} different: give one name to each of {len(y)}"
            )
        self.check_pictures(known)
        self._check_steps(known)
        return known

    def _check_steps(self, operator: Operator) -> None:
        """Raise UserError where a step before or behind the solver is not for an operator."""
        check_selection(self.settings.selection, operator)
        if self.settings.back_projection:
            check_back_projection(operator)

    def _adapted(self, found: Inversion, problem: Problem) -> Inversion:
        """Return an attempt with weights adapted to each picture, as one round more, if that is wanted."""
        settings, G = self.settings, self.generator
        if not settings.adapt_steps:
            return found
        latents = found.latents.mapped(lambda t: t[0])
        added = adapted_picture(G, latents, problem, settings.adapt_steps, settings.adapt_lr, self.compute_dtype)
        of_attempt = type(latents)({**found.latents, ADAPTED: added[None]})
        x = of_attempt.render(G)
        rounds = torch.cat([found.rounds, x[None]])
        return replace(found, x=x, rounds=rounds, latents=of_attempt, score=problem.error(x, heldout=True))

    def _reported(self, found: Inversion, problem: Problem) -> Inversion:
        def step(x: Tensor) -> Tensor:
            return reported(x, problem.y, problem.operator, self.settings.back_projection)

        return replace(found, x=step(found.x), rounds=torch.stack([step(x) for x in found.rounds]))


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
