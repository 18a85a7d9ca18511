"""One round of optimisation: many images side by side, none of which can touch another.

Adam and SGD are elementwise and losses are summed over images, so each image runs as if alone. All bookkeeping (best
iterate, what diverged, what has flattened) stays in tensors: no step waits for the device. An image whose loss or
gradient becomes non-finite gets zero gradients from then on and keeps its best iterate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rtil import cuda_graphs
from rtil.generators.constant import constant_weights
from rtil.inverse.constraints import Constraint
from rtil.inverse.plateau import Plateau, PlateauWatch
from rtil.inverse.schedules import Schedule
from rtil.inverse.settings import OptimizerName

# Adam divides by sqrt(v) + eps. Gradients of a mean over pixels fall with the resolution, to 1e-8 for noise maps at
# 256 px, where the usual eps would slow the steps down.
ADAM_EPSILON = 1e-12

ROUND, STEP = "round", "step"
"""Names in the history: of which round a column is, and which of its steps it precedes."""
RANGE = "range"
"""Name in the history of distances to the range: they have steps of their own, between the rounds."""
MOVING = "moving"
"""Name in the history, where images may stop early: 1 for a step in which the image moved, else 0."""
LOOK_EVERY = 10
"""Steps between two looks at whether any image still moves, each of which waits for the device."""


class Term(NamedTuple):
    """A part of the objective: its weight and its value per image, [N]. With weight 0 it is only logged."""

    weight: float
    value: Tensor


@dataclass(frozen=True)
class Watch:
    """Sees the iterates of a round, without waiting for the device.

    Attributes:
        number: Of the round.
        show: Called with (step, picture), pictures [N, 3, R, R] in generator units.
    """

    number: int
    show: Callable[[int, Tensor], None]

    def __call__(self, step: int, picture: Tensor) -> None:
        """Show one iterate."""
        self.show(step, picture)


class Evaluation(NamedTuple):
    """What an objective says of the current variables.

    Attributes:
        picture: What ``on_iterate`` sees: [N, 3, H, W] in generator units, not clamped.
        terms: By name; the losses of the images are their weighted sums.
        score: [N], by which iterates are selected.
    """

    picture: Tensor
    terms: dict[str, Term]
    score: Tensor


@dataclass(frozen=True)
class Optimised:
    """The outcome of a round.

    Attributes:
        variables: The selected iterate of each image.
        score: [N], of that iterate; infinite where no iterate was finite.
        alive: [N] bool, False where the image diverged in this round or before.
        history: {term: [N, steps]}, before each step; where the round ended early, the last values are repeated. Its
            ``round`` and ``step`` number the columns.
        chosen: [N], the step behind which the selected iterate was.
    """

    variables: dict[str, Tensor]
    score: Tensor
    alive: Tensor
    history: dict[str, Tensor]
    chosen: Tensor


@constant_weights()
def optimise(
    start: Mapping[str, Tensor],
    evaluate: Callable[[dict[str, Tensor]], Evaluation],
    *,
    steps: int,
    lr: float,
    schedule: Schedule,
    alive: Tensor,
    optimizer: OptimizerName = "adam",
    constraints: Mapping[str, Constraint] | None = None,
    plateau: Plateau | None = None,
    keep_last: bool = False,
    stops: Tensor | None = None,
    enough: float | None = None,
    on_iterate: Callable[[int, Tensor], None] | None = None,
    repeatable: bool = True,
) -> Optimised:
    """Run an optimiser from ``start`` and return the selected one of its steps + 1 iterates, the start among them.

    Args:
        start: Variables [N, ...]; left untouched.
        evaluate: The objective; image i of its outputs may depend on image i of the variables only.
        steps: Steps, at least 1.
        lr: Peak learning rate.
        schedule: Its course.
        alive: [N] bool; the others are not moved.
        optimizer: ``adam``, or ``sgd`` without momentum.
        constraints: By variable, where it is held after each step; the start is taken to be allowed.
        plateau: An image whose score flattened does not move any more; once none does, the round ends. None: all steps.
        keep_last: Select the last finite iterate instead of that of the lowest score.
        stops: [N], the step after which an image does not move any more and is selected; None: by its score.
        enough: A score at or below which an image does not move any more; None for none.
        on_iterate: Called with (step, picture) for every iterate, 0..steps unless the round ends early, without waiting
            for the device. A :class:`Watch` also says which round it is, else that is 0.
        repeatable: The objective depends on the variables alone, so that a CUDA graph may stand for it, where one is
            asked for (:mod:`rtil.cuda_graphs`).
    """
    variables = {name: t.detach().clone().requires_grad_() for name, t in start.items()}
    watch = None if plateau is None else PlateauWatch(plateau, len(alive), alive.device)
    stepper = _stepper(optimizer, list(variables.values()))
    best = {name: t.detach() for name, t in start.items()}
    best_score = torch.full(alive.shape, torch.inf, device=alive.device)
    chosen = torch.zeros(alive.shape, dtype=torch.long, device=alive.device)
    may_rest = watch is not None or stops is not None or enough is not None
    history: dict[str, list[Tensor]] = {}

    def objective() -> tuple[Evaluation, Tensor]:
        now = evaluate(variables)
        return now, torch.stack([term.weight * term.value for term in now.terms.values() if term.weight]).sum(0)

    def slope(loss: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss.sum(), list(variables.values()), allow_unused=True, materialize_grads=True)

    def at_once() -> tuple[Evaluation, Tensor, tuple[Tensor, ...]]:
        now, loss = objective()
        return now, loss, slope(loss)

    replay = cuda_graphs.replayed(at_once) if repeatable and cuda_graphs.wanted_on(alive.device) else None
    for step in range(steps + 1):
        is_last, gradients = step == steps, None
        if replay is not None and not is_last:
            now, loss, gradients = replay()
        else:
            with torch.set_grad_enabled(not is_last):
                now, loss = objective()
        alive = alive & loss.detach().isfinite()
        score = now.score.detach()
        better = alive if keep_last else alive & (score < best_score)
        if stops is not None:
            better = alive & (step <= stops)
        best = {name: torch.where(_per_image(better, t), t.detach(), best[name]) for name, t in variables.items()}
        best_score = torch.where(better, score, best_score)
        chosen = torch.where(better, step, chosen)
        if on_iterate is not None:
            on_iterate(step, now.picture.detach())
        if is_last:
            break
        moving = alive
        logged = {**{name: term.value for name, term in now.terms.items()}, "loss": loss}
        if watch is not None:
            moving = moving & ~watch.update(score)
        if stops is not None:
            moving = moving & (step < stops)
        if enough is not None:
            moving = moving & ~(score <= enough)
        if may_rest:
            logged[MOVING] = moving.float()
        for name, value in logged.items():
            history.setdefault(name, []).append(value.detach())
        if may_rest and step % LOOK_EVERY == 0 and not moving.any():
            break

        gradients = slope(loss) if gradients is None else gradients
        largest = [
            torch.linalg.vector_norm(gradient.reshape(len(gradient), -1), torch.inf, dim=1) for gradient in gradients
        ]
        alive = alive & torch.stack(largest).isfinite().all(0)
        diverged = ~alive
        for variable, gradient in zip(variables.values(), gradients, strict=True):
            variable.grad = gradient.masked_fill(_per_image(diverged, gradient), 0)
        before = {name: t.detach().clone() for name, t in variables.items()} if may_rest else {}
        stepper.param_groups[0]["lr"] = lr * schedule.at(step, steps)
        stepper.step()
        with torch.no_grad():
            for name, constraint in (constraints or {}).items():
                variables[name].copy_(constraint(variables[name]))
            for name, t in before.items():  # Adam's momentum moves what has no gradient
                variables[name].copy_(torch.where(_per_image(moving, t), variables[name], t))

    step_numbers = torch.arange(steps, dtype=torch.float32, device=alive.device).expand(len(alive), -1)
    number = on_iterate.number if isinstance(on_iterate, Watch) else 0
    places = {ROUND: torch.full_like(step_numbers, number), STEP: step_numbers}
    columns = {name: _columns(values, steps) for name, values in history.items()}
    return Optimised(best, best_score, alive, places | columns, chosen)


def _columns(values: list[Tensor], steps: int) -> Tensor:
    return torch.stack(values + values[-1:] * (steps - len(values)), 1)


def _stepper(name: OptimizerName, variables: list[Tensor]) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(variables, foreach=True)
    return torch.optim.Adam(variables, eps=ADAM_EPSILON, foreach=True)


def _per_image(flags: Tensor, like: Tensor) -> Tensor:
    return flags.view(-1, *[1] * (like.ndim - 1))
