"""What every solver returns, and how a picture is rendered again from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from rtil.generators.base import LayeredGenerator
from rtil.generators.mixing import DEFAULT_CHUNK, picture_of_codes
from rtil.ranges import to_unit

Status = Literal["ok", "diverged"]
CONVERGED = "converged"
"""Name among the latents of methods that know when they met the measurements: bool [S, N]."""


@dataclass(frozen=True)
class Inversion:
    """Reconstructions of N measurements, each independent of the others.

    Attributes:
        x: [N, 3, R, R] in [0, 1], clamped, float32, after the operator's ``consistent`` step, which all operators but
            colorization leave out.
        rounds: [rounds, N, 3, R, R] in [0, 1]: the selected picture at the end of each round; the last one is x.
        score: [N] error by which x was selected: the measurement error, or that of the held-out entries.
        latents: Tensors [S, N, ...] from which :func:`render` makes x as it is before that step: ``v``, ``ws``,
            ``noise_0``.., and ``z1_k`` by cut (ILO), ``alpha`` and ``cut`` (mGANprior) or ``nu`` (sparse deviations);
            and ``converged`` (PULSE), see :func:`converged_of`.
            S is 1, or the number of restarts where x is their mean (the step is then each restart's own).
        history: {term: [N, steps of all rounds]}: every term of the objective before each step, and their ``loss``;
            ``round`` and ``step`` number these columns, and ``moving`` says which images moved (with a plateau rule).
            The ``range`` of ILO's projections has columns of its own.
        status: "ok", or "diverged" for an image that became non-finite and kept its best finite iterate.
        seconds: Wall time of the whole call.
        spread: [N, 3, R, R], where x is the mean of S > 1 restarts: their standard deviation in each pixel and channel,
            with divisor S - 1. It tells what the measurements leave open to this solver, not how wrong x is. Else None.
        batches: How many images were inverted at a time, batch after batch; rounding depends on it.
    """

    x: Tensor
    rounds: Tensor
    score: Tensor
    latents: dict[str, Tensor]
    history: dict[str, Tensor]
    status: list[Status]
    seconds: float
    spread: Tensor | None = None
    batches: Sequence[int] = ()

    def to(self, device: torch.device | str) -> "Inversion":
        """Return it with its tensors on a device."""
        return replace(
            self,
            x=self.x.to(device),
            rounds=self.rounds.to(device),
            score=self.score.to(device),
            latents={name: t.to(device) for name, t in self.latents.items()},
            history={name: t.to(device) for name, t in self.history.items()},
            spread=None if self.spread is None else self.spread.to(device),
        )


def converged_of(latents: Mapping[str, Tensor]) -> list[bool] | None:
    """Return for each of N images whether every attempt behind it met the measurements within the method's tolerance.

    Args:
        latents: Of an inversion.

    Returns:
        None for methods without a tolerance: all but PULSE.
    """
    if CONVERGED not in latents:
        return None
    found: list[bool] = latents[CONVERGED].all(0).tolist()
    return found


def render(generator: LayeredGenerator, latents: dict[str, Tensor], chunk: int = DEFAULT_CHUNK) -> Tensor:
    """Return the pictures [N, 3, R, R] in [0, 1], clamped, of :attr:`Inversion.latents`.

    It needs a generator whose style rows and noise maps each act on one side of a cut, as those of this project do.

    Args:
        generator: The one that was inverted.
        latents: Of one of the inverters.
        chunk: Rows of codes that run at a time, where pictures have several codes.
    """
    return render_restarts(generator, latents, chunk).mean(0)


@torch.no_grad()
def render_restarts(generator: LayeredGenerator, latents: dict[str, Tensor], chunk: int = DEFAULT_CHUNK) -> Tensor:
    """Return the pictures [S, N, 3, R, R] whose mean :func:`render` returns; its arguments."""
    # Copies: a matrix product's last bits depend on where in memory its factors begin.
    with generator.computing_in(None):
        pictures = [
            to_unit(_picture(generator, {name: t[s].clone() for name, t in latents.items()}, chunk)).clamp(0, 1)
            for s in range(len(latents["ws"]))
        ]
    return torch.stack(pictures)


def _picture(generator: LayeredGenerator, latents: dict[str, Tensor], chunk: int) -> Tensor:
    noise = [latents[f"noise_{i}"] for i in range(len(generator.noise_shapes()))]
    if "alpha" in latents:
        cut = int(latents["cut"][0])
        return picture_of_codes(generator, latents["ws"], latents["alpha"], noise, cut, chunk)
    z1 = {int(name.removeprefix("z1_")): t for name, t in latents.items() if name.startswith("z1_")}
    picture: Tensor = generator(latents["ws"], noise, z1)
    return picture + latents["nu"] if "nu" in latents else picture


def join_batches(parts: Sequence[Inversion], seconds: float) -> Inversion:
    """Put the images of several inversions one after the other."""
    return Inversion(
        x=torch.cat([p.x for p in parts]),
        rounds=torch.cat([p.rounds for p in parts], dim=1),
        score=torch.cat([p.score for p in parts]),
        latents={name: torch.cat([p.latents[name] for p in parts], dim=1) for name in parts[0].latents},
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
        latents={n: torch.cat([a.latents[n] for a in attempts])[chosen, images][None] for n in attempts[0].latents},
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
        latents={n: torch.cat([a.latents[n] for a in attempts]) for n in attempts[0].latents},
        history={n: torch.stack([a.history[n] for a in attempts]).mean(0) for n in attempts[0].history},
        status=["diverged" if i in diverged else "ok" for i in range(len(attempts[0].status))],
        seconds=sum(a.seconds for a in attempts),
        spread=pictures.std(0) if len(attempts) > 1 else None,
    )
