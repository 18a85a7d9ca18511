"""What every solver returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from rtil.inverse.latents import SolverLatents

Status = Literal["ok", "diverged"]


@dataclass(frozen=True)
class Inversion:
    """Reconstructions of N measurements, each independent of the others.

    Attributes:
        x: [N, 3, R, R] in [0, 1], clamped, float32, after back-projection (where the settings want it) and the
            operator's ``consistent`` step, which all operators but colorization leave out.
        rounds: [rounds, N, 3, R, R] in [0, 1]: the selected picture at the end of each round; the last one is x.
        score: [N] error by which x was selected: the measurement error, or that of the held-out entries.
        latents: Of the solver's own class, tensors [S, N, ...]: their ``render`` makes x as it is before that step.
            S is 1, or the number of restarts where x is their mean (the step is then each restart's own).
        history: {term: [N, steps of all rounds]}: every term of the objective before each step, and their ``loss``;
            ``round`` and ``step`` number these columns, and ``moving`` says which images moved (where they may stop
            early). The ``range`` of ILO's projections has columns of its own.
        status: "ok", or "diverged" for an image that became non-finite and kept its best finite iterate.
        seconds: Wall time of the whole call.
        spread: [N, 3, R, R], where x is the mean of S > 1 restarts: their standard deviation in each pixel and channel,
            with divisor S - 1. It tells what the measurements leave open to this solver, not how wrong x is. Else None.
        batches: How many images were inverted at a time, batch after batch; rounding depends on it.
        stops: [rounds, N] of one attempt: the step of each round behind which the selected iterate was. Else None.
    """

    x: Tensor
    rounds: Tensor
    score: Tensor
    latents: SolverLatents
    history: dict[str, Tensor]
    status: list[Status]
    seconds: float
    spread: Tensor | None = None
    batches: Sequence[int] = ()
    stops: Tensor | None = None

    def to(self, device: torch.device | str) -> "Inversion":
        """Return it with its tensors on a device."""
        return replace(
            self,
            x=self.x.to(device),
            rounds=self.rounds.to(device),
            score=self.score.to(device),
            latents=self.latents.mapped(lambda t: t.to(device)),
            history={name: t.to(device) for name, t in self.history.items()},
            spread=None if self.spread is None else self.spread.to(device),
        )


def join_batches(parts: Sequence[Inversion], seconds: float) -> Inversion:
    """Put the images of several inversions one after the other."""
    return Inversion(
        x=torch.cat([p.x for p in parts]),
        rounds=torch.cat([p.rounds for p in parts], dim=1),
        score=torch.cat([p.score for p in parts]),
        latents=_joined([p.latents for p in parts], lambda tensors: torch.cat(tensors, dim=1)),
        history={name: torch.cat([p.history[name] for p in parts]) for name in parts[0].history},
        status=[s for p in parts for s in p.status],
        seconds=seconds,
        spread=None if parts[0].spread is None else torch.cat([p.spread for p in parts if p.spread is not None]),
        batches=[size for p in parts for size in p.batches or [len(p.x)]],
    )


def best_of(attempts: Sequence[Inversion]) -> Inversion:
    """Return, for each image, the attempt of the lowest score; one that diverged only if all did."""
    diverged = torch.tensor([[s == "diverged" for s in a.status] for a in attempts])
    scores = torch.stack([a.score for a in attempts])
    chosen = torch.where(diverged.to(scores.device), torch.inf, scores).argmin(0)
    images = torch.arange(len(chosen), device=chosen.device)
    return Inversion(
        x=torch.stack([a.x for a in attempts])[chosen, images],
        rounds=torch.stack([a.rounds for a in attempts], dim=1)[:, chosen, images],
        score=scores[chosen, images],
        latents=_joined([a.latents for a in attempts], lambda tensors: torch.cat(tensors)[chosen, images][None]),
        history={n: torch.stack([a.history[n] for a in attempts])[chosen, images] for n in attempts[0].history},
        status=[attempts[a].status[i] for i, a in enumerate(chosen.tolist())],
        seconds=sum(a.seconds for a in attempts),
    )


def mean_of(attempts: Sequence[Inversion]) -> Inversion:
    """Return the mean picture of the attempts, which comes near the posterior mean; all else is averaged likewise.

    An image is "diverged" if any attempt at it was. Several attempts have a spread.
    """
    pictures = torch.stack([a.x for a in attempts])
    diverged = {i for a in attempts for i, status in enumerate(a.status) if status == "diverged"}
    return Inversion(
        x=pictures.mean(0),
        rounds=torch.stack([a.rounds for a in attempts]).mean(0),
        score=torch.stack([a.score for a in attempts]).mean(0),
        latents=_joined([a.latents for a in attempts], torch.cat),
        history={n: torch.stack([a.history[n] for a in attempts]).mean(0) for n in attempts[0].history},
        status=["diverged" if i in diverged else "ok" for i in range(len(attempts[0].status))],
        seconds=sum(a.seconds for a in attempts),
        spread=pictures.std(0) if len(attempts) > 1 else None,
    )


def _joined(parts: Sequence[SolverLatents], join: Callable[[list[Tensor]], Tensor]) -> SolverLatents:
    return type(parts[0])({name: join([part[name] for part in parts]) for name in parts[0]})
