"""ILO as its published code computes it, on the networks of :mod:`benchmarks.peer_style`: a reference for speed.

Like that code, and unlike :mod:`ilo`, a step

    computes gradients of all weights behind the cut, which are not frozen, and adds them up unused
    measures the observed pictures again, with a complex FFT of pictures and filter each
    compares all style rows (geodesic) and runs the perceptual network on both pictures anew
    rescales the latents and *all* noise maps to their norms, one after the other
    waits for the device twice, for the progress bar's text and to see whether the error is the lowest so far,
        and copies the picture to the CPU if so

A round k >= 1 runs the network from cut k only, as there; images are a batch; rate, optimiser, schedule and which noise
maps move are the published ones. Two things are ours: the picture accumulated before a cut is kept (the published code
loses it, which saves one upsampling of three channels), and pictures are compared at their own size, without its
filters from 1024 px. No bar is drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.peer_style import PeerGenerator
from rtil import seeds
from rtil.generators.base import State
from rtil.inverse.latent_space import LatentSpace, noise_maps
from rtil.inverse.operators.circulant import PartialCirculant
from rtil.inverse.schedules import Ramp

LR = 0.1
MSE_WEIGHT, PERCEPTUAL_WEIGHT, GEODESIC_WEIGHT = 1.0, 1.0, 0.01

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Of pictures [N, 3, R, R] in [-1, 1] and latents [N, L, D]: what is minimised, and the squared error in it."""


@dataclass(frozen=True)
class Sensing:
    """A partial circulant operator, as tensors.

    Attributes:
        filter: [n].
        signs: [n], 1 or -1.
        rows: [m], which measurements are kept.
    """

    filter: Tensor
    signs: Tensor
    rows: Tensor

    @classmethod
    def of(cls, operator: PartialCirculant) -> "Sensing":
        """Return those of an operator."""
        spectrum = torch.view_as_complex(operator.spectrum)
        return cls(torch.fft.irfft(spectrum, n=operator.n), operator.signs, operator.rows)

    def measure(self, x: Tensor) -> Tensor:
        """Map pictures [N, 3, R, R] to [N, m]."""
        spectrum = torch.fft.fft((x.flatten(1) * self.signs).to(torch.complex64))
        product = spectrum * torch.fft.fft(self.filter.to(torch.complex64))
        return torch.fft.ifft(product).real[:, self.rows]


def compressed_sensing_loss(operator: PartialCirculant, observed: Tensor) -> Loss:
    """Return the squared error of the measurements, alone.

    Args:
        operator: The operator.
        observed: The pictures that were measured, [N, 3, R, R] in [-1, 1].
    """
    sensing = Sensing.of(operator)

    def loss(picture: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        mse = F.mse_loss(sensing.measure(picture), sensing.measure(observed))
        return mse, mse

    return loss


def inpainting_loss(mask: Tensor, observed: Tensor, perceptual: Callable[[Tensor, Tensor], Tensor] | None) -> Loss:
    """Return squared error, geodesic and LPIPS in mode ``fill``.

    Args:
        mask: [3, R, R], 1 where a pixel is observed.
        observed: [N, 3, R, R] in [-1, 1], 0 where it is not.
        perceptual: LPIPS of two pictures in [-1, 1]; None without.
    """

    def loss(picture: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        mse = F.mse_loss(picture * mask, observed)
        total = MSE_WEIGHT * mse + GEODESIC_WEIGHT * all_pairs_geodesic(latents)
        if perceptual is not None:
            filled = mask * observed + (1 - mask) * picture
            total = total + PERCEPTUAL_WEIGHT * perceptual(picture, filled).mean()
        return total, mse

    return loss


def all_pairs_geodesic(v: Tensor) -> Tensor:
    """Return the mean squared great-circle distance over all L x L pairs of rows of v [N, L, D]."""
    a, b = v[:, None], v[:, :, None]
    minus = ((a - b).square().sum(-1) + 1e-9).sqrt()
    plus = ((a + b).square().sum(-1) + 1e-9).sqrt()
    d = 2 * torch.atan2(minus, plus)
    return (d.square() * 512 / 8).mean()


def invert(
    generator: PeerGenerator,
    latents: LatentSpace,
    loss: Loss,
    images: int,
    steps: Sequence[int],
    on_step: Callable[[int, int], Any],
    seed: int = 0,
) -> Tensor:
    """Run the rounds of ILO on a batch and return its pictures, [N, 3, R, R] in [-1, 1], on the CPU.

    Args:
        generator: The prior.
        latents: Its input space.
        loss: What is minimised.
        images: N.
        steps: Of the rounds at the input and at cuts 1, 2, ...
        on_step: Called with (round, step) before each step, and with (round, steps) behind the last.
        seed: Root seed of the start.
    """
    rng = seeds.generator(seed, "benchmark/peer-start")
    v = torch.randn(images, latents.rows, latents.dim, generator=rng).to(generator.device).requires_grad_()
    noise = generator.draw_noise(images, rng)
    state: State | None = None
    best = torch.zeros(0)
    for k, count in enumerate(steps):
        if k:
            with torch.no_grad():
                state = generator.advance(state, latents.ws(v), noise, k - 1, k)
        feature = None if state is None else state.feature.requires_grad_()
        moving = noise_maps("5+2k", generator, k)
        for i, t in enumerate(noise):
            t.requires_grad_(i in moving)
        held = [v, *noise]
        norms = [_norm(t).detach() for t in held]
        stepper = torch.optim.Adam([*held, *([] if feature is None else [feature])], lr=LR, foreach=False)
        lowest = torch.full((), torch.inf, device=generator.device)
        for step in range(count):
            on_step(k, step)
            stepper.param_groups[0]["lr"] = LR * Ramp().factor(step / count)
            ws = latents.ws(v)
            picture = generator.finish(generator.advance(state, ws, noise, k, generator.num_blocks), ws)
            total, mse = loss(picture, v)
            stepper.zero_grad()
            total.backward()
            stepper.step()
            with torch.no_grad():
                for t, norm in zip(held, norms, strict=True):
                    t.div_(_norm(t)).mul_(norm)
            if mse < lowest:  # waits for the device
                lowest = mse.detach()
                best = picture.detach().cpu()
            mse.item()  # the bar's text, which waits for the device
        on_step(k, count)
    return best


def _norm(t: Tensor) -> Tensor:
    return t.square().sum(tuple(range(2, t.ndim)), keepdim=True).add(1e-9).sqrt()
