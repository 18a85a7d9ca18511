"""Kinetic Langevin dynamics: samples of a posterior, many images side by side.

The potential of a point q ~ N(0, I) a priori, whose measurement error is e(q), is

    U(q) = |q|^2 / 2 + e(q) / (2 s^2).

Positions and momenta follow the BAOAB splitting (Leimkuhler and Matthews 2013): half a kick, half a drift, friction and
fresh momentum, half a drift, half a kick; one gradient a step. For quadratic e its positions have exactly the right
mean and covariance at any stable step, so the step may be near the limit 2 / w, w^2 = 1 + L / s^2, L the largest
curvature of e, which is found by power iteration on differences of gradients, again in the course of it. The time to
forget the prior's own scale is about 1 in these units, so a sample costs about w steps. s falls geometrically to its
final value (annealing), so that chains are not caught where they start.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

POWER_STEPS = 4
PROBE = 1e-2
"""Length of the difference that measures curvature; a priori a point has length sqrt(D)."""
BETWEEN_LOOKS = 40
"""Steps after which the curvature is measured again."""

Errors = Callable[[Tensor], Tensor]
"""From points [N, D] to e, [N], differentiable, image by image."""
Draw = Callable[[], Tensor]
"""Returns the next N(0, I), [N, D]."""


@dataclass(frozen=True)
class Course:
    """How a chain runs.

    Attributes:
        steps: All of them.
        final: s at the end.
        hot: s at the start; not below ``final``.
        annealing: Fraction of the steps in which s falls.
        step: Step as a fraction of 1 / w; below 2.
        friction: Of the momenta, in units of the prior.
    """

    steps: int
    final: float
    hot: float
    annealing: float
    step: float
    friction: float = 1.0

    def s(self, number: int) -> float:
        """Return s at a step."""
        share = min(1.0, number / (self.annealing * self.steps)) if self.annealing else 1.0
        return self.hot * (self.final / self.hot) ** share


@dataclass(frozen=True)
class Chain:
    """What came of it.

    Attributes:
        kept: Points [N, D], one for each step that was to be kept; of an image that diverged, its last finite ones.
        errors: [N, steps], e before each step.
        alive: bool [N].
    """

    kept: list[Tensor]
    errors: Tensor
    alive: Tensor


@torch.no_grad()
def run_chain(
    start: Tensor,
    errors: Errors,
    draw: Draw,
    course: Course,
    keep: Sequence[int],
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Chain:
    """Run one chain for each image.

    Args:
        start: Points [N, D], at which they begin.
        errors: See :data:`Errors`; summed squares over the entries of a measurement.
        draw: Called once for the momenta, once for the curvature each time, and once a step.
        course: See there.
        keep: After which steps, of 1 to ``course.steps``, points are kept.
        on_step: Called with (step, points) before each step.
    """
    q, p = start, draw()
    gradient, e = _gradient(errors, q)
    curvature = _curvature(errors, q, gradient, draw())
    alive, kept, course_of_e = torch.ones_like(e, dtype=torch.bool), [], []
    for number in range(course.steps):
        if number and number % BETWEEN_LOOKS == 0:
            curvature = _curvature(errors, q, gradient, draw())
        if on_step is not None:
            on_step(number, q)
        course_of_e.append(e)
        precision = 0.5 / course.s(number) ** 2
        h = (course.step / (1 + precision * curvature).sqrt())[:, None]
        p = p - h / 2 * (q + precision * gradient)
        moved = q + h / 2 * p
        kept_momentum = torch.exp(-course.friction * h)
        p = kept_momentum * p + (1 - kept_momentum.square()).sqrt() * draw()
        moved = moved + h / 2 * p
        new_gradient, new_e = _gradient(errors, moved)
        p = p - h / 2 * (moved + precision * new_gradient)
        alive = alive & new_e.isfinite() & new_gradient.isfinite().all(1) & p.isfinite().all(1)
        q, gradient, e = (_where(alive, new, old) for new, old in ((moved, q), (new_gradient, gradient), (new_e, e)))
        p = _where(alive, p, torch.zeros_like(p))
        if number + 1 in keep:
            kept.append(q)
    return Chain(kept, torch.stack(course_of_e, 1) if course_of_e else e[:, None][:, :0], alive)


def _gradient(errors: Errors, q: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        at = q.detach().requires_grad_()
        e = errors(at)
        (gradient,) = torch.autograd.grad(e.sum(), at)
    return gradient, e.detach()


def _curvature(errors: Errors, q: Tensor, gradient: Tensor, direction: Tensor) -> Tensor:
    """Return the largest curvature of e around points, [N], by power iteration."""
    found = torch.zeros(len(q), device=q.device, dtype=q.dtype)
    for _ in range(POWER_STEPS):
        direction = direction / torch.linalg.vector_norm(direction, dim=1, keepdim=True).clamp(min=1e-30)
        shifted, _ = _gradient(errors, q + PROBE * direction)
        direction = ((shifted - gradient) / PROBE).nan_to_num(0, 0, 0)
        found = torch.linalg.vector_norm(direction, dim=1)
    return found


def _where(flags: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(flags.view(-1, *[1] * (new.ndim - 1)), new, old)
